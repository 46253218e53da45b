use std::{collections::VecDeque, ops::Range};

use logitfuse_core::{Detokenize, Detokenizer, Result, TextDelta, TokenId};

use crate::{StopStrings, TextStream, Tokenizer};

/// The [`Detokenizer`] of a [`Tokenizer`]: a [`TextStream`] without control tokens, which ends at a stop string.
///
/// Stop strings are looked for in the text *with* control tokens, since many are control tokens (`<|im_end|>`) or hold one.
///
/// ```
/// use logitfuse_text::{OutputText, Tokenizer};
///
/// let tokenizer = Tokenizer::from_json(
///     r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "one": 1, "two": 2, "three": 3}},
///         "added_tokens": [{"id": 4, "content": "<end>", "special": true, "single_word": false, "lstrip": false,
///                           "rstrip": false, "normalized": false}]}"#,
/// )?;
/// let mut output = OutputText::new(&tokenizer, &["two th".to_owned()]);
/// assert_eq!(output.push(1)?.text, "one");
/// // "two" may be the beginning of the stop string, so it waits.
/// assert_eq!(output.push(2)?.text, " ");
/// let end = output.push(3)?;
/// assert_eq!((end.text.as_str(), end.stopped.as_deref()), ("", Some("two th")));
///
/// let mut output = OutputText::new(&tokenizer, &["<end>".to_owned()]);
/// assert_eq!(output.push(1)?.text, "one");
/// let end = output.push(4)?;
/// assert_eq!((end.text.as_str(), end.stopped.as_deref()), ("", Some("<end>")));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct OutputText {
    tokenizer: Tokenizer,
    stream: TextStream,
    stops: StopStrings,
    /// Text that is shown unless it turns out to belong to a stop string.
    waiting: String,
    /// The text with control tokens, from the first of them on. Before, it is the text.
    with_controls: Option<WithControls>,
    stopped: bool,
}

/// The text as the stop strings see it once it has control tokens.
#[derive(Clone)]
struct WithControls {
    stream: TextStream,
    /// Control tokens whose text has not come out yet: some decoders hold one token back.
    expected: VecDeque<String>,
}

impl OutputText {
    /// An empty text that ends before the first of `stops`. Empty stop strings are ignored.
    pub fn new(tokenizer: &Tokenizer, stops: &[String]) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            stream: TextStream::new(tokenizer, true),
            stops: StopStrings::new(stops),
            waiting: String::new(),
            with_controls: None,
            stopped: false,
        }
    }

    /// Takes the next token.
    pub fn push(&mut self, token: TokenId) -> Result<TextDelta> {
        if self.stopped {
            return Ok(TextDelta::default());
        }
        let control = self.tokenizer.hidden(token).filter(|_| !self.stops.is_empty());
        if control.is_some() && self.with_controls.is_none() {
            let stream = self.stream.with_special();
            self.with_controls = Some(WithControls { stream, expected: VecDeque::new() });
        }
        let text = self.stream.push(token)?;
        self.waiting.push_str(&text);
        let found = match &mut self.with_controls {
            None => self.stops.advance(&text, &[]),
            Some(seen) => {
                // A control token ends what the decoder held; otherwise a space before it is the decoder's own.
                let alone = control.is_some() && self.stream.clone().finish()?.is_empty();
                seen.expected.extend(control.clone());
                let text = seen.stream.push(token)?;
                let hidden = seen.hidden(&text, alone);
                self.stops.advance(&text, &hidden)
            }
        };
        if found.stop.is_some() {
            self.stopped = true;
            if control.is_some() {
                // Nothing follows that could complete a character.
                self.waiting.push_str(&self.stream.clone().finish()?);
            }
        }
        Ok(TextDelta::new(self.show(found.after), found.stop))
    }

    /// Takes all of the waiting text out but so many bytes at its end, and those too if the text ends here.
    fn show(&mut self, after: usize) -> String {
        let mut cut = self.waiting.len().saturating_sub(after);
        while !self.waiting.is_char_boundary(cut) {
            cut -= 1;
        }
        let rest = if self.stopped { String::new() } else { self.waiting.split_off(cut) };
        self.waiting.truncate(cut);
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Ends the text and returns what was held back; nothing if a stop string ended it before.
    pub fn finish(mut self) -> Result<String> {
        if self.stopped {
            return Ok(String::new());
        }
        // What the streams held may yet complete a stop string; then the text is cut there as well.
        let text = self.stream.clone().finish()?;
        self.waiting.push_str(&text);
        let found = match self.with_controls.take() {
            None => self.stops.advance(&text, &[]),
            Some(mut seen) => {
                let text = seen.stream.clone().finish()?;
                let hidden = seen.hidden(&text, false);
                self.stops.advance(&text, &hidden)
            }
        };
        self.stopped = found.stop.is_some();
        Ok(self.show(if self.stopped { found.after } else { 0 }))
    }
}

impl WithControls {
    /// Where control tokens stand in new text. `alone`: nothing else comes before the one that was just taken.
    fn hidden(&mut self, text: &str, alone: bool) -> Vec<Range<usize>> {
        let mut hidden = Vec::new();
        let mut from = 0;
        self.expected.retain(|control| {
            let Some(start) = text[from..].find(control.as_str()).map(|at| from + at) else { return true };
            let end = start + control.len();
            hidden.push(if alone { from..end } else { start..end });
            from = end;
            false
        });
        if alone && hidden.is_empty() && !text.is_empty() {
            // The decoder wrote it in another way.
            self.expected.pop_front();
            hidden.push(0..text.len());
        }
        hidden
    }
}

impl Detokenizer for OutputText {
    fn push(&mut self, token: TokenId) -> Result<TextDelta> {
        Self::push(self, token)
    }

    fn finish(self: Box<Self>) -> Result<String> {
        Self::finish(*self)
    }

    fn fork(&self) -> Box<dyn Detokenizer> {
        Box::new(self.clone())
    }

    fn has_stops(&self) -> bool {
        !self.stops.is_empty()
    }
}

/// How generated tokens become text: what starts an [`OutputText`] for each sequence.
///
/// ```
/// use logitfuse_core::Detokenize;
/// use logitfuse_text::{DetokenizeOptions, Tokenizer};
///
/// let tokenizer = Tokenizer::from_json(
///     r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "yes": 1, "no": 2}}}"#,
/// )?;
/// let mut output = DetokenizeOptions::new(tokenizer).with_stop(["no"]).start();
/// assert_eq!(output.push(1)?.text, "yes");
/// assert_eq!(output.push(2)?.stopped.as_deref(), Some("no"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DetokenizeOptions {
    /// The tokenizer that all sources share, as the [`CompatibilityReport`](crate::CompatibilityReport) established.
    pub tokenizer: Tokenizer,
    /// Strings that end the text where they first appear, control tokens included; they are not part of it. Empty strings are
    /// ignored.
    pub stop: Vec<String>,
}

impl DetokenizeOptions {
    /// Options without stop strings.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, stop: Vec::new() }
    }

    /// Sets the stop strings.
    #[must_use]
    pub fn with_stop(mut self, stop: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }
}

impl Detokenize for DetokenizeOptions {
    fn start(&self) -> Box<dyn Detokenizer> {
        Box::new(OutputText::new(&self.tokenizer, &self.stop))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    #[test]
    fn a_stop_string_is_found_across_tokens_and_inside_one() {
        let tokenizer = testing::byte_level();
        for stop in ["at s", "🙂", "cat", "e"] {
            let text = "the cat sat 🙂 on the mat";
            let mut output = OutputText::new(&tokenizer, &[stop.to_owned()]);
            let mut shown = String::new();
            let mut stopped = None;
            for id in tokenizer.encode(text, false).unwrap() {
                let delta = output.push(id).unwrap();
                shown += &delta.text;
                stopped = stopped.or(delta.stopped);
            }
            assert_eq!(output.finish().unwrap(), "");
            assert_eq!((shown.as_str(), stopped.as_deref()), (text.split_once(stop).unwrap().0, Some(stop)));
        }
    }

    /// What is shown of these tokens, and what ended it.
    fn shown(tokenizer: &Tokenizer, ids: &[TokenId], stops: &[&str]) -> (String, Option<String>) {
        let mut output = OutputText::new(tokenizer, &stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut text = String::new();
        for &id in ids {
            let delta = output.push(id).unwrap();
            text += &delta.text;
            if delta.stopped.is_some() {
                return (text, delta.stopped);
            }
        }
        (text + &output.finish().unwrap(), None)
    }

    #[test]
    fn control_tokens_end_a_text_alone_and_with_text_around_them() {
        let tokenizer = testing::byte_level();
        let ids = tokenizer.encode("<|im_start|>the cat<|im_end|>\nsat<|im_end|>", false).unwrap();
        for (stop, text) in [
            ("<|im_end|>", "the cat"),
            ("cat<|im_end|>", "the "),
            ("<|im_end|>\ns", "the cat"),
            ("t<|im_end|>\n", "the ca"),
            ("t<|im_", "the ca"),
            ("im_end", "the cat"),
            ("<|im_start|>", ""),
            ("sat<|im_end|>", "the cat\n"),
            ("<|im_start|>the cat<|im_end|>\nsat<|im_end|>", ""),
        ] {
            assert_eq!(shown(&tokenizer, &ids, &[stop]), (text.to_owned(), Some(stop.to_owned())), "{stop}");
        }
        for stop in ["<|im_start|><|im_end|>", "cat\n", "<|endoftext|>", "the cat<|im_end|>sat"] {
            assert_eq!(shown(&tokenizer, &ids, &[stop]), ("the cat\nsat".to_owned(), None), "{stop}");
        }
        // The first that is complete, whichever kind it is of.
        assert_eq!(shown(&tokenizer, &ids, &["sat", "<|im_end|>", "at"]), ("the c".to_owned(), Some("at".to_owned())));
    }

    #[test]
    fn a_control_token_spelled_out_ends_a_text_too() {
        let tokenizer = testing::byte_level();
        let ids: Vec<_> = "cat<|im_end|>".bytes().map(|byte| testing::byte_id(&tokenizer, byte).unwrap()).collect();
        assert_eq!(shown(&tokenizer, &ids, &["<|im_end|>"]), ("cat".to_owned(), Some("<|im_end|>".to_owned())));
    }

    #[test]
    fn what_a_decoder_holds_belongs_before_the_control_token() {
        let tokenizer = testing::byte_fallback();
        let run: Vec<_> = "日".bytes().map(|byte| testing::byte_id(&tokenizer, byte).unwrap()).collect();
        let end = tokenizer.id("</s>").unwrap();
        let ids =
            [tokenizer.encode("the", false).unwrap(), run.clone(), vec![end], tokenizer.encode("cat", false).unwrap()];
        let ids = ids.concat();
        assert_eq!(shown(&tokenizer, &ids, &["</s>"]), ("the日".to_owned(), Some("</s>".to_owned())));
        assert_eq!(shown(&tokenizer, &ids, &["日</s>"]), ("the".to_owned(), Some("日</s>".to_owned())));
        assert_eq!(shown(&tokenizer, &ids, &["e日</s> c"]), ("th".to_owned(), Some("e日</s> c".to_owned())));
        assert_eq!(shown(&tokenizer, &ids, &["x"]).0, tokenizer.decode(&ids, true).unwrap());

        let tokenizer =
            Tokenizer::from_json(&testing::words_json(&[("?", 0), ("a", 1), ("b", 2)], &[("<s>", 3)])).unwrap();
        assert_eq!(shown(&tokenizer, &[3, 1, 2, 3, 1], &["a b <s>"]), (String::new(), Some("a b <s>".to_owned())));
        assert_eq!(shown(&tokenizer, &[1, 2, 3, 1], &["b <s>"]), ("a ".to_owned(), Some("b <s>".to_owned())));
        assert_eq!(shown(&tokenizer, &[1, 2, 3, 1], &["<s> a"]), ("a b".to_owned(), Some("<s> a".to_owned())));
    }

    proptest! {
        #[test]
        fn without_a_match_the_text_is_what_decoding_gives(
            ids in prop::collection::vec(any::<u16>(), 0..30), stop in "(</?s>|<|im|end|t){2,6}@",
        ) {
            for (name, tokenizer) in testing::all() {
                let ids: Vec<_> = ids.iter().map(|&i| u32::from(i) % u32::try_from(tokenizer.size()).unwrap()).collect();
                // No text of theirs has this sign, so it never matches; its beginning does.
                let stop = stop.replace('@', "\u{e000}");
                let (text, stopped) = shown(tokenizer, &ids, &[&stop]);
                prop_assert_eq!(stopped, None);
                prop_assert_eq!(text, tokenizer.decode(&ids, true).unwrap(), "{}", name);
            }
        }

        #[test]
        fn a_control_token_ends_a_text_where_it_stands(ids in prop::collection::vec(any::<u16>(), 0..30)) {
            for (name, tokenizer) in testing::all() {
                let Some(end) = tokenizer.special_ids().last() else { continue };
                let control = tokenizer.token(end).unwrap();
                let ids: Vec<_> = ids.iter().map(|&i| u32::from(i) % u32::try_from(tokenizer.size()).unwrap()).collect();
                let before = ids.iter().position(|&id| id == end).unwrap_or(ids.len());
                // Decoders that say nothing before the end find it at the end, and one that writes it otherwise does not.
                if tokenizer.decode(&[end], false).unwrap() != control || tokenizer.decode(&ids[..before], false).unwrap().contains(&control) {
                    continue;
                }
                let mut with_end = ids[..before].to_vec();
                with_end.push(end);
                let (text, _) = shown(tokenizer, &with_end, &[&control]);
                prop_assert_eq!(text, tokenizer.decode(&ids[..before], true).unwrap(), "{}", name);
            }
        }
    }

    #[test]
    fn a_fork_continues_by_itself() {
        let tokenizer = testing::byte_level();
        let options = DetokenizeOptions::new(tokenizer.clone()).with_stop(["sat"]);
        let [cat, sat] = ["the cat s", "at on"].map(|text| tokenizer.encode(text, false).unwrap());
        let mut output = options.start();
        assert!(output.has_stops() && !DetokenizeOptions::new(tokenizer).with_stop([""]).start().has_stops());
        let mut shown = String::new();
        for &id in &cat {
            shown += &output.push(id).unwrap().text;
        }
        assert_eq!(shown, "the cat ");
        let mut draft = output.fork();
        let stopped = sat.iter().find_map(|&id| draft.push(id).unwrap().stopped);
        assert_eq!(stopped.as_deref(), Some("sat"));
        assert_eq!((draft.finish().unwrap(), output.finish().unwrap()), (String::new(), "s".to_owned()));
    }

    #[test]
    fn what_was_held_comes_out_at_the_end() {
        let tokenizer = testing::byte_level();
        let mut output = OutputText::new(&tokenizer, &["the cat sat".to_owned()]);
        let mut shown = String::new();
        for id in tokenizer.encode("so the cat", false).unwrap() {
            shown += &output.push(id).unwrap().text;
        }
        assert_eq!(shown, "so ");
        assert_eq!(output.finish().unwrap(), "the cat");
    }

    #[test]
    fn a_stop_string_that_only_the_end_completes_still_cuts() {
        let tokenizer = testing::byte_fallback();
        let mut output = OutputText::new(&tokenizer, &["日".to_owned()]);
        let mut shown = String::new();
        for id in tokenizer.encode("the", false).unwrap() {
            shown += &output.push(id).unwrap().text;
        }
        // The run of byte tokens waits for its end, which is the end of the text.
        for byte in "日".bytes() {
            assert_eq!(output.push(testing::byte_id(&tokenizer, byte).unwrap()).unwrap(), TextDelta::default());
        }
        assert_eq!((shown + &output.finish().unwrap()).as_str(), "the");
    }
}

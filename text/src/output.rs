use logitfuse_core::{Detokenize, Detokenizer, Result, TextDelta, TokenId};

use crate::{StopStrings, TextStream, Tokenizer};

/// The [`Detokenizer`] of a [`Tokenizer`]: a [`TextStream`] without control tokens, whose text runs through
/// [`StopStrings`].
///
/// ```
/// use logitfuse_text::{OutputText, Tokenizer};
///
/// let tokenizer = Tokenizer::from_json(
///     r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "one": 1, "two": 2, "three": 3}}}"#,
/// )?;
/// let mut output = OutputText::new(&tokenizer, &["two th".to_owned()]);
/// assert_eq!(output.push(1)?.text, "one");
/// // "two" may be the beginning of the stop string, so it waits.
/// assert_eq!(output.push(2)?.text, " ");
/// let end = output.push(3)?;
/// assert_eq!((end.text.as_str(), end.stopped.as_deref()), ("", Some("two th")));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct OutputText {
    stream: TextStream,
    stops: StopStrings,
}

impl OutputText {
    /// An empty text that ends before the first of `stops`. Empty stop strings are ignored.
    pub fn new(tokenizer: &Tokenizer, stops: &[String]) -> Self {
        Self { stream: TextStream::new(tokenizer, true), stops: StopStrings::new(stops) }
    }

    /// Takes the next token.
    pub fn push(&mut self, token: TokenId) -> Result<TextDelta> {
        let (text, stopped) = self.stops.push(&self.stream.push(token)?);
        Ok(TextDelta::new(text, stopped))
    }

    /// Ends the text and returns what was held back; nothing if a stop string ended it before.
    pub fn finish(mut self) -> Result<String> {
        // What the stream held may yet complete a stop string; then the text is cut there as well.
        let (mut text, stopped) = self.stops.push(&self.stream.finish()?);
        if stopped.is_none() {
            text.push_str(&self.stops.finish());
        }
        Ok(text)
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
    /// Strings that end the text where they first appear; they are not part of it. Empty strings are ignored.
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

//! The text of every token of a sequence, so that the texts joined are the sequence's.
//!
//! A token's own text is not enough: a character may be several tokens, some decoders drop the first space, and a stop string
//! cuts the text in the middle of a token. So tokens wait here until their part of the text is shown.

use std::collections::VecDeque;

use logitfuse::{
    Result, TokenId,
    text::{TextStream, Tokenizer},
};

/// Tokens with what is known of them, until their text is shown.
pub(crate) struct TokenTexts<T> {
    stream: Option<TextStream>,
    waiting: VecDeque<(T, String)>,
    /// Bytes of the text that were shown and belong to no token yet.
    shown: usize,
}

impl<T> TokenTexts<T> {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        Self { stream: Some(TextStream::new(tokenizer, true)), waiting: VecDeque::new(), shown: 0 }
    }

    /// Adds the next token; `is_text` is false of one that ends the text and is no part of it.
    pub(crate) fn push(&mut self, token: TokenId, is_text: bool, known: T) -> Result<()> {
        let text = match &mut self.stream {
            Some(stream) if is_text => stream.push(token)?,
            _ => String::new(),
        };
        self.waiting.push_back((known, text));
        Ok(())
    }

    /// Takes the tokens whose text is shown, now that so many bytes more are.
    pub(crate) fn show(&mut self, bytes: usize) -> Vec<(T, String)> {
        self.shown += bytes;
        let mut ready = Vec::new();
        while let Some((_, text)) = self.waiting.front()
            && text.len() <= self.shown
            // The last one may yet be given what is left of a character.
            && !(text.is_empty() && self.waiting.len() == 1 && self.stream.is_some())
        {
            self.shown -= text.len();
            ready.extend(self.waiting.pop_front());
        }
        ready
    }

    /// Takes the rest, now that so many bytes more are shown and nothing follows: what a stop string cut off is no token's.
    pub(crate) fn finish(&mut self, bytes: usize) -> Result<Vec<(T, String)>> {
        if let (Some((_, text)), Some(stream)) = (self.waiting.back_mut(), self.stream.take()) {
            text.push_str(&stream.finish()?);
        }
        let mut ready = self.show(bytes);
        while let Some((known, mut text)) = self.waiting.pop_front() {
            let cut = text.floor_char_boundary(self.shown);
            text.truncate(cut);
            self.shown -= cut;
            ready.push((known, text));
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &str = r#"{"model": {"type": "BPE", "vocab": {"Ġhi": 0, "ðŁ": 1, "Ļ": 2, "Ĥ": 3, "ab": 4, "cd": 5}, "merges": []},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}}"#;

    fn texts() -> TokenTexts<u32> {
        TokenTexts::new(&Tokenizer::from_json(BYTES).unwrap())
    }

    #[test]
    fn a_character_belongs_to_the_token_that_completes_it() {
        let mut texts = texts();
        for token in [0, 1, 2, 3] {
            texts.push(token, true, token).unwrap();
        }
        assert_eq!(texts.show(3), [(0, " hi".to_owned()), (1, String::new()), (2, String::new())]);
        assert_eq!(texts.show(4), [(3, "🙂".to_owned())]);
        assert_eq!(texts.finish(0).unwrap(), []);
    }

    #[test]
    fn what_a_stop_string_cuts_off_is_no_tokens() {
        let mut texts = texts();
        texts.push(4, true, 4).unwrap();
        assert_eq!(texts.show(1), []);
        texts.push(5, true, 5).unwrap();
        assert_eq!(texts.finish(0).unwrap(), [(4, "a".to_owned()), (5, String::new())]);
    }

    #[test]
    fn a_token_that_ends_the_text_has_none() {
        let mut texts = texts();
        texts.push(4, true, 4).unwrap();
        texts.push(0, false, 0).unwrap();
        assert_eq!(texts.show(2), [(4, "ab".to_owned())]);
        assert_eq!(texts.finish(0).unwrap(), [(0, String::new())]);
    }

    #[test]
    fn a_character_that_was_never_completed_is_marked_where_it_was_begun() {
        let mut texts = texts();
        texts.push(4, true, 4).unwrap();
        texts.push(1, true, 1).unwrap();
        assert_eq!(texts.show(2), [(4, "ab".to_owned())]);
        assert_eq!(texts.finish(3).unwrap(), [(1, "\u{fffd}".to_owned())]);
    }
}

use logitfuse_core::{Result, TokenId};

use crate::{Tokenizer, decoding::IncrementalDecoder};

/// A streaming decoder. The deltas add up to exactly what [`Tokenizer::decode`] returns for all tokens at once, none ends
/// inside a character, and the cost of a token does not grow with the text.
///
/// Decoding token by token is not enough: one emoji may be three tokens, `SentencePiece` drops the space before the first
/// word but not before the others, and a run of byte tokens is text only if all of it is.
///
/// ```
/// use logitfuse_text::{TextStream, Tokenizer};
///
/// let tokenizer = Tokenizer::from_json(
///     r#"{"model": {"type": "BPE", "vocab": {"Ġhi": 0, "ðŁ": 1, "Ļ": 2, "Ĥ": 3}, "merges": []},
///         "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}}"#,
/// )?;
/// let mut stream = TextStream::new(&tokenizer, true);
/// assert_eq!(stream.push(0)?, " hi");
/// assert_eq!(stream.push(1)?, "");
/// assert_eq!(stream.push(2)?, "");
/// assert_eq!(stream.push(3)?, "🙂");
/// assert_eq!(stream.finish()?, "");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct TextStream {
    tokenizer: Tokenizer,
    decoder: IncrementalDecoder,
    skip_special: bool,
}

impl TextStream {
    /// A stream at its beginning. `skip_special` leaves control tokens out of the text.
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer: tokenizer.clone(), decoder: tokenizer.decoder().clone(), skip_special }
    }

    /// A stream that continues at the same place and leaves no control token out.
    pub(crate) fn with_special(&self) -> Self {
        Self { skip_special: false, ..self.clone() }
    }

    /// Takes the next token and returns the text that it completes; empty if it completes none, or if the tokenizer does
    /// not define the id.
    pub fn push(&mut self, token: TokenId) -> Result<String> {
        match self.tokenizer.visible(token, self.skip_special) {
            Some(token) => self.decoder.push(token).map_err(|e| e.context(self.tokenizer.origin())),
            None => Ok(String::new()),
        }
    }

    /// Ends the text and returns what was held back. A character that was never completed comes out as U+FFFD.
    pub fn finish(self) -> Result<String> {
        self.decoder.finish().map_err(|e| e.context(self.tokenizer.origin()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    /// The pieces of a text, the last of them from `finish`.
    fn pieces(tokenizer: &Tokenizer, ids: &[TokenId], skip_special: bool) -> Vec<String> {
        let mut stream = TextStream::new(tokenizer, skip_special);
        let mut pieces: Vec<_> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    proptest! {
        #[test]
        fn any_tokens_stream_to_what_they_decode_to(
            ids in prop::collection::vec(any::<u16>(), 0..40), skip_special: bool,
        ) {
            for (name, tokenizer) in testing::all() {
                // One id in a while lies beyond the end.
                let ids: Vec<_> = ids.iter().map(|&i| u32::from(i) % (u32::try_from(tokenizer.size()).unwrap() + 3)).collect();
                let whole = tokenizer.decode(&ids, skip_special).unwrap();
                prop_assert_eq!(pieces(tokenizer, &ids, skip_special).concat(), whole, "{}", name);
            }
        }

        #[test]
        fn any_bytes_stream_to_what_they_decode_to(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            for (name, tokenizer) in testing::all() {
                let ids: Vec<_> = bytes.iter().filter_map(|&byte| testing::byte_id(tokenizer, byte)).collect();
                let whole = tokenizer.decode(&ids, true).unwrap();
                prop_assert_eq!(pieces(tokenizer, &ids, true).concat(), whole, "{}", name);
            }
        }

        #[test]
        fn any_text_streams_back_without_a_replacement_character(text in "([a-z ]|[À-ÿ]|[一-龥]|[😀-🙏]|\u{200d}){0,30}") {
            for (name, tokenizer) in testing::all_bytes() {
                let ids = tokenizer.encode(&text, false).unwrap();
                let pieces = pieces(tokenizer, &ids, true);
                prop_assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{}: {:?}", name, pieces);
                prop_assert_eq!(pieces.concat(), text.as_str(), "{}", name);
            }
        }
    }

    #[test]
    fn a_real_replacement_character_is_not_held_back() {
        let tokenizer = testing::byte_level();
        let ids: Vec<_> = "\u{fffd}a".bytes().map(|byte| testing::byte_id(&tokenizer, byte).unwrap()).collect();
        assert_eq!(pieces(&tokenizer, &ids, true), ["", "", "\u{fffd}", "a", ""]);
    }

    #[test]
    fn a_character_cut_off_at_the_end_is_marked() {
        let tokenizer = testing::byte_level();
        let ids: Vec<_> = "🙂".bytes().take(3).map(|byte| testing::byte_id(&tokenizer, byte).unwrap()).collect();
        assert_eq!(pieces(&tokenizer, &ids, true), ["", "", "", "\u{fffd}"]);
    }

    #[test]
    fn the_space_before_the_first_word_is_dropped_once() {
        let tokenizer = testing::byte_fallback();
        let ids = tokenizer.encode("the cat", false).unwrap();
        assert_eq!(pieces(&tokenizer, &ids, true).concat(), "the cat");
        let twice = [ids.clone(), ids].concat();
        assert_eq!(pieces(&tokenizer, &twice, true).concat(), "the cat the cat");
    }

    #[test]
    fn one_bad_byte_spoils_its_run_as_in_the_library() {
        let tokenizer = testing::byte_fallback();
        let ids: Vec<_> = [0xe6, 0x97, 0xa5, 0xff].map(|byte| testing::byte_id(&tokenizer, byte).unwrap()).into();
        assert_eq!(pieces(&tokenizer, &ids, true).concat(), "\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
    }
}

use std::fmt::Debug;

use crate::{Result, TokenId};

/// The text that one token added to a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextDelta {
    /// The text to append to what was shown before; may be empty.
    pub text: String,
    /// The stop string that ends the text here. It is not part of `text`, and no text follows.
    pub stopped: Option<String>,
}

impl TextDelta {
    /// A delta with its text and, where the text ends, the stop string.
    pub fn new(text: String, stopped: Option<String>) -> Self {
        Self { text, stopped }
    }
}

/// The incremental detokenizer of one sequence: turns generated tokens into text, one token at a time.
///
/// The deltas add up to the text that detokenizing all tokens at once gives, cut off before the first stop string. None of
/// them has to be taken back: text that later tokens may still change (part of a character, the possible beginning of a
/// stop string) is held until it is certain.
pub trait Detokenizer: Send {
    /// Takes the next token. Returns the text that became certain with it, and the stop string if one is complete; after
    /// that all text is empty.
    ///
    /// # Errors
    /// If the tokenizer's decoder cannot decode the token.
    fn push(&mut self, token: TokenId) -> Result<TextDelta>;

    /// Ends the text. Returns what was held back; empty if a stop string ended the text before. Called once, after the
    /// last token.
    ///
    /// # Errors
    /// If the tokenizer's decoder cannot decode what was held back.
    fn finish(&mut self) -> Result<String>;

    /// An independent copy that continues at the same place. Speculative decoding pushes draft tokens into it.
    fn fork(&self) -> Box<dyn Detokenizer>;

    /// Whether the text can end at a stop string. If it cannot, a draft needs no detokenizing.
    fn has_stops(&self) -> bool;
}

/// Starts the [`Detokenizer`] of each sequence: the tokenizer and the stop strings, which sequences share and which do not
/// change.
///
/// ```
/// use logitfuse_core::{Detokenize, Detokenizer, Result, TextDelta, TokenId};
///
/// /// Tokens are Unicode scalar values.
/// #[derive(Clone, Debug)]
/// struct Chars;
///
/// impl Detokenizer for Chars {
///     fn push(&mut self, token: TokenId) -> Result<TextDelta> {
///         let c = char::from_u32(token).unwrap_or(char::REPLACEMENT_CHARACTER);
///         Ok(TextDelta::new(c.to_string(), None))
///     }
///     fn finish(&mut self) -> Result<String> {
///         Ok(String::new())
///     }
///     fn fork(&self) -> Box<dyn Detokenizer> {
///         Box::new(self.clone())
///     }
///     fn has_stops(&self) -> bool {
///         false
///     }
/// }
///
/// impl Detokenize for Chars {
///     fn start(&self) -> Box<dyn Detokenizer> {
///         self.fork()
///     }
/// }
///
/// assert_eq!(Chars.start().push(0x1f642)?.text, "🙂");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub trait Detokenize: Send + Sync + Debug {
    /// A detokenizer before the first generated token.
    fn start(&self) -> Box<dyn Detokenizer>;
}

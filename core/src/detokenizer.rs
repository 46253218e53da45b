use std::fmt::Debug;

use crate::{Result, TokenId};

/// Text that became final with a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextDelta {
    /// The text; may be empty, or longer than the token.
    pub text: String,
    /// The stop string that ends the text here, if one appeared; it is not part of the text.
    pub stopped: Option<String>,
}

impl TextDelta {
    /// A delta with its text and, where the text ends, the stop string.
    pub fn new(text: String, stopped: Option<String>) -> Self {
        Self { text, stopped }
    }
}

/// The detokenizer of one sequence: turns generated tokens into text, one token at a time.
///
/// The deltas and what [`finish`](Self::finish) returns add up to the text of all tokens. Text that may still change with the
/// next token is held back: part of a character, the beginning of a stop string.
pub trait Detokenizer: Send {
    /// Adds a token. After a stop string all further text is empty.
    ///
    /// # Errors
    /// If the tokenizer's decoder cannot decode the token.
    fn push(&mut self, token: TokenId) -> Result<TextDelta>;

    /// Ends the text and returns what was held back; empty if a stop string ended it before.
    ///
    /// # Errors
    /// If the tokenizer's decoder cannot decode what was held back.
    fn finish(self: Box<Self>) -> Result<String>;

    /// An independent copy that continues at the same place. Speculative decoding pushes draft tokens into it.
    fn fork(&self) -> Box<dyn Detokenizer>;

    /// Whether a stop string may end the text. If none may, a draft needs no detokenizing.
    fn has_stops(&self) -> bool;
}

/// Starts the [`Detokenizer`] of each sequence; immutable and shared.
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
///     fn finish(self: Box<Self>) -> Result<String> {
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
pub trait Detokenize: Debug + Send + Sync {
    /// A detokenizer that has seen no token.
    fn start(&self) -> Box<dyn Detokenizer>;
}

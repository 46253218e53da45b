use std::fmt::Debug;

use crate::{Result, TokenId};

/// Text that became final with a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextDelta {
    /// The text; may be empty, or longer than the token.
    pub text: String,
    /// The stop string that ends the text here, if one appeared; it is not part of the text.
    pub stopped: Option<String>,
}

/// The detokenizer of one sequence: turns generated tokens into text, one token at a time.
///
/// The deltas and what [`finish`](Self::finish) returns add up to the text of all tokens. Text that may still change with the
/// next token is held back: part of a character, the beginning of a stop string.
pub trait Detokenizer: Send {
    /// Adds a token.
    fn push(&mut self, token: TokenId) -> Result<TextDelta>;

    /// Ends the text and returns what was held back.
    fn finish(self: Box<Self>) -> Result<String>;

    /// An independent copy, by which a draft is looked through.
    fn fork(&self) -> Box<dyn Detokenizer>;

    /// Whether a stop string may end the text.
    fn has_stops(&self) -> bool;
}

/// Starts the [`Detokenizer`] of each sequence; immutable and shared.
pub trait Detokenize: Debug + Send + Sync {
    /// A detokenizer that has seen no token.
    fn start(&self) -> Box<dyn Detokenizer>;
}

use std::sync::Arc;

use crate::{Interrupt, Result, Rows, TokenId};

/// Identifies one sequence of one source. Only valid for the source that returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// The description of a source, fixed before its first token.
///
/// ```
/// use logitfuse_core::SourceInfo;
///
/// let info = SourceInfo::new("toy", 32_000).with_context_length(4_096).with_end_of_sequence([2]);
/// assert_eq!((info.logit_width, info.context_length, info.chunk_tokens), (32_000, Some(4_096), 1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceInfo {
    /// A name for messages and reports.
    pub name: String,
    /// Entries of each row it yields. May exceed the tokenizer's size (padding) and differ between sources.
    pub logit_width: usize,
    /// Tokens that fit into one sequence, where the model has a limit that is known.
    pub context_length: Option<usize>,
    /// The ids that end a text, as the model's own configuration lists them; several are common.
    pub end_of_sequence: Vec<TokenId>,
    /// Bytes of key/value cache that one token of one sequence occupies; 0 if it keeps none.
    pub kv_bytes_per_token: u64,
    /// Tokens that are run at once when more are fed. A text that is fed in several calls gives the same bits as in one if
    /// the calls are cut at multiples of this; 1 if every cut does.
    pub chunk_tokens: usize,
}

impl SourceInfo {
    /// A source whose rows have `logit_width` entries: without a known context limit, end-of-sequence ids or cache, and with
    /// the same bits however a text is cut.
    pub fn new(name: impl Into<String>, logit_width: usize) -> Self {
        Self {
            name: name.into(),
            logit_width,
            context_length: None,
            end_of_sequence: Vec::new(),
            kv_bytes_per_token: 0,
            chunk_tokens: 1,
        }
    }

    /// Sets the tokens that fit into one sequence; `None` for no known limit.
    #[must_use]
    pub fn with_context_length(mut self, tokens: impl Into<Option<usize>>) -> Self {
        self.context_length = tokens.into();
        self
    }

    /// Sets the ids that end a text.
    #[must_use]
    pub fn with_end_of_sequence(mut self, ids: impl IntoIterator<Item = TokenId>) -> Self {
        self.end_of_sequence = ids.into_iter().collect();
        self
    }

    /// Sets the bytes of key/value cache of one token of one sequence.
    #[must_use]
    pub fn with_kv_bytes_per_token(mut self, bytes: u64) -> Self {
        self.kv_bytes_per_token = bytes;
        self
    }

    /// Sets the tokens that are run at once when more are fed.
    #[must_use]
    pub fn with_chunk_tokens(mut self, tokens: usize) -> Self {
        self.chunk_tokens = tokens;
        self
    }
}

/// One sequence's part of a [`LogitSource::forward`] call.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The sequence to extend.
    pub sequence: SequenceId,
    /// The tokens to append, one at least.
    pub tokens: &'a [TokenId],
    /// How many rows are wanted: those of the last `rows` of `tokens`. At most `tokens.len()`; 0 only fills the cache.
    pub rows: usize,
}

/// A source of next-token logits: a model with its key/value cache, a recording, a script.
///
/// Batch first, rows first: one token, a whole prompt, a draft to verify and a text to score are the same call.
/// Sequences are independent: what a row holds does not depend on which other sequences are in the batch.
///
/// A source is used from one thread at a time. It returns an error and leaves every sequence as it was, or succeeds
/// for the whole batch.
pub trait LogitSource: Send {
    /// Width, context, end-of-sequence ids.
    fn info(&self) -> &SourceInfo;

    /// Opens an empty sequence.
    fn open(&mut self) -> Result<SequenceId>;

    /// A new sequence that holds the same tokens as `of`.
    fn fork(&mut self, of: SequenceId) -> Result<SequenceId>;

    /// Forgets the tokens past the first `len`: rejected drafts, prefix reuse. A `len` past the end is an error.
    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()>;

    /// Releases a sequence. Closing what is not open does nothing.
    fn close(&mut self, sequence: SequenceId);

    /// The number of tokens that a sequence holds; `None` if it is not open.
    fn len(&self, sequence: SequenceId) -> Option<usize>;

    /// Announces that `sequence` will probably grow to `tokens` tokens in all, so that buffers can be sized once.
    fn reserve(&mut self, _sequence: SequenceId, _tokens: usize) -> Result<()> {
        Ok(())
    }

    /// What ends a [`forward`](Self::forward) that is under way, from another thread; `None` if nothing can.
    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        None
    }

    /// Appends each step's tokens to its sequence and writes the rows that were asked for: first those of the first
    /// step in order of position, then those of the second, and so on. A sequence appears at most once.
    ///
    /// Row `i` of a step holds the logits *after* its `tokens[tokens.len() - rows + i]`. Entries may be `-inf`, never
    /// NaN or `+inf`.
    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()>;
}

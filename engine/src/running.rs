//! What is known of a request while it is decoded.

use logitfuse_text::OutputText;
use smallvec::SmallVec;

use crate::{Drafted, FinishReason, Request, Sampler, pace::Pace, sequence::Sequence};

/// Sequences that run side by side, by index; more than these need memory of their own.
pub(crate) type Few = SmallVec<[usize; 16]>;

/// A request on its way.
pub(crate) struct Running {
    /// Its number among the requests of the call.
    pub(crate) index: usize,
    pub(crate) request: Request,
    pub(crate) sequence: Sequence,
    pub(crate) sampler: Sampler,
    pub(crate) output: Option<OutputText>,
    pub(crate) text: String,
    pub(crate) log_prob: f64,
    pub(crate) finish: Option<FinishReason>,
    /// How much is drafted.
    pub(crate) pace: Pace,
    /// What is drafted.
    pub(crate) draft: Vec<Drafted>,
    /// Whether the text ends with it, if it stands.
    pub(crate) draft_ends: bool,
}

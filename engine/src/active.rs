//! What is known of a request while it is decoded.

use logitfuse_core::{Detokenizer, Error, ErrorKind, FusionState};
use smallvec::SmallVec;

use crate::{
    Cancel, Drafted, FinishReason, Fusion, Sampler, Score, ScoreRequest, Timings, draft::scheduler::DraftScheduler,
    sequence::Sequence,
};

/// Sequences that run side by side, by index; more than these need memory of their own.
pub(crate) type IndexVec = SmallVec<[usize; 16]>;

/// A request on its way.
pub(crate) struct ActiveSequence {
    /// Its number among the requests of the call.
    pub(crate) index: usize,
    pub(crate) fusion: Fusion,
    pub(crate) sequence: Sequence,
    pub(crate) task: Task,
    /// Where its time went.
    pub(crate) timings: Timings,
    /// Tokens that were committed or scored in this step.
    pub(crate) advanced: usize,
    pub(crate) end: Option<End>,
    /// Ends this request alone.
    pub(crate) cancel: Option<Cancel>,
    pub(crate) observe_rows: bool,
    pub(crate) trace: bool,
    pub(crate) top_logprobs: usize,
}

/// How a request ended.
pub(crate) enum End {
    Generated(FinishReason),
    Scored,
    Failed(Error),
}

/// What is done with a sequence: both kinds run in the same steps.
pub(crate) enum Task {
    Generate(Box<Generating>),
    Score(Box<Scoring>),
}

/// A text that is generated.
pub(crate) struct Generating {
    pub(crate) max_new_tokens: usize,
    pub(crate) ignore_end_of_sequence: bool,
    pub(crate) greedy: bool,
    pub(crate) sampler: Sampler,
    pub(crate) detokenizer: Option<Box<dyn Detokenizer>>,
    pub(crate) text: String,
    pub(crate) log_prob: f64,
    pub(crate) scheduler: DraftScheduler,
    pub(crate) draft: Vec<Drafted>,
    /// Whether the text ends with the draft, if all of it is accepted.
    pub(crate) draft_ends: bool,
}

/// Continuations that are scored, one group after the other.
pub(crate) struct Scoring {
    pub(crate) request: ScoreRequest,
    /// The strategy's state behind the context, once it is known: where every continuation begins.
    pub(crate) begun: Option<Box<dyn FusionState>>,
    /// Continuations that differ in their last token alone, as indices; their rows are the same.
    pub(crate) groups: Vec<Vec<usize>>,
    /// The group that is scored, and how many of its tokens are.
    pub(crate) group: usize,
    pub(crate) done: usize,
    pub(crate) scores: Vec<Score>,
}

impl ActiveSequence {
    pub(crate) fn is_running(&self) -> bool {
        self.end.is_none()
    }

    /// Ends it with an error; one of kind `Cancelled` is that of a pass that was interrupted, and none of its own.
    pub(crate) fn fail(&mut self, error: Error) {
        if error.kind() == ErrorKind::Cancelled {
            return self.cancelled();
        }
        self.end = Some(End::Failed(error));
    }

    /// Ends it if the caller asked for that.
    pub(crate) fn check_cancelled(&mut self) {
        if self.is_running() && self.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            self.cancelled();
        }
    }

    /// Ends it as cancelled: of a text what there is, of scores nothing.
    pub(crate) fn cancelled(&mut self) {
        self.end = Some(match self.task {
            Task::Generate(_) => End::Generated(FinishReason::Cancelled),
            Task::Score(_) => End::Failed(Error::new(ErrorKind::Cancelled, "scoring was cancelled")),
        });
    }

    /// The text that is generated, if it goes on.
    pub(crate) fn generating(&self) -> Option<&Generating> {
        match &self.task {
            Task::Generate(generating) if self.is_running() => Some(generating),
            _ => None,
        }
    }
}

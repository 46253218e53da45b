use std::time::Duration;

use logitfuse_core::TokenId;

/// What happens during a generation, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Prompt tokens fed so far, over all sources and sequences.
    Prefill {
        /// Tokens fed.
        done: usize,
        /// Tokens to feed.
        total: usize,
    },
    /// A token was generated. The engine writes the next report over this one; whoever needs it longer clones it.
    Token(&'a TokenReport),
    /// A sequence ended.
    Finished {
        /// The index of its request.
        request: usize,
        /// Text that was held back because it could have begun a stop string or a character.
        text: String,
        /// Why it ended.
        reason: FinishReason,
    },
    /// Nothing more comes of a request. The last event of each, also of one that was cancelled.
    /// [`generate`](crate::Engine::generate) returns the generations instead.
    Done {
        /// The index of the request.
        request: usize,
        /// What came of it; its timings are those of the call so far.
        generation: Box<Generation>,
    },
}

/// One generated token and how it came about.
#[derive(Clone, Debug, Default)]
pub struct TokenReport {
    /// The index of its request.
    pub request: usize,
    /// Its place among the generated tokens, from 0.
    pub position: usize,
    /// The token.
    pub token: TokenId,
    /// The text that became final with it; may be empty, or longer than the token.
    pub text: String,
    /// Log-probability in nats under the fused distribution at temperature 1, before penalties.
    pub log_prob: f64,
    /// The most probable tokens of the fused row, likewise.
    pub top_logprobs: Vec<(TokenId, f64)>,
    /// One entry per binding of the engine.
    pub roles: Vec<RoleReport>,
    /// One value per trace column of the strategy, NaN where it had none; empty unless the request asked for it.
    pub trace: Vec<f64>,
    /// Whether it was drafted and stood.
    pub drafted: bool,
}

/// What one role thought of a generated token.
#[derive(Clone, Debug, Default)]
pub struct RoleReport {
    /// Log-probability in nats of the token under this role; NaN if the step was settled without asking it.
    pub log_prob: f64,
    /// The role's own most probable tokens with their log-probabilities, as many as the request asked for.
    pub top_logprobs: Vec<(TokenId, f64)>,
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// This end-of-sequence token was generated; it is not part of the text.
    EndOfSequence(TokenId),
    /// This stop string appeared; it is not part of the text.
    Stop(String),
    /// `max_new_tokens` were generated.
    Length,
    /// The context of this source is full.
    Context(String),
    /// The caller asked for an end.
    Cancelled,
}

impl FinishReason {
    /// The name used in outputs: `end_of_sequence`, `stop`, `length`, `context`, `cancelled`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EndOfSequence(_) => "end_of_sequence",
            Self::Stop(_) => "stop",
            Self::Length => "length",
            Self::Context(_) => "context",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A finished sequence.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The generated tokens, an end-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Their text up to a stop string; empty if the request had no [`DetokenizeOptions`](crate::DetokenizeOptions).
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Log-probability in nats of all generated tokens under the fused distributions.
    pub log_prob: f64,
    /// Where the time of the whole call went (shared by all of its sequences).
    pub timings: Timings,
}

/// Where the time of a call went.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// One entry per source: time inside its `forward`, prompts only.
    pub prefill: Vec<Duration>,
    /// Prompt tokens fed to each source.
    pub prefill_tokens: Vec<usize>,
    /// Prompt tokens that each source had run before, for another prompt.
    pub reused_tokens: Vec<usize>,
    /// One entry per source: time inside its `forward`, generation only. Sources overlap, so the sum may exceed the wall.
    pub forward: Vec<Duration>,
    /// Log-normalisers and masking, on the sources' threads.
    pub normalise: Vec<Duration>,
    /// Inside the strategy.
    pub fuse: Duration,
    /// Checking the fused row, penalties, sampling.
    pub sample: Duration,
    /// Wall-clock time of the prompts.
    pub prefill_wall: Duration,
    /// Wall-clock time of the generation.
    pub decode_wall: Duration,
    /// Steps made, each of one token per running sequence.
    pub steps: usize,
    /// Tokens generated over all sequences.
    pub tokens: usize,
    /// Those of them that the strategy's leading source settled alone.
    pub early_exits: usize,
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Drafted tokens that stood.
    pub accepted: usize,
}

impl Timings {
    pub(crate) fn new(sources: usize) -> Self {
        Self {
            prefill: vec![Duration::ZERO; sources],
            prefill_tokens: vec![0; sources],
            reused_tokens: vec![0; sources],
            forward: vec![Duration::ZERO; sources],
            normalise: vec![Duration::ZERO; sources],
            ..Self::default()
        }
    }

    /// Generated tokens per second of generation, prompts not counted.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.decode_wall.as_secs_f64().max(1e-9)
    }
}

use std::time::Duration;

use logitfuse_core::{Error, PromptScore, RoleRow, TokenId};

use crate::Scored;

/// What happens while requests are decoded, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request left the queue and runs from now on. The first event of its request, unless it cannot begin.
    Started {
        /// The index of the request.
        request: usize,
    },
    /// Prompt tokens fed so far, over all sources and sequences.
    Prefill {
        /// Tokens fed.
        done: usize,
        /// Tokens to feed.
        total: usize,
    },
    /// A token was generated. The decoder writes the next report over this one: clone it to keep it.
    Token(&'a TokenReport),
    /// The rows of a position, where the request asks for them
    /// ([`Request::observe_rows`](crate::Request::observe_rows)): after fusing, before the token is committed. A position
    /// is observed once.
    Rows(&'a ObservedRows<'a>),
    /// A sequence ended.
    Finished {
        /// The index of its request.
        request: usize,
        /// Text that was held back because it could have begun a stop string or a character.
        text: String,
        /// Why it ended.
        reason: FinishReason,
    },
    /// A text is complete. The last event of its request, also of one that was cancelled.
    /// [`generate`](crate::Decoder::generate) returns the generations instead.
    Done {
        /// The index of the request.
        request: usize,
        /// The text, and what it cost.
        generation: Box<Generation>,
    },
    /// The continuations of a request are scored. The last event of its request.
    Scored(Scored),
    /// A request failed: its prompt does not fit, or its strategy, one of its logits processors or a source that it uses
    /// returned an error. The last event of its request; others go on.
    Failed {
        /// The index of the request.
        request: usize,
        /// Why.
        error: Error,
    },
}

impl Event<'_> {
    /// The index of the request that it is about; `None` of [`Prefill`](Self::Prefill), which is about all that join.
    pub fn request(&self) -> Option<usize> {
        match self {
            Self::Prefill { .. } => None,
            Self::Token(report) => Some(report.request),
            Self::Rows(rows) => Some(rows.request),
            Self::Started { request }
            | Self::Finished { request, .. }
            | Self::Done { request, .. }
            | Self::Failed { request, .. } => Some(*request),
            Self::Scored(scored) => Some(scored.request),
        }
    }
}

/// What every role and the fusion say of one position.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ObservedRows<'a> {
    /// The index of the request.
    pub request: usize,
    /// Of the request's continuations, the one that is scored; 0 of a text that is generated.
    pub continuation: usize,
    /// The place among the generated or scored tokens, from 0.
    pub position: usize,
    /// The token at that place.
    pub token: TokenId,
    /// One row per binding, masked to the shared vocabulary; `None` where an early exit left a source idle.
    pub roles: &'a [Option<RoleRow<'a>>],
    /// The fused row.
    pub fused: RoleRow<'a>,
    /// How probable the prompt was under each binding; empty if the strategy does not ask for that.
    pub prompt: &'a [PromptScore],
}

/// One generated token and how it came about.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
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
    /// One entry per binding of the fusion.
    pub roles: Vec<RoleReport>,
    /// One value per trace column of the strategy, NaN where it had none; empty unless the request asked for it.
    pub trace: Vec<f64>,
    /// Whether it was drafted and accepted.
    pub drafted: bool,
}

/// The probability of a generated token under one role.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RoleReport {
    /// Log-probability in nats of the token under this role; NaN if an early exit left its source idle.
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
#[non_exhaustive]
pub struct Generation {
    /// The generated tokens, an end-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Their text up to a stop string; empty if the request has no [detokenizer](crate::Request::text).
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Log-probability in nats of all generated tokens under the fused distributions.
    pub log_prob: f64,
    /// Whether tokens were drafted where a source's rows depend on how tokens are fed
    /// ([`Fusion::with_uneven_rows`](crate::Fusion::with_uneven_rows)): without drafts the text may be another.
    pub inexact_drafts: bool,
    /// What this text cost: times of passes that it shared with others are divided by the tokens that each had in them.
    pub timings: Timings,
}

/// Where the time of a text, or of a whole call, went. Those of all texts of a call add up to the call's.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
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
    /// Passes after the prompt, each of which gives the accepted part of a draft and, unless the text ends there, one token
    /// more; of scoring, each is a piece of a continuation.
    pub steps: usize,
    /// Tokens generated or scored.
    pub tokens: usize,
    /// Those of them that the strategy's lead role decided alone.
    pub early_exits: usize,
    /// Those of them for which the base's row took the place of the fused one, because the strategy failed.
    pub fallbacks: usize,
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Drafted tokens that were accepted.
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

    /// Adds what another text cost.
    pub fn add(&mut self, other: &Self) {
        let durations = [
            (&mut self.prefill, &other.prefill),
            (&mut self.forward, &other.forward),
            (&mut self.normalise, &other.normalise),
        ];
        for (sum, of) in durations {
            sum.resize(sum.len().max(of.len()), Duration::ZERO);
            sum.iter_mut().zip(of).for_each(|(sum, of)| *sum += *of);
        }
        for (sum, of) in
            [(&mut self.prefill_tokens, &other.prefill_tokens), (&mut self.reused_tokens, &other.reused_tokens)]
        {
            sum.resize(sum.len().max(of.len()), 0);
            sum.iter_mut().zip(of).for_each(|(sum, of)| *sum += *of);
        }
        self.fuse += other.fuse;
        self.sample += other.sample;
        self.prefill_wall += other.prefill_wall;
        self.decode_wall += other.decode_wall;
        self.steps += other.steps;
        self.tokens += other.tokens;
        self.early_exits += other.early_exits;
        self.fallbacks += other.fallbacks;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
    }

    /// Generated tokens per second of generation, prompts not counted.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.decode_wall.as_secs_f64().max(1e-9)
    }
}

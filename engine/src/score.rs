//! What is asked of scoring, and what it answers.

use std::ops::ControlFlow;

use logitfuse_core::{Result, TokenId};

use crate::{Cancel, Engine, RoleReport, Timings};

/// Continuations of one context to score, teacher-forced: the fused model is asked for the probability of each token
/// given the prompt and the *given* tokens before it.
///
/// Continuations that share a context belong in one request: the context is run once for all of them, and those that
/// differ in their last token alone (the letters of a multiple choice) cost as much as one.
///
/// ```
/// use std::sync::Arc;
/// use logitfuse_engine::{BaseOnly, Cancel, Engine, Role, ScoreRequest};
/// use logitfuse_replay::SyntheticSource;
///
/// let mut engine = Engine::builder(Arc::new(BaseOnly::new()))
///     .source(Box::new(SyntheticSource::new("toy", 32, 1)))
///     .roles([Role::new("base", 0)])
///     .build()?;
/// let question = ScoreRequest::new([vec![5, 6, 7]], [vec![1], vec![2], vec![3, 4]]);
/// let scores = engine.score(&question, &Cancel::new())?;
/// assert_eq!(scores.len(), 3);
/// assert!(scores.iter().all(|score| score.log_prob < 0.0));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// One prompt per binding, as in [`Request`](crate::Request).
    pub prompts: Vec<Vec<TokenId>>,
    /// What may follow the prompts; one at least, of one token at least each.
    pub continuations: Vec<Vec<TokenId>>,
    /// How many favourites of each role and of the fused row a [`TokenScore`] lists; 0 spares their cost.
    pub top_logprobs: usize,
    /// Whether the strategy's trace columns are computed.
    pub trace: bool,
}

impl ScoreRequest {
    /// Log-probabilities alone, without trace and top_logprobs.
    pub fn new(prompts: impl Into<Vec<Vec<TokenId>>>, continuations: impl Into<Vec<Vec<TokenId>>>) -> Self {
        Self { prompts: prompts.into(), continuations: continuations.into(), top_logprobs: 0, trace: false }
    }

    /// Asks for the strategy's trace columns.
    #[must_use]
    pub fn trace(mut self) -> Self {
        self.trace = true;
        self
    }

    /// Sets how many favourites are reported.
    #[must_use]
    pub fn top_logprobs(mut self, top_logprobs: usize) -> Self {
        self.top_logprobs = top_logprobs;
        self
    }
}

/// The score of a continuation.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Sum of the tokens' fused log-probabilities, in nats.
    pub log_prob: f64,
    /// Whether every token is the one that greedy decoding would have chosen.
    pub is_greedy: bool,
    /// One entry per token of the continuation.
    pub tokens: Vec<TokenScore>,
}

/// One scored token.
#[derive(Clone, Debug)]
pub struct TokenScore {
    /// The token.
    pub token: TokenId,
    /// Its fused log-probability at temperature 1, in nats.
    pub log_prob: f64,
    /// The token that greedy decoding would have chosen.
    pub greedy: TokenId,
    /// The most probable tokens of the fused row with their log-probabilities, as many as the request asked for.
    pub top_logprobs: Vec<(TokenId, f64)>,
    /// What each binding thinks of the token.
    pub roles: Vec<RoleReport>,
    /// One value per trace column of the strategy; empty unless the request asked for it.
    pub trace: Vec<f64>,
}

/// The scores of one of many requests.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Its number among the requests of the call.
    pub request: usize,
    /// One per continuation, in the request's order.
    pub scores: Vec<Score>,
    /// Where the time of the call went so far; `decode_wall` is that of the continuations.
    pub timings: Timings,
}

impl Engine {
    /// Scores the continuations of one context.
    ///
    /// # Errors
    /// As [`score_all`](Self::score_all).
    pub fn score(&mut self, request: &ScoreRequest, cancel: &Cancel) -> Result<Vec<Score>> {
        let mut scores = Vec::new();
        let mut keep = |scored: Scored| {
            scores = scored.scores;
            ControlFlow::Continue(())
        };
        self.score_all(&mut std::iter::once(Ok(request.clone())), 1, cancel, &mut keep)?;
        Ok(scores)
    }

    /// Scores requests as an iterator yields them, at most `limit` contexts at a time, and hands each to `on_scored` as it
    /// is done: the counterpart of [`serve`](Self::serve) for texts that are given. Beginnings that contexts share are run
    /// once ([`prefix_cache_bytes`](crate::EngineBuilder::prefix_cache_bytes)). A score has the same bits whatever is
    /// scored beside it, in the same request or another.
    ///
    /// # Errors
    /// The first error of a source or the strategy; of kind `Cancelled` if `cancel` was set or `on_scored` broke off; or,
    /// after the running requests are done, that of the iterator or of a request that cannot be met.
    pub fn score_all(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<ScoreRequest>>,
        limit: usize,
        cancel: &Cancel,
        on_scored: &mut dyn FnMut(Scored) -> ControlFlow<()>,
    ) -> Result<Timings> {
        let mut timings = Timings::new(self.workers.len());
        let mut running = Vec::new();
        // What is given needs no draft, and a source that only drafts needs no prompt.
        let speculation = self.speculation.take();
        let result = self.score_running(requests, limit.max(1), &mut running, cancel, &mut timings, on_scored);
        for scoring in &running {
            self.close(&scoring.sequence);
        }
        self.speculation = speculation;
        result.map(|()| timings)
    }
}

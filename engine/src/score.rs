//! What is asked of scoring, and what it answers.

use logitfuse_core::TokenId;

use crate::{Cancel, Fusion, RoleReport, Timings};

/// Continuations of one context to score, teacher-forced: the fused model is asked for the probability of each token
/// given the prompt and the *given* tokens before it.
///
/// Continuations that share a context belong in one request: the context is run once for all of them, and those that
/// differ in their last token alone (the letters of a multiple choice) cost as much as one.
///
/// ```
/// use std::sync::Arc;
/// use logitfuse_engine::{BaseOnly, Cancel, Decoder, Role, ScoreRequest};
/// use logitfuse_replay::SyntheticSource;
///
/// let mut decoder = Decoder::builder(Arc::new(BaseOnly::new()))
///     .source(Box::new(SyntheticSource::new("toy", 32, 1)))
///     .roles([Role::new("base", 0)])
///     .build()?;
/// let question = ScoreRequest::new([vec![5, 6, 7]], [vec![1], vec![2], vec![3, 4]]);
/// let scores = decoder.score(&question, &Cancel::new())?;
/// assert_eq!(scores.len(), 3);
/// assert!(scores.iter().all(|score| score.log_prob < 0.0));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScoreRequest {
    /// One prompt per binding, as in [`Request`](crate::Request).
    pub prompts: Vec<Vec<TokenId>>,
    /// What may follow the prompts; one at least, of one token at least each.
    pub continuations: Vec<Vec<TokenId>>,
    /// How many of the most probable tokens of each role and of the fused row a [`TokenScore`] lists; 0 spares their cost.
    pub top_logprobs: usize,
    /// Whether the strategy's trace columns are computed.
    pub trace: bool,
    /// Whether every position is told as an [`Event::Rows`](crate::Event::Rows).
    pub observe_rows: bool,
    /// The fusion that scores; `None` is the decoder's own.
    pub fusion: Option<Fusion>,
    /// Ends this request, from any thread.
    pub cancel: Option<Cancel>,
}

impl ScoreRequest {
    /// Log-probabilities alone, without a trace and without the most probable tokens.
    pub fn new(prompts: impl Into<Vec<Vec<TokenId>>>, continuations: impl Into<Vec<Vec<TokenId>>>) -> Self {
        Self {
            prompts: prompts.into(),
            continuations: continuations.into(),
            top_logprobs: 0,
            trace: false,
            observe_rows: false,
            fusion: None,
            cancel: None,
        }
    }

    /// Sets the fusion that scores, instead of the decoder's own.
    #[must_use]
    pub fn fusion(mut self, fusion: &Fusion) -> Self {
        self.fusion = Some(fusion.clone());
        self
    }

    /// Asks for the rows of every position.
    #[must_use]
    pub fn observe_rows(mut self) -> Self {
        self.observe_rows = true;
        self
    }

    /// Asks for the strategy's trace columns.
    #[must_use]
    pub fn trace(mut self) -> Self {
        self.trace = true;
        self
    }

    /// Sets how many of the most probable tokens are reported.
    #[must_use]
    pub fn top_logprobs(mut self, top_logprobs: usize) -> Self {
        self.top_logprobs = top_logprobs;
        self
    }
}

/// The score of a continuation.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct TokenScore {
    /// The token.
    pub token: TokenId,
    /// Its fused log-probability at temperature 1, in nats.
    pub log_prob: f64,
    /// The token that greedy decoding would have chosen.
    pub greedy: TokenId,
    /// The most probable tokens of the fused row with their log-probabilities, as many as the request asked for.
    pub top_logprobs: Vec<(TokenId, f64)>,
    /// The token's probability under each binding.
    pub roles: Vec<RoleReport>,
    /// One value per trace column of the strategy; empty unless the request asked for it.
    pub trace: Vec<f64>,
}

/// The scores of one of many requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scored {
    /// Its number among the requests of the call.
    pub request: usize,
    /// One per continuation, in the request's order.
    pub scores: Vec<Score>,
    /// What this request cost; `decode_wall` is the time of the continuations.
    pub timings: Timings,
}

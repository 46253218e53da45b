use logitfuse_core::TokenId;
use logitfuse_text::Tokenizer;

use crate::Sampling;

/// How generated tokens become text. Without it an engine works on ids alone.
#[derive(Clone, Debug)]
pub struct DetokenizeOptions {
    /// The tokenizer that all sources share, as the compatibility verdict established.
    pub tokenizer: Tokenizer,
    /// Strings that end the text where they first appear; they are not part of it.
    pub stop: Vec<String>,
}

/// One generation to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// One prompt per binding of the engine ([`Engine::session`](crate::Engine::session)), in the same order. Each holds
    /// one token at least.
    pub prompts: Vec<Vec<TokenId>>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most this many tokens are generated.
    pub max_new_tokens: usize,
    /// Go on past end-of-sequence tokens.
    pub ignore_end_of_sequence: bool,
    /// Detokenisation and stop strings.
    pub text: Option<DetokenizeOptions>,
    /// How many favourites of each role (and of the fused row) a [`TokenReport`](crate::TokenReport) lists; 0 spares
    /// their cost.
    pub top_logprobs: usize,
    /// Whether the strategy's trace columns are computed; each costs up to a pass over the rows.
    pub trace: bool,
}

impl Request {
    /// Greedy, 128 tokens, no text.
    pub fn new(prompts: impl Into<Vec<Vec<TokenId>>>) -> Self {
        Self {
            prompts: prompts.into(),
            sampling: Sampling::default(),
            max_new_tokens: 128,
            ignore_end_of_sequence: false,
            text: None,
            top_logprobs: 0,
            trace: false,
        }
    }

    /// Sets the token limit.
    #[must_use]
    pub fn max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = max_new_tokens;
        self
    }

    /// Sets how tokens are chosen.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Sets how tokens become text.
    #[must_use]
    pub fn text(mut self, text: DetokenizeOptions) -> Self {
        self.text = Some(text);
        self
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

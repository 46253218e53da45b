use std::sync::Arc;

use logitfuse_core::{Detokenize, ProcessorFactory, TokenId};

use crate::{Cancel, Fusion, Sampling};

/// One generation to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// One prompt per binding of the fusion ([`Fusion::session`](crate::Fusion::session)), in the same order. Each holds
    /// one token at least.
    pub prompts: Vec<Vec<TokenId>>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most this many tokens are generated.
    pub max_new_tokens: usize,
    /// Go on past end-of-sequence tokens.
    pub ignore_end_of_sequence: bool,
    /// Logits processors of its own, in the order in which they apply: after penalties and bias, before the temperature.
    pub processors: Vec<Arc<dyn ProcessorFactory>>,
    /// How tokens become text, and the strings that end it; `None` works on ids alone.
    pub text: Option<Arc<dyn Detokenize>>,
    /// How many of the most probable tokens of each role and of the fused row a [`TokenReport`](crate::TokenReport)
    /// lists; 0 spares their cost.
    pub top_logprobs: usize,
    /// Whether the strategy's trace columns are computed; each costs up to a pass over the rows.
    pub trace: bool,
    /// Whether every position is told as an [`Event::Rows`](crate::Event::Rows).
    pub observe_rows: bool,
    /// The fusion that generates, with its strategy, roles and drafts; `None` is the decoder's own.
    pub fusion: Option<Fusion>,
    /// Ends this request at the next token, from any thread.
    pub cancel: Option<Cancel>,
}

impl Request {
    /// Greedy, 128 tokens, no text.
    pub fn new(prompts: impl Into<Vec<Vec<TokenId>>>) -> Self {
        Self {
            prompts: prompts.into(),
            sampling: Sampling::default(),
            max_new_tokens: 128,
            ignore_end_of_sequence: false,
            processors: Vec::new(),
            text: None,
            top_logprobs: 0,
            trace: false,
            observe_rows: false,
            fusion: None,
            cancel: None,
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

    /// Adds a logits processor behind those that there are.
    #[must_use]
    pub fn processor(mut self, factory: Arc<dyn ProcessorFactory>) -> Self {
        self.processors.push(factory);
        self
    }

    /// Sets how tokens become text.
    #[must_use]
    pub fn text(mut self, text: Arc<dyn Detokenize>) -> Self {
        self.text = Some(text);
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
    pub fn top_logprobs(mut self, count: usize) -> Self {
        self.top_logprobs = count;
        self
    }

    /// Asks for the rows of every position.
    #[must_use]
    pub fn observe_rows(mut self) -> Self {
        self.observe_rows = true;
        self
    }

    /// Sets the fusion that generates, instead of the decoder's own.
    #[must_use]
    pub fn fusion(mut self, fusion: &Fusion) -> Self {
        self.fusion = Some(fusion.clone());
        self
    }

    /// Sets the flag that ends this request.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }
}

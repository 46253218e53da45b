//! One choice of an answer, as its tokens come.

use std::sync::Arc;

use logitfuse::{FinishReason, Result, RoleReport, TokenId, TokenReport};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{models::ServedModel, settings::Plan, token_texts::TokenTexts};

/// The log-probability of what cannot be: JSON has no infinity. Far below what a model says of any token.
const IMPOSSIBLE: f64 = -9999.0;

/// What an answer holds besides its text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// The most probable tokens to list with every log-probability; `None` for no log-probabilities.
    pub(crate) logprobs: Option<usize>,
    pub(crate) trace: bool,
    pub(crate) top_choices: usize,
    pub(crate) ignore_eos: bool,
}

impl Wanted {
    pub(crate) fn new(plan: &Plan, logprobs: bool) -> Self {
        Self {
            logprobs: logprobs.then_some(plan.top_logprobs),
            trace: plan.trace,
            top_choices: plan.top_choices,
            ignore_eos: plan.ignore_eos,
        }
    }

    /// Whether what the fusion did is told.
    pub(crate) fn fusion(&self) -> bool {
        self.trace || self.top_choices > 0
    }
}

/// A token and how probable it was.
#[derive(Clone, Debug)]
pub(crate) struct KnownToken {
    pub(crate) id: TokenId,
    /// In nats; `None` of a text's first token, of which nothing is known.
    pub(crate) log_prob: Option<f64>,
    /// The most probable tokens, the best first; without the token itself where it is not one of them.
    pub(crate) top: Vec<(TokenId, f64)>,
    /// Whether it ends the text and is no part of it.
    pub(crate) ends: bool,
}

/// What became final with a message.
#[derive(Clone, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Tokens whose text is shown, with that text.
    pub(crate) tokens: Vec<(KnownToken, String)>,
    pub(crate) fusion: Vec<FusionToken>,
}

impl Piece {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty() && self.fusion.is_empty()
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.text.push_str(&other.text);
        self.tokens.append(&mut other.tokens);
        self.fusion.append(&mut other.fusion);
    }
}

/// What the fusion did, token by token: an extension of OpenAI's choices.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct FusionReport {
    /// One entry a token.
    pub(crate) tokens: Vec<FusionToken>,
}

/// What the fusion did at one token.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct FusionToken {
    /// The token.
    id: TokenId,
    /// Its text by itself.
    token: String,
    /// Its log-probability under the fused distribution, in nats.
    logprob: f64,
    /// What the strategy reports, by the names that `/v1/models` lists; null where it had no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Map<String, Value>>,
    /// The most probable tokens of every source, by role; null where an early exit left it idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<Map<String, Value>>,
}

/// A choice on its way.
pub(crate) struct Choice {
    model: Arc<ServedModel>,
    wanted: Wanted,
    texts: Option<TokenTexts<KnownToken>>,
}

impl Choice {
    pub(crate) fn new(model: &Arc<ServedModel>, wanted: Wanted) -> Self {
        let texts = wanted.logprobs.map(|_| TokenTexts::new(model.pipeline.tokenizer()));
        Self { model: Arc::clone(model), wanted, texts }
    }

    pub(crate) fn model(&self) -> &Arc<ServedModel> {
        &self.model
    }

    /// What became final with a token.
    pub(crate) fn token(&mut self, report: &TokenReport) -> Result<Piece> {
        let mut piece = Piece { text: report.text.clone(), ..Piece::default() };
        if let (Some(texts), Some(count)) = (&mut self.texts, self.wanted.logprobs) {
            let ends = !self.wanted.ignore_eos && self.model.ends(report.token);
            let top = report.top_logprobs.iter().take(count).map(|&(id, log_prob)| (id, finite(log_prob))).collect();
            let known = KnownToken { id: report.token, log_prob: Some(finite(report.log_prob)), top, ends };
            texts.push(report.token, !ends, known)?;
            piece.tokens = texts.show(report.text.len());
        }
        if self.wanted.fusion() {
            piece.fusion.push(self.fusion_token(report));
        }
        Ok(piece)
    }

    /// What became final with the end of the text.
    pub(crate) fn finish(&mut self, text: String) -> Result<Piece> {
        let tokens = self.texts.as_mut().map(|texts| texts.finish(text.len())).transpose()?.unwrap_or_default();
        Ok(Piece { text, tokens, fusion: Vec::new() })
    }

    fn fusion_token(&self, report: &TokenReport) -> FusionToken {
        let trace = self.wanted.trace.then(|| {
            let columns = self.model.trace.iter().zip(&report.trace);
            columns.map(|(name, value)| (name.clone(), json!(value))).collect()
        });
        let count = self.wanted.top_choices;
        let sources = (count > 0).then(|| {
            let bindings = self.model.bindings.iter().zip(&report.roles);
            bindings.map(|(name, role)| (name.clone(), self.choices(role, count))).collect()
        });
        FusionToken {
            id: report.token,
            token: self.model.token(report.token).0,
            logprob: finite(report.log_prob),
            trace,
            sources,
        }
    }

    fn choices(&self, role: &RoleReport, count: usize) -> Value {
        if role.top_logprobs.is_empty() {
            return Value::Null;
        }
        let one = |&(id, log_prob): &(TokenId, f64)| json!({ "id": id, "token": self.model.token(id).0, "logprob": finite(log_prob) });
        role.top_logprobs.iter().take(count).map(one).collect()
    }
}

/// A log-probability that JSON can hold.
pub(crate) fn finite(log_prob: f64) -> f64 {
    if log_prob >= IMPOSSIBLE { log_prob } else { IMPOSSIBLE }
}

/// Why a text ended, in OpenAI's words.
pub(crate) fn finish_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::EndOfSequence(_) | FinishReason::Stop(_) => "stop",
        _ => "length",
    }
}

/// How many tokens a request had.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the names that clients read")]
pub(crate) struct Usage {
    /// Tokens of the prompts, as the base reads them.
    pub(crate) prompt_tokens: usize,
    /// Tokens that were generated, those that end a text included.
    pub(crate) completion_tokens: usize,
    /// Both.
    pub(crate) total_tokens: usize,
}

impl Usage {
    pub(crate) fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }

    /// Notes in the log how many tokens a request had.
    pub(crate) fn log(self, model: &str) {
        let Self { prompt_tokens, completion_tokens, .. } = self;
        tracing::info!(model, prompt_tokens, completion_tokens, "completed");
    }
}

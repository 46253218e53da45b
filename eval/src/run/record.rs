//! What the engine reports, as it is kept.

use logitfuse_core::{RoleBinding, TokenId};
use logitfuse_engine::{Generation, RoleReport, Score, Timings, TokenReport};
use logitfuse_rundir::{BindingToken, Response, SourceTiming, TimingRecord, TokenRecord, TopLogprob, sha256};
use logitfuse_text::Tokenizer;

use logitfuse_pipeline::Pipeline;

/// The names behind a decoder's numbers: enough to write a record while it is at work.
pub(super) struct Labels {
    columns: Vec<String>,
    bindings: Vec<RoleBinding>,
    pub(super) sources: Vec<String>,
    tokenizer: Tokenizer,
}

impl Labels {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let info = pipeline.strategy().info();
        Self {
            columns: info.trace.iter().map(|column| column.name.clone()).collect(),
            bindings: pipeline.session().bindings.clone(),
            sources: pipeline.sources().map(|source| source.name.clone()).collect(),
            tokenizer: pipeline.tokenizer().clone(),
        }
    }

    pub(super) fn generated(generation: &Generation, trace: Vec<TokenRecord>) -> Response {
        Response {
            text: generation.text.clone(),
            tokens: generation.tokens.clone(),
            log_prob: generation.log_prob,
            finish: Some(generation.finish.name().to_owned()),
            inexact_drafts: generation.inexact_drafts,
            is_greedy: None,
            trace,
        }
    }

    /// `text` is what was scored, as the task writes it.
    pub(super) fn scored(&self, text: String, score: &Score, traced: bool) -> Response {
        let token = |score: &logitfuse_engine::TokenScore| {
            self.token(score.token, score.log_prob, &score.top_logprobs, &score.trace, &score.roles)
        };
        Response {
            text,
            tokens: score.tokens.iter().map(|token| token.token).collect(),
            log_prob: score.log_prob,
            finish: None,
            inexact_drafts: false,
            is_greedy: Some(score.is_greedy),
            trace: if traced { score.tokens.iter().map(token).collect() } else { Vec::new() },
        }
    }

    pub(super) fn reported(&self, report: &TokenReport) -> TokenRecord {
        self.token(report.token, report.log_prob, &report.top_logprobs, &report.trace, &report.roles)
    }

    fn token(
        &self,
        token: TokenId,
        log_prob: f64,
        top_logprobs: &[(TokenId, f64)],
        trace: &[f64],
        roles: &[RoleReport],
    ) -> TokenRecord {
        // What is not a number at this step, or not a number that JSON has, is absent.
        let known = |value: f64| value.is_finite().then_some(value);
        let role = |(binding, role): (&RoleBinding, &RoleReport)| BindingToken {
            role: binding.role.clone(),
            source: binding.source.clone(),
            log_prob: known(role.log_prob),
            top_logprobs: self.top_logprobs(&role.top_logprobs),
        };
        TokenRecord {
            token,
            text: self.text(token),
            log_prob,
            top_logprobs: self.top_logprobs(top_logprobs),
            trace: self.columns.iter().cloned().zip(trace.iter().map(|&value| known(value))).collect(),
            roles: self.bindings.iter().zip(roles).map(role).collect(),
        }
    }

    fn top_logprobs(&self, list: &[(TokenId, f64)]) -> Vec<TopLogprob> {
        list.iter().map(|&(token, log_prob)| TopLogprob { token, text: self.text(token), log_prob }).collect()
    }

    fn text(&self, token: TokenId) -> String {
        self.tokenizer.decode(&[token], false).unwrap_or_default()
    }
}

/// sha256 of the prompts, in the order of the bindings: each its length and its ids, as little-endian u32.
pub(super) fn prompts_sha256<'a>(prompts: impl Iterator<Item = &'a Vec<TokenId>>) -> String {
    let mut bytes = Vec::new();
    for prompt in prompts {
        bytes.extend((prompt.len() as u64).to_le_bytes());
        bytes.extend(prompt.iter().flat_map(|id| id.to_le_bytes()));
    }
    sha256(&bytes)
}

/// What a sample cost, as it is kept.
pub(super) fn timing_record(key: String, timings: &Timings, sources: &[String]) -> TimingRecord {
    let source = |(nth, name): (usize, &String)| SourceTiming {
        source: name.clone(),
        prefill_seconds: timings.prefill.get(nth).map_or(0.0, std::time::Duration::as_secs_f64),
        forward_seconds: timings.forward.get(nth).map_or(0.0, std::time::Duration::as_secs_f64),
        prefill_tokens: timings.prefill_tokens.get(nth).copied().unwrap_or(0),
        reused_tokens: timings.reused_tokens.get(nth).copied().unwrap_or(0),
    };
    TimingRecord {
        key,
        tokens: timings.tokens,
        prefill_seconds: timings.prefill_wall.as_secs_f64(),
        decode_seconds: timings.decode_wall.as_secs_f64(),
        fuse_seconds: timings.fuse.as_secs_f64(),
        sample_seconds: timings.sample.as_secs_f64(),
        sources: sources.iter().enumerate().map(source).collect(),
        drafted: timings.drafted,
        accepted: timings.accepted,
        rounds: timings.steps,
    }
}

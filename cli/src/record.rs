//! A generated sample as JSON.

use logitfuse_core::{Error, RoleBinding, TokenId};
use logitfuse_engine::{FinishReason, Generation, TokenReport};
use logitfuse_pipeline::{Pipeline, Sample};
use logitfuse_text::Tokenizer;
use serde_json::{Map, Value, json};

use crate::args::PrintArgs;

/// Names of roles, sources and trace columns: what a record needs while the engine is borrowed by a generation.
pub(crate) struct RecordNames {
    strategy: String,
    columns: Vec<String>,
    bindings: Vec<RoleBinding>,
    sources: Vec<String>,
    tokenizer: Tokenizer,
}

impl RecordNames {
    pub(crate) fn of(pipeline: &Pipeline) -> Self {
        let info = pipeline.strategy().info();
        Self {
            strategy: info.id.clone(),
            columns: info.trace.iter().map(|column| column.name.clone()).collect(),
            bindings: pipeline.session().bindings.clone(),
            sources: pipeline.sources().map(|source| source.name.clone()).collect(),
            tokenizer: pipeline.tokenizer().clone(),
        }
    }

    /// One line of `run`, with what the flags ask for.
    pub(crate) fn sample(
        &self,
        index: usize,
        sample: &Sample,
        generation: &Generation,
        print: PrintArgs,
        tokens: &[TokenReport],
    ) -> Value {
        let detail = match &generation.finish {
            FinishReason::EndOfSequence(token) => json!(token),
            FinishReason::Stop(text) => json!(text),
            FinishReason::Context(source) => json!(source),
            _ => Value::Null,
        };
        let mut record = json!({
            "schema_version": 1,
            "index": index,
            "id": sample.id,
            "strategy": self.strategy,
            "text": generation.text,
            "tokens": generation.tokens,
            "finish": generation.finish.name(),
            "finish_detail": detail,
            "log_prob": generation.log_prob,
        });
        if generation.timings.fallbacks > 0 {
            record["fallback_tokens"] = json!(generation.timings.fallbacks);
        }
        if generation.inexact_drafts {
            record["inexact_drafts"] = json!(true);
        }
        if print.trace {
            record["trace"] = tokens.iter().map(|report| self.token(report)).collect();
        }
        if print.timings {
            record["timings"] = self.timings(generation);
        }
        record
    }

    /// The line of a sample for which the strategy's plugin failed.
    pub(crate) fn failed(&self, index: usize, sample: &Sample, error: &Error) -> Value {
        json!({
            "schema_version": 1,
            "index": index,
            "id": sample.id,
            "strategy": self.strategy,
            "error": error.to_string(),
        })
    }

    /// One token's trace; numbers that a strategy or a source does not give at a step are null.
    fn token(&self, report: &TokenReport) -> Value {
        let name = |id: TokenId| self.tokenizer.decode(&[id], false).unwrap_or_default();
        let top_logprobs = |list: &[(TokenId, f64)]| -> Vec<Value> {
            list.iter().map(|&(id, log_prob)| json!({ "token": id, "text": name(id), "log_prob": log_prob })).collect()
        };
        let columns = self.columns.iter().zip(&report.trace);
        let trace: Map<String, Value> = columns.map(|(name, &value)| (name.clone(), json!(value))).collect();
        let roles: Vec<Value> = self
            .bindings
            .iter()
            .zip(&report.roles)
            .map(|(binding, role)| {
                json!({
                    "role": binding.role,
                    "source": binding.source,
                    "log_prob": role.log_prob,
                    "top_logprobs": top_logprobs(&role.top_logprobs),
                })
            })
            .collect();
        let mut token = json!({
            "token": report.token,
            "text": name(report.token),
            "log_prob": report.log_prob,
            "top_logprobs": top_logprobs(&report.top_logprobs),
            "trace": trace,
            "roles": roles,
        });
        if report.drafted {
            token["drafted"] = json!(true);
        }
        token
    }

    fn timings(&self, generation: &Generation) -> Value {
        let t = &generation.timings;
        let source = |(i, name): (usize, &String)| {
            json!({
                "source": name,
                "prefill_seconds": t.prefill[i].as_secs_f64(),
                "prefill_tokens": t.prefill_tokens[i],
                "reused_tokens": t.reused_tokens[i],
                "forward_seconds": t.forward[i].as_secs_f64(),
                "normalise_seconds": t.normalise[i].as_secs_f64(),
            })
        };
        let sources: Vec<Value> = self.sources.iter().enumerate().map(source).collect();
        json!({
            "sources": sources,
            "fuse_seconds": t.fuse.as_secs_f64(),
            "sample_seconds": t.sample.as_secs_f64(),
            "prefill_seconds": t.prefill_wall.as_secs_f64(),
            "decode_seconds": t.decode_wall.as_secs_f64(),
            "tokens_per_second": t.tokens_per_second(),
            "early_exits": t.early_exits,
            "tokens_drafted": t.drafted,
            "tokens_accepted": t.accepted,
        })
    }
}

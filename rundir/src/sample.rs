//! Samples: the result of one item of one task under one variant.

use std::collections::BTreeMap;

use logitfuse_core::TokenId;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct SampleRecord {
    /// [`SCHEMA_VERSION`](crate::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The variant of the experiment: `large`, `dynamic`, …
    pub variant: String,
    /// The task.
    pub task: String,
    /// The item's own id, or its index.
    pub doc_id: String,
    /// The item's place in the task's data, from 0.
    pub doc_index: usize,
    /// Which of several answers to the same item, from 0.
    pub repeat: usize,
    /// The item's fields.
    pub doc: Map<String, Value>,
    /// What the answer is compared with.
    pub target: Value,
    /// sha256 of every binding's prompt tokens.
    pub prompt_sha256: String,
    /// One response of a generation; one per choice of a multiple choice; one per continuation that was scored.
    #[serde(deserialize_with = "at_most::<65536, _, _>")]
    pub responses: Vec<Response>,
    /// The answer that each filter found, by the filter's name.
    #[serde(deserialize_with = "at_most::<1024, _, _>")]
    pub filtered: BTreeMap<String, Value>,
    /// Scores by `metric,filter`, as lm-eval names them. What is summed over a corpus later is an array of its parts.
    #[serde(deserialize_with = "at_most::<1024, _, _>")]
    pub metrics: BTreeMap<String, Value>,
    /// Tokens of the responses that are the base's alone, because the strategy's plugin failed and `on_error` is
    /// `fallback_to_base`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fallback_tokens: usize,
    /// Why there is no response: the strategy's plugin failed. Such a sample has no scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl SampleRecord {
    /// What identifies the sample within its run: `variant/task/doc_id/repeat`.
    pub fn key(&self) -> String {
        Self::key_of(&self.variant, &self.task, &self.doc_id, self.repeat)
    }

    /// The key of a sample that is still to be made.
    pub fn key_of(variant: &str, task: &str, doc_id: &str, repeat: usize) -> String {
        format!("{}{doc_id}/{repeat}", Self::cell_prefix(variant, task))
    }

    /// What the keys of a variant and task begin with.
    pub(crate) fn cell_prefix(variant: &str, task: &str) -> String {
        format!("{variant}/{task}/")
    }
}

/// A generated text, or a scored one, with its log-probability.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Response {
    /// The generated text, or the text that was scored.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TokenId>,
    /// Log-probability of the tokens under the fused distributions, in nats; −∞, which JSON writes as null, if one of
    /// them is impossible.
    #[serde(deserialize_with = "null_is_impossible")]
    pub log_prob: f64,
    /// Why a generation ended: `end_of_sequence`, `stop`, `length`, `context`; none for what was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Whether tokens were drafted where a source's rows depend on how tokens are fed: without drafts the text may be another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inexact_drafts: bool,
    /// Whether greedy decoding would have said what was scored; none for a generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_greedy: Option<bool>,
    /// One entry per token, for the samples that are traced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<TokenRecord>,
}

/// One token of a traced response.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TokenRecord {
    /// The token.
    pub token: TokenId,
    /// Its text alone.
    pub text: String,
    /// Its fused log-probability at temperature 1, in nats; null is −∞.
    #[serde(deserialize_with = "null_is_impossible")]
    pub log_prob: f64,
    /// The most probable tokens of the fused row, the best first. Directories of earlier versions call them `favourites`.
    #[serde(alias = "favourites", deserialize_with = "at_most::<4096, _, _>")]
    pub top_logprobs: Vec<TopLogprob>,
    /// The strategy's trace columns by name; null where a step has no such value.
    #[serde(deserialize_with = "at_most::<256, _, _>")]
    pub trace: BTreeMap<String, Option<f64>>,
    /// The token under each role's source, in the order of the bindings.
    #[serde(deserialize_with = "at_most::<256, _, _>")]
    pub roles: Vec<BindingToken>,
}

/// A token under one source.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct BindingToken {
    /// The role: `base`, `expert`, …
    pub role: String,
    /// The source that plays it.
    pub source: String,
    /// Log-probability of the token that was taken, in nats; none where the source did not run, or excludes the token.
    pub log_prob: Option<f64>,
    /// The most probable tokens of the source, the best first.
    #[serde(alias = "favourites", deserialize_with = "at_most::<4096, _, _>")]
    pub top_logprobs: Vec<TopLogprob>,
}

/// One of the most probable tokens of a row.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TopLogprob {
    /// The token.
    pub token: TokenId,
    /// Its text alone.
    pub text: String,
    /// Its log-probability in nats.
    pub log_prob: f64,
}

fn null_is_impossible<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NEG_INFINITY))
}

/// A list or table of at most `N` entries: far more than a run writes, and few enough for code that compares every pair.
fn at_most<'de, const N: usize, D, C>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: Deserialize<'de>,
    for<'a> &'a C: IntoIterator,
{
    let all = C::deserialize(deserializer)?;
    let more = (&all).into_iter().nth(N).is_some();
    if more { Err(serde::de::Error::custom(format_args!("more than {N} entries"))) } else { Ok(all) }
}

/// A line of `timings.jsonl`: where the time of one sample went. Samples that share a batch share its time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct TimingRecord {
    /// The sample's [`key`](SampleRecord::key).
    pub key: String,
    /// Tokens that were generated or scored.
    pub tokens: usize,
    /// Wall-clock seconds of prompts.
    pub prefill_seconds: f64,
    /// Wall-clock seconds of generation or scoring.
    pub decode_seconds: f64,
    /// Seconds inside the strategy.
    pub fuse_seconds: f64,
    /// Seconds of checking rows, penalties and sampling.
    pub sample_seconds: f64,
    /// Each source's share.
    #[serde(deserialize_with = "at_most::<256, _, _>")]
    pub sources: Vec<SourceTiming>,
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Drafted tokens that were accepted.
    pub accepted: usize,
    /// Passes of the sources after the prompts, each of which gives the accepted tokens of a draft and, unless the text
    /// ended there, one token more; 0 for what was scored.
    #[serde(default)]
    pub rounds: usize,
}

/// What one source's passes cost.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct SourceTiming {
    /// The source.
    pub source: String,
    /// Seconds in prompts.
    pub prefill_seconds: f64,
    /// Seconds in generation.
    pub forward_seconds: f64,
    /// Tokens of prompts that were run.
    pub prefill_tokens: usize,
    /// Tokens of prompts that another sample's had run.
    pub reused_tokens: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories of earlier versions, which called the most probable tokens favourites.
    #[test]
    fn a_trace_of_an_earlier_version_is_read() {
        let line = |name: &str| {
            format!(
                r#"{{"token":1,"text":"a","log_prob":-0.5,"{name}":[{{"token":1,"text":"a","log_prob":-0.5}}],"trace":{{}},
                    "roles":[{{"role":"base","source":"L","log_prob":-1.0,"{name}":[{{"token":2,"text":"b","log_prob":-0.2}}]}}]}}"#
            )
        };
        let now: TokenRecord = serde_json::from_str(&line("top_logprobs")).unwrap();
        assert_eq!((now.top_logprobs[0].token, now.roles[0].top_logprobs[0].token), (1, 2));
        assert_eq!(serde_json::from_str::<TokenRecord>(&line("favourites")).unwrap(), now);
        assert!(!serde_json::to_string(&now).unwrap().contains("favourites"), "the old name is read, not written");
    }
}

//! The first difference between two executions of one sample.

use logitfuse_core::{ErrorKind, Result, ResultExt};
use serde_json::{Value, json};

use crate::{BindingToken, Response, SampleRecord, TokenRecord, log::Line};

/// The first thing in which a sample that was made again differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The response, from 0.
    pub response: Option<usize>,
    /// The token within it, from 0.
    pub step: Option<usize>,
    /// The source, where the difference is that of one source and not of what was made of all.
    pub source: Option<String>,
    /// What differs, with both values.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(response) = self.response {
            write!(f, "response {response}, ")?;
        }
        if let Some(step) = self.step {
            write!(f, "step {step}, ")?;
        }
        if let Some(source) = &self.source {
            write!(f, "source {source}, ")?;
        }
        f.write_str(&self.what)
    }
}

/// A sample together with its line of `samples.jsonl`, byte by byte.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredSample {
    /// The sample.
    pub record: SampleRecord,
    pub(crate) line: Vec<u8>,
}

impl From<Line<SampleRecord>> for StoredSample {
    fn from(Line { mut bytes, value, .. }: Line<SampleRecord>) -> Self {
        bytes.pop();
        Self { record: value, line: bytes }
    }
}

impl StoredSample {
    /// Parses a line of `samples.jsonl`.
    pub fn from_line(line: &str) -> Result<Self> {
        let record = serde_json::from_str(line).or_err(ErrorKind::InvalidData, "a line of samples.jsonl")?;
        Ok(Self { record, line: line.trim_end().as_bytes().to_vec() })
    }

    /// The first difference in what models and strategy did when the sample was made again, in the order in which they
    /// do it: prompt, then token by token what each source thinks, what the fusion makes of it, what was taken; then
    /// texts and scores. Numbers are compared as they are written, which tells all f64 apart.
    ///
    /// ```
    /// use logitfuse_rundir::StoredSample;
    ///
    /// let stored = StoredSample::from_line(
    ///     r#"{"schema_version":1,"variant":"v","task":"t","doc_id":"0","doc_index":0,"repeat":0,"doc":{},"target":"x","prompt_sha256":"p","responses":[{"text":"ab","tokens":[1,2],"log_prob":-1.5}],"filtered":{},"metrics":{}}"#,
    /// )?;
    /// let mut again = stored.record.clone();
    /// assert_eq!(stored.difference(&again), None);
    /// again.responses[0].tokens[1] = 7;
    /// assert_eq!(stored.difference(&again).unwrap().to_string(), "response 0, step 1, the token: 2 before, 7 now");
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn difference(&self, again: &SampleRecord) -> Option<Difference> {
        let line = serde_json::to_vec(again).unwrap_or_default();
        if line == self.line {
            return None;
        }
        // Both through the same reader, which may round the last digit.
        let again: Option<SampleRecord> = serde_json::from_slice(&line).ok();
        again.and_then(|again| first(&self.record, &again)).or_else(|| {
            let what = "a number, in its last digit".to_owned();
            Some(Difference { response: None, step: None, source: None, what })
        })
    }
}

fn first(before: &SampleRecord, now: &SampleRecord) -> Option<Difference> {
    type Field = fn(&SampleRecord) -> Value;
    let compare = |what: &str, field: Field| {
        let what = differs(what, &field(before), &field(now))?;
        Some(Difference { response: None, step: None, source: None, what })
    };
    compare("the item", |s| json!([s.doc_id, s.doc]))
        .or_else(|| compare("the prompts' sha256", |s| json!(s.prompt_sha256)))
        .or_else(|| compare("the failure", |s| json!(s.error)))
        .or_else(|| compare("the number of responses", |s| json!(s.responses.len())))
        .or_else(|| {
            let mut pairs = before.responses.iter().zip(&now.responses).enumerate();
            pairs.find_map(|(index, (before, now))| response(index, before, now))
        })
        .or_else(|| compare("the number of the base's own tokens", |s| json!(s.fallback_tokens)))
        .or_else(|| compare("the target", |s| s.target.clone()))
        .or_else(|| compare("the filtered answers", |s| json!(s.filtered)))
        .or_else(|| compare("the scores", |s| json!(s.metrics)))
}

fn response(index: usize, before: &Response, now: &Response) -> Option<Difference> {
    let at = |step, source, what| Difference { response: Some(index), step, source, what };
    for (step, (before, now)) in before.trace.iter().zip(&now.trace).enumerate() {
        if let Some((source, what)) = token(before, now) {
            return Some(at(Some(step), source, what));
        }
    }
    if let Some(step) = before.tokens.iter().zip(&now.tokens).position(|(before, now)| before != now) {
        let what = said("the token", &json!(before.tokens[step]), &json!(now.tokens[step]));
        return Some(at(Some(step), None, what));
    }
    let whole = |response: &Response| {
        json!({
            "the number of tokens": response.tokens.len(),
            "the log-probability": response.log_prob,
            "the end": response.finish,
            "whether it is greedy": response.is_greedy,
            "the text": response.text,
        })
    };
    let (before, now) = (whole(before), whole(now));
    let (before, now) = (before.as_object()?, now.as_object()?);
    // Fewer tokens explain all the rest.
    let order = ["the number of tokens", "the log-probability", "the end", "whether it is greedy", "the text"];
    let what = order.into_iter().find(|key| before[*key] != now[*key])?;
    Some(at(None, None, said(what, &before[what], &now[what])))
}

fn token(before: &TokenRecord, now: &TokenRecord) -> Option<(Option<String>, String)> {
    let roles = before.roles.iter().zip(&now.roles).find_map(|(before, now)| {
        let what = differs("the log-probability", &before.log_prob, &now.log_prob)
            .or_else(|| differs("the top tokens", &top_logprobs(before), &top_logprobs(now)))?;
        Some((Some(format!("{} as {}", before.source, before.role)), what))
    });
    roles.or_else(|| {
        let what = differs("the trace", &before.trace, &now.trace)
            .or_else(|| differs("the token", &before.token, &now.token))
            .or_else(|| differs("the fused log-probability", &before.log_prob, &now.log_prob))?;
        Some((None, what))
    })
}

fn top_logprobs(role: &BindingToken) -> Vec<(u32, f64)> {
    role.top_logprobs.iter().map(|top| (top.token, top.log_prob)).collect()
}

fn differs<T: serde::Serialize>(what: &str, before: &T, now: &T) -> Option<String> {
    let (before, now) = (json!(before), json!(now));
    (before != now).then(|| said(what, &before, &now))
}

fn said(what: &str, before: &Value, now: &Value) -> String {
    format!("{what}: {} before, {} now", cut(before), cut(now))
}

/// A value on one line that is not too long to read.
fn cut(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

//! How much of a run a report keeps in memory.

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::{Response, SampleRecord, TokenRecord};
use serde_json::Value;

/// Names and numbers of all traces together: about 250 MB.
const TRACED: usize = 4_000_000;
/// Bytes of texts and items.
const TEXTS: usize = 512 << 20;

/// Takes the traces away from samples that are too many to be drawn, every cell having its share.
pub(crate) struct Budget {
    share: usize,
    cells: BTreeMap<(String, String), usize>,
    traced: usize,
    texts: usize,
    /// Samples whose traces were taken away.
    pub(crate) left_out: usize,
}

impl Budget {
    pub(crate) fn new(cells: usize) -> Self {
        Self { share: TRACED / cells.max(1), cells: BTreeMap::new(), traced: 0, texts: 0, left_out: 0 }
    }

    /// The sample as it is to be kept.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the texts alone are too long.
    pub(crate) fn admit(&mut self, mut sample: SampleRecord) -> Result<SampleRecord> {
        let trace: usize = sample.responses.iter().flat_map(|response| &response.trace).map(size).sum();
        if trace > 0 {
            let used = self.cells.entry((sample.variant.clone(), sample.task.clone())).or_default();
            // The first of a cell has its place, unless it would take that of all others.
            let fits = (*used == 0 || *used + trace <= self.share) && self.traced + trace <= TRACED;
            if fits {
                *used += trace;
                self.traced += trace;
            } else {
                self.left_out += 1;
                for response in &mut sample.responses {
                    response.trace = Vec::new();
                }
            }
        }
        let values = sample.filtered.values().chain(sample.metrics.values()).chain(sample.doc.values());
        self.texts += sample.responses.iter().map(text).sum::<usize>()
            + values.chain([&sample.target]).map(weight).sum::<usize>();
        if self.texts > TEXTS {
            let message = format!("samples.jsonl: more than {} MiB of texts, and a report keeps no more", TEXTS >> 20);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_help("metrics.json has the figures; run the experiment in parts"));
        }
        Ok(sample)
    }
}

fn size(token: &TokenRecord) -> usize {
    let roles: usize = token.roles.iter().map(|role| 1 + role.top_logprobs.len()).sum();
    1 + token.trace.len() + token.top_logprobs.len() + roles
}

fn text(response: &Response) -> usize {
    128 + response.text.len() + 4 * response.tokens.len()
}

fn weight(value: &Value) -> usize {
    64 + match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(table) => table.iter().map(|(key, value)| 64 + key.len() + weight(value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(variant: &str, tokens: usize, text: usize) -> SampleRecord {
        let token = json!({ "token": 1, "text": "a", "log_prob": -0.5, "top_logprobs": [], "trace": {}, "roles": [] });
        serde_json::from_value(json!({
            "schema_version": 1, "variant": variant, "task": "t", "doc_id": "0", "doc_index": 0, "repeat": 0, "doc": {}, "target": "x",
            "prompt_sha256": "p", "filtered": {}, "metrics": {},
            "responses": [{ "text": "x".repeat(text), "tokens": [], "log_prob": 0.0, "trace": vec![token; tokens] }],
        }))
        .unwrap()
    }

    #[test]
    fn every_cell_has_its_share_of_traces() {
        let mut budget = Budget::new(4_000);
        let mut kept =
            |variant: &str, tokens| !budget.admit(sample(variant, tokens, 1)).unwrap().responses[0].trace.is_empty();
        assert_eq!(
            [kept("a", 600), kept("a", 400), kept("a", 1), kept("b", 2000), kept("b", 1), kept("c", 1)],
            [true, true, false, true, false, true]
        );
        assert_eq!(budget.left_out, 2);
    }

    #[test]
    fn texts_without_end_are_refused() {
        let mut budget = Budget::new(1);
        let long = sample("a", 0, 60 << 20);
        let refused = (0..10).find_map(|_| budget.admit(long.clone()).err()).unwrap();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
}

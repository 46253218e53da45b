//! lm-eval's filters.

use logitfuse_metrics::filter::FilterPipeline;
use serde_json::{Value, json};

use crate::{Comparison, digest, indices, rows, strings, texts};

#[test]
fn filters_answer_what_lm_eval_answers() {
    let texts = texts();
    let mut comparison = Comparison::default();
    let mut groups = Vec::new();
    for row in rows("filters") {
        if let Some(these) = row["groups"].as_array() {
            groups = these.iter().map(indices).collect();
            continue;
        }
        let pipeline = FilterPipeline::from_json(&json!({ "name": "x", "filter": row["filter"] })).unwrap();
        if let Some(votes) = row["votes"].as_array() {
            for (group, theirs) in groups.iter().zip(votes) {
                let responses: Vec<String> = group.iter().map(|i| texts[*i].clone()).collect();
                let ours = pipeline.apply(&responses, &[]).unwrap();
                comparison.check(
                    &(&row["filter"], &responses),
                    digest(ours.first().unwrap()),
                    theirs.as_u64().unwrap(),
                );
            }
            continue;
        }
        let choices = strings(&row["choices"]);
        let fallback = row["filter"][0]["fallback"].as_str().unwrap_or("[invalid]");
        for (i, text) in texts.iter().enumerate() {
            let theirs = row["others"].get(i.to_string()).unwrap_or(&row["usual"]);
            let ours = pipeline.apply(std::slice::from_ref(text), &choices).unwrap();
            let ours = ours.first().unwrap();
            let same = match theirs {
                Value::String(theirs) => ours == theirs,
                Value::Number(n) if n.as_u64() == Some(0) => ours == fallback,
                Value::Number(n) if n.as_u64() == Some(1) => ours == text,
                theirs => theirs.as_u64() == Some(digest(ours)),
            };
            comparison.check(&(&row["filter"], &choices, text, ours, theirs), same, true);
        }
    }
    comparison.finish(20_000);
}

//! One model, two prompts: what a passage changes, amplified.

use std::{collections::BTreeMap, path::Path};

use logitfuse_config::Config;
use logitfuse_core::Result;
use logitfuse_engine::Cancel;
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::{RunConfig, Sample, SourceConfig, StrategyConfig};
use serde_json::json;

use crate::{
    args::{Format, Global, PrintArgs},
    decode, output,
    trace::{LEGEND, Table},
};

/// One of the 24 items of `examples/experiments/data/counterfactual.jsonl`, each a passage that contradicts what a model
/// learnt. It was chosen because here the model with the passage in its prompt still answers from memory, and short
/// enough to read at a glance. How all 24 come out is in the README.
const PASSAGE: &str = "Newly found papers prove that the play Hamlet was written by Margaret Lane, not by anyone else.";
const QUESTION: &str = "Who wrote the play Hamlet?";

const SYSTEM: &str = "You are a helpful assistant. Answer in one short sentence.";

pub(super) fn show(global: &Global, model: &Path, alpha: f64, runtime: &Runtime, cancel: &Cancel) -> Result<()> {
    output::title("Context: one untuned model, with a passage and without it")?;
    output::line(&format!("passage:  {PASSAGE}\nquestion: {QUESTION}\n"))?;
    let sample = Sample { id: "hamlet".to_owned(), fields: json!({ "passage": PASSAGE, "question": QUESTION }) };
    let both = "{{ passage }}\n\n{{ question }}";
    for (label, user, alpha) in [
        ("without the passage".to_owned(), "{{ question }}", None),
        ("with it in the prompt".to_owned(), both, None),
        (format!("fused, alpha = {alpha}"), both, Some(alpha)),
    ] {
        let mut opened = decode::open_on(global, &config(model, user, alpha), runtime)?;
        let print = PrintArgs { format: None, trace: true, timings: false };
        let decoded = decode::sample(global, &mut opened, 0, &sample, print, Format::Jsonl, cancel)?;
        output::line(&format!("{label:<22} {}", decoded.generation.text.trim()))?;
        if cancel.is_cancelled() {
            return Ok(());
        }
        if alpha.is_some() {
            let table = Table::new(&opened.pipeline);
            let rows: String = decoded.tokens.iter().map(|report| table.row(report)).collect();
            output::write_all(format!("\n{}{rows}{LEGEND}", table.header()).as_bytes())?;
            output::say(global.quiet, &decode::summary(&opened.pipeline, &decoded.generation));
        }
    }
    Ok(())
}

/// The model with one prompt, or with two fused: `base` has read the passage, `anti` has not, and what tells them apart is
/// amplified by `alpha` (context-aware decoding).
fn config(model: &Path, user: &str, alpha: Option<f64>) -> Config {
    let source = |user: &str| SourceConfig {
        system: Some(SYSTEM.to_owned()),
        user: user.to_owned(),
        ..SourceConfig::new(model)
    };
    let mut sources = BTreeMap::from([("base".to_owned(), source(user))]);
    let mut strategy = StrategyConfig::default();
    if let Some(alpha) = alpha {
        sources.insert("anti".to_owned(), source("{{ question }}"));
        strategy.id = Some("in-context".to_owned());
        strategy.params.insert("alpha".to_owned(), json!(alpha));
    }
    Config { run: RunConfig { max_new_tokens: 40, ..RunConfig::default() }, ..Config::new(sources, strategy) }
}

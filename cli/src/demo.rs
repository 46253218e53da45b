//! `logitfuse demo`: what in-context fusion does, on a real model, from nothing.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use logitfuse_experiment::{Config, RunConfig, Sample, SourceConfig, StrategyConfig};
use logitfuse_onnx::Runtime;
use logitfuse_setup::{Environment, Weights, find_or_install_runtime, model_smollm2, smollm2_dir};
use serde_json::{Value, json};

use crate::{
    INTERRUPTED,
    args::{DemoArgs, Format, Global, PrintArgs},
    decode, output, signal,
    trace::{LEGEND, Table},
};

/// One of the 24 items of `examples/experiments/data/counterfactual.jsonl`, each a passage that contradicts what a model
/// learnt. It was chosen because here the model with the passage in its prompt still answers from memory, and short
/// enough to read at a glance. How all 24 come out is in the README.
const ITEM: &str = r#"{"passage": "Newly found papers prove that the play Hamlet was written by Margaret Lane, not by anyone else.", "question": "Who wrote the play Hamlet?"}"#;

const SYSTEM: &str = "You are a helpful assistant. Answer in one short sentence.";

pub(crate) fn run(global: &Global, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    let mut say = |line: &str| output::say(global.quiet, &format!("set-up: {line}"));
    let found = find_or_install_runtime(&env, global.ort_lib.as_deref(), &mut say)?;
    let runtime = Runtime::load(&found.library)?;
    say(&format!("ONNX Runtime {} ({})", runtime.version(), found.origin));
    let model = match &args.model {
        Some(model) => model.clone(),
        None => model_smollm2(&env, &smollm2_dir(&env, Weights::Int8)?, Weights::Int8, &mut say)?,
    };
    say(&format!("model: {}", model.display()));

    let fields: Value = serde_json::from_str(ITEM)?;
    let sample = Sample { id: "hamlet".to_owned(), fields };
    output::line(&format!("\npassage:  {}", sample.fields["passage"].as_str().unwrap_or_default()))?;
    output::line(&format!("question: {}\n", sample.fields["question"].as_str().unwrap_or_default()))?;

    let cancel = signal::cancel_on_interrupt()?;
    let both = "{{ passage }}\n\n{{ question }}";
    for (label, user, alpha) in [
        ("without the passage".to_owned(), "{{ question }}", None),
        ("with it in the prompt".to_owned(), both, None),
        (format!("fused, alpha = {}", args.alpha), both, Some(args.alpha)),
    ] {
        let mut wired = decode::wire(global, config(&model, user, alpha), &runtime)?;
        let print = PrintArgs { format: None, trace: true, timings: false };
        let decoded = decode::sample(global, &mut wired, 0, &sample, print, Format::Jsonl, &cancel)?;
        output::line(&format!("{label:<22} {}", decoded.generation.text.trim()))?;
        if cancel.is_cancelled() {
            return Ok(ExitCode::from(INTERRUPTED));
        }
        if alpha.is_some() {
            let table = Table::new(&wired);
            let rows: String = decoded.tokens.iter().map(|report| table.row(report)).collect();
            output::write_all(format!("\n{}{rows}{LEGEND}", table.header()).as_bytes())?;
            output::say(global.quiet, &decode::summary(&wired, &decoded.generation));
        }
    }
    Ok(ExitCode::SUCCESS)
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

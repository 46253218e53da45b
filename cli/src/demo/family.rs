//! The family of `examples/family`: a large untuned base, steered by a small expert.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use logitfuse_config::Config;
use logitfuse_core::Result;
use logitfuse_engine::Cancel;
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::{RunConfig, Sample, SourceConfig, StrategyConfig};
use logitfuse_setup::Environment;
use serde_json::json;

use super::{
    columns::{Column, side_by_side, terminal_width},
    strengths,
};
use crate::{
    args::{Format, Global, PrintArgs},
    decode, output,
};

const FOLDER: &str = "examples/family/models";

/// `math-test-2` of `examples/family/data/math.test.jsonl`: the first item of the task that the fused model answers and neither
/// model alone does, each for a reason of its own. How all 256 come out is in docs/results.md.
const PROMPT: &str =
    "Problem: Anna has 99 cards. Anna gives away 38. Anna sells 29. Anna finds 12. How many now?\nWork:";
const ANSWER: &str = "99 - 38 = 61. 61 - 29 = 32. 32 + 12 = 44.";

/// The models, if we are in a checkout: they come with the repository and not with the binary.
pub(super) fn models(env: &Environment) -> Option<PathBuf> {
    let folders = env.current_dir().ancestors().map(|folder| folder.join(FOLDER));
    folders.into_iter().find(|folder| folder.join("L/model.onnx").is_file())
}

pub(super) fn show(global: &Global, models: &Path, runtime: &Runtime, cancel: &Cancel) -> Result<()> {
    output::title("Weak to strong: a large untuned model, a small one tuned for sums, and both fused")?;
    output::line(&format!("{PROMPT}\n\nright: {ANSWER}\n"))?;
    let sample = Sample { id: "cards".to_owned(), fields: json!({ "prompt": PROMPT }) };
    let mut columns = Vec::new();
    let mut trace = String::new();
    for (title, roles) in [
        ("base: large, 5.2 M parameters, untuned", &["L"][..]),
        ("expert: small, 0.27 M, tuned for sums", &["S-math"]),
        ("fused: base + α · (expert − small untuned)", &["L", "S-math", "S"]),
    ] {
        let mut opened = decode::open_on(global, &config(models, roles), runtime)?;
        let print = PrintArgs { format: None, trace: true, timings: false };
        let decoded = decode::sample(global, &mut opened, 0, &sample, print, Format::Jsonl, cancel)?;
        if cancel.is_cancelled() {
            return Ok(());
        }
        columns.push(Column { title, text: decoded.generation.text.trim().to_owned() });
        trace = strengths::strip(&opened.pipeline, &decoded.tokens, terminal_width())?;
    }
    output::write_all(side_by_side(&columns, terminal_width()).as_bytes())?;
    output::write_all(
        format!("\nα of every token (where the expert and its untuned self agree, none changes anything):\n\n{trace}")
            .as_bytes(),
    )
}

/// One model by itself, or `[base, expert, anti]` fused dynamically.
fn config(models: &Path, members: &[&str]) -> Config {
    let source =
        |member: &str| SourceConfig { chat_template: "none".to_owned(), ..SourceConfig::new(models.join(member)) };
    let sources: BTreeMap<String, SourceConfig> = ["base", "expert", "anti"]
        .iter()
        .zip(members)
        .map(|(role, member)| ((*role).to_owned(), source(member)))
        .collect();
    let id = (sources.len() > 1).then(|| "dynamic-kl".to_owned());
    let run = RunConfig { max_new_tokens: 56, stop: vec!["\n".to_owned()], ..RunConfig::default() };
    Config { run, ..Config::new(sources, StrategyConfig { id, ..StrategyConfig::default() }) }
}

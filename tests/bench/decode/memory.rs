//! (d) The most memory that one source holds, in a process of its own, against its weights and its cache.

use std::{path::PathBuf, process::Command, sync::Arc};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, ResultExt};
use logitfuse_engine::{BaseOnly, Decoder, Request, Role};
use logitfuse_onnx::{Runtime, Spin};
use serde::{Deserialize, Serialize};

use crate::{
    Bench,
    contest::{Contestant, Task},
    machine::memory,
    model::{Model, Threads},
    peer::Peer,
    report::{Row, Section, Target, Unit},
    say,
    stats::{Ratio, Summary},
};

const CONTEXT: usize = 1000;

/// What the measured process is told.
#[derive(clap::Args)]
pub(crate) struct Order {
    runtime: PathBuf,
    models: PathBuf,
    weights: String,
    new_tokens: usize,
    threads: usize,
    spin: u8,
}

/// What it answers, in bytes.
#[derive(Serialize, Deserialize)]
struct Answer {
    /// Resident before the model: the program itself, the tokenizer, ONNX Runtime.
    before: u64,
    /// The peak while the model was opened.
    opening: u64,
    /// Resident once it was open.
    opened: u64,
    /// The peak of all.
    peak: u64,
    weights: u64,
    cache: u64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section { title: "(d) Peak resident memory", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        compare(bench, model, &mut section)?;
    }
    section.notes.push(
        "Before the model there is the program, the tokenizer and ONNX Runtime; all of it counts as resident, pages of \
         files included, which the system may drop."
            .to_owned(),
    );
    Ok(section)
}

fn compare(bench: &Bench, model: &Model, section: &mut Section) -> Result<()> {
    let case = format!("{}, {CONTEXT} + {} tokens", model.weights, bench.effort.new_tokens);
    say(&format!("(d) {case}"));
    let threads = model.plan(&bench.runtime, &["base"], "none")?.0[0];
    let mut answers = Vec::new();
    for _ in 0..bench.effort.processes {
        answers.push(in_child(bench, model, threads)?);
    }
    let floor = |a: &Answer| (a.weights + a.cache) as f64;
    let megabytes = |what: &str, of: &dyn Fn(&Answer) -> u64| {
        Row::new(&case, what, Unit::Megabytes, Summary::of(answers.iter().map(|a| of(a) as f64 / 1e6)))
    };
    let ratio = Ratio::of_shares(answers.iter().map(|a| a.peak as f64 / floor(a)));
    let own = Ratio::of_shares(answers.iter().map(|a| (a.peak - a.before) as f64 / floor(a)));
    section.rows.extend([
        megabytes("weights + cache", &|a| a.weights + a.cache),
        megabytes("logitfuse, before the model", &|a| a.before),
        megabytes("logitfuse, peak while opening", &|a| a.opening),
        megabytes("logitfuse, once open", &|a| a.opened),
        megabytes("logitfuse, peak", &|a| a.peak).compared("weights + cache", ratio).target(Target::AtMost(1.2)),
        megabytes("logitfuse, peak without what was there before the model", &|a| a.peak - a.before)
            .compared("weights + cache", own),
    ]);

    let mut peer = Peer::start(&bench.python, model, threads)?;
    peer.turn(&Task { prompts: vec![model.prompt(0, CONTEXT)?], new_tokens: bench.effort.new_tokens })?;
    let peak = peer.peak_resident_bytes()? as f64;
    let ratio = Ratio::of_shares(answers.iter().map(|a| peak / floor(a)));
    let row = Row::new(&case, "genai and its Python, peak", Unit::Megabytes, Summary::of([peak / 1e6]));
    section.rows.push(row.compared("weights + cache", ratio));
    Ok(())
}

/// A fresh process, so that nothing of this one is counted.
fn in_child(bench: &Bench, model: &Model, threads: Threads) -> Result<Answer> {
    let this = std::env::current_exe().or_err(ErrorKind::Io, "this program")?;
    let output = Command::new(&this)
        .arg("memory")
        .args([bench.runtime.library(), &bench.model_dir])
        .args([model.weights, &bench.effort.new_tokens.to_string(), &threads.count.to_string()])
        .arg(u8::from(threads.spin != Spin::Never).to_string())
        .output()
        .or_err(ErrorKind::Io, this.display())?;
    if !output.status.success() {
        let message = format!("{}: {}", this.display(), String::from_utf8_lossy(&output.stderr).trim());
        return Err(Error::new(ErrorKind::Io, message));
    }
    serde_json::from_slice(&output.stdout).or_err(ErrorKind::Io, this.display())
}

/// The measured process: opens the model, decodes, and says on stdout what it held.
pub(crate) fn child(order: &Order) -> Result<String> {
    let weights = if order.weights == "fp32" { "fp32" } else { "int8" };
    let model = Model::find(&order.models, weights)?;
    let prompt = model.prompt(0, CONTEXT)?;
    let runtime = Runtime::load(&order.runtime)?;
    let before = held("VmRSS")?;
    let source = model.open(
        &runtime,
        Threads { count: order.threads, spin: if order.spin > 0 { Spin::Always } else { Spin::Never } },
    )?;
    let (opening, opened) = (held("VmHWM")?, held("VmRSS")?);
    let tokens = (prompt.len() + order.new_tokens) as u64;
    let cache = tokens * source.info().kv_bytes_per_token;

    let mut engine =
        Decoder::builder(Arc::new(BaseOnly::new())).source(Box::new(source)).roles([Role::new("base", 0)]).build()?;
    let mut request = Request::new([prompt]).max_new_tokens(order.new_tokens);
    request.ignore_end_of_sequence = true;
    engine.generate_one(&request)?;
    let answer = Answer { before, opening, opened, peak: held("VmHWM")?, weights: model.folder.weight_bytes(), cache };
    serde_json::to_string(&answer).or_err(ErrorKind::Internal, "the answer")
}

fn held(line: &str) -> Result<u64> {
    memory(line).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("/proc/self/status: has no {line}"))
            .with_help("memory is measured on Linux only: choose other parts with --only")
    })
}

//! The decode benchmark: how fast, how costly, how large, against onnxruntime-genai and against ourselves.
//!
//! `cargo xtask bench` prepares what it needs and runs it. A table goes to stdout, all numbers to
//! `target/bench/bench.json`, talk to stderr. Nothing here decides whether a build is good: a busy machine may miss a
//! target, which the table then says.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to whoever started it")]

mod by_hand;
mod contest;
mod entrant;
mod fused;
mod machine;
mod memory;
mod model;
mod ours;
mod peer;
mod plugin;
mod probe;
mod prompts;
mod report;
mod single;
mod stats;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx::Runtime;
use logitfuse_setup::{Environment, env, env::Variable, find_runtime};

use crate::{
    machine::{Machine, Versions},
    model::Model,
    report::{Report, Section},
};

/// Measures decoding on this machine.
#[derive(Parser)]
struct Arguments {
    /// Fewer rounds: a first look
    #[arg(long)]
    quick: bool,
    /// Only this part: (a) one source against onnxruntime-genai, (b) three sources fused, (c) two prompts of one model,
    /// (d) memory, (e) three sources fused by hand, (f) a plugin against the strategy built in
    #[arg(long)]
    only: Option<Part>,
    /// Cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    A,
    B,
    C,
    D,
    E,
    F,
}

impl Part {
    fn measure(self, bench: &Bench) -> Result<Section> {
        match self {
            Self::A => single::measure(bench),
            Self::B => fused::measure(bench),
            Self::C => prompts::measure(bench),
            Self::D => memory::measure(bench),
            Self::E => by_hand::measure(bench),
            Self::F => plugin::measure(bench),
        }
    }
}

#[derive(Subcommand)]
enum Child {
    /// The process that (d) measures
    #[command(hide = true)]
    Memory(memory::Order),
}

/// How much is measured.
struct Effort {
    rounds: usize,
    new_tokens: usize,
    tuning_rounds: usize,
    tuning_tokens: usize,
    /// Processes whose memory is measured.
    processes: usize,
}

impl Effort {
    const FULL: Self = Self { rounds: 9, new_tokens: 64, tuning_rounds: 3, tuning_tokens: 24, processes: 3 };
    const QUICK: Self = Self { rounds: 3, new_tokens: 64, tuning_rounds: 1, tuning_tokens: 16, processes: 1 };
}

/// What everything is measured with.
struct Bench {
    runtime: Runtime,
    python: PathBuf,
    model_dir: PathBuf,
    models: Vec<Model>,
    effort: Effort,
}

impl Bench {
    fn new(quick: bool) -> Result<Self> {
        let env = Environment::of_process();
        let (python, model_dir) = (prepared(&env, &env::PEER_PYTHON)?, prepared(&env, &env::MODELS)?);
        let runtime = Runtime::load(&find_runtime(&env, None)?.library)?;
        let models = ["int8", "fp32"].map(|weights| Model::find(&model_dir, weights));
        let models = models.into_iter().collect::<Result<_>>()?;
        Ok(Self { runtime, python, model_dir, models, effort: if quick { Effort::QUICK } else { Effort::FULL } })
    }
}

fn prepared(env: &Environment, variable: &Variable) -> Result<PathBuf> {
    env.path(variable).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("{}: is not set", variable.name))
            .with_help("run `cargo xtask bench`, which prepares everything and sets it")
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.child {
        Some(Child::Memory(order)) => memory::child(order).map(|answer| println!("{answer}")),
        None => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            e.help().into_iter().for_each(|help| eprintln!("help: {help}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new(arguments.quick)?;
    let mut report = Report {
        machine: Machine::now(),
        versions: Versions::of(bench.runtime.version(), &bench.python)?,
        quick: arguments.quick,
        sections: Vec::new(),
    };
    println!("# Decoding\n\n{}", report.versions.line());
    for part in Part::value_variants().iter().filter(|&part| arguments.only.is_none_or(|only| only == *part)) {
        let section = part.measure(&bench)?;
        print!("{section}");
        report.sections.push(section);
    }
    report.machine.finished();
    println!("\n{}", report.machine.line());
    // Cargo names a folder of ours inside the target folder: its parent is the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
    let file = target.join("bench/bench.json");
    report.write(&file)?;
    say(&format!("all numbers: {}", file.display()));
    Ok(())
}

/// A line about what is going on.
fn say(line: &str) {
    eprintln!("bench: {line}");
}

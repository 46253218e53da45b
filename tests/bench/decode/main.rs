//! The decode benchmark: how fast, how costly, how large, against onnxruntime-genai and against ourselves.
//!
//! `cargo xtask bench` prepares what it needs and runs it. Tables go to stdout and, with machine and versions, to
//! `target/bench/bench.md`; all numbers go to `target/bench/bench.json`, talk to stderr. Nothing here decides whether a build is good: a busy machine may miss a
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
mod speculation;
mod stats;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx::{Runtime, Spin};
use logitfuse_setup::{Environment, env, env::Variable, find_runtime};

use crate::{
    machine::{Machine, Versions, cores},
    model::{Model, Threads},
    report::{Report, Section},
};

/// Measures decoding on this machine.
#[derive(Parser)]
struct Arguments {
    /// Fewer rounds, shorter texts, fewer ways to share the cores: a first look
    #[arg(long)]
    quick: bool,
    /// Only these parts: (a) one source against onnxruntime-genai, (b) three sources fused, (c) two prompts of one model,
    /// (d) memory, (e) three sources fused by hand, (f) a plugin against the strategy built in, (g) one source that
    /// speculates
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only the model with these weights; (g) drafts with int8 for fp32
    #[arg(long)]
    weights: Option<Weights>,
    /// Proxy tuning with transformers takes part in (e); `cargo xtask bench` installs it
    #[arg(long)]
    with_transformers: bool,
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
    G,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    Int8,
    Fp32,
}

impl Weights {
    fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp32 => "fp32",
        }
    }
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
            Self::G => speculation::measure(bench),
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
    quick: bool,
    rounds: usize,
    new_tokens: usize,
    tuning_rounds: usize,
    tuning_tokens: usize,
    /// Processes whose memory is measured.
    processes: usize,
}

impl Effort {
    const FULL: Self =
        Self { quick: false, rounds: 9, new_tokens: 64, tuning_rounds: 3, tuning_tokens: 24, processes: 3 };
    const QUICK: Self =
        Self { quick: true, rounds: 3, new_tokens: 32, tuning_rounds: 1, tuning_tokens: 8, processes: 1 };

    /// The ways to use the cores that are tried.
    fn threads(&self) -> Vec<Threads> {
        let mut candidates = Threads::candidates();
        if self.quick {
            candidates.retain(|threads| threads.count == 1 || threads.count == cores() && threads.spin != Spin::Never);
        }
        candidates
    }
}

/// What everything is measured with.
struct Bench {
    runtime: Runtime,
    python: PathBuf,
    model_dir: PathBuf,
    models: Vec<Model>,
    effort: Effort,
    with_transformers: bool,
}

impl Bench {
    fn new(arguments: &Arguments) -> Result<Self> {
        let env = Environment::of_process();
        let (python, model_dir) = (prepared(&env, &env::PEER_PYTHON)?, prepared(&env, &env::MODELS)?);
        let runtime = Runtime::load(&find_runtime(&env, None)?.library)?;
        let wanted = Weights::value_variants().iter().filter(|&one| arguments.weights.is_none_or(|only| only == *one));
        let models = wanted.map(|weights| Model::find(&model_dir, weights.name())).collect::<Result<_>>()?;
        let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
        Ok(Self { runtime, python, model_dir, models, effort, with_transformers: arguments.with_transformers })
    }

    fn model(&self, weights: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.weights == weights)
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
    let bench = Bench::new(arguments)?;
    let mut report = Report {
        machine: Machine::now(),
        versions: Versions::of(bench.runtime.version(), &bench.python, arguments.with_transformers)?,
        quick: arguments.quick,
        sections: Vec::new(),
    };
    println!("# Decoding\n\n{}", report.versions.line());
    let wanted = |part: &&Part| arguments.only.is_empty() || arguments.only.contains(part);
    for part in Part::value_variants().iter().filter(wanted) {
        let section = part.measure(&bench)?;
        print!("{section}");
        report.sections.push(section);
    }
    report.machine.finished();
    println!("\n{}", report.machine.line());
    // Cargo names a folder of ours inside the target folder: its parent is the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target"));
    let folder = target.join("bench");
    report.write(&folder)?;
    say(&format!("{0}/bench.md has the tables, {0}/bench.json all numbers", folder.display()));
    Ok(())
}

/// A line about what is going on.
fn say(line: &str) {
    eprintln!("bench: {line}");
}

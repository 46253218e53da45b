//! The sweep benchmark: forty strengths of a fusion by decoding, and on a tape.
//!
//! `cargo bench -p logitfuse-tests --bench tape` in the environment that `cargo xtask test` prepares. Prints a table: seconds of
//! forty strengths by decoding, of recording, and of the same forty on the tape. Nothing here decides whether a build is good.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to whoever started it")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use logitfuse_config::Config;
use logitfuse_core::Result;
use logitfuse_engine::Cancel;
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::PluginSettings;
use logitfuse_replay::{RowKind, Tape};
use logitfuse_setup::{Environment, find_runtime};
use logitfuse_tape::{Grid, RecordOptions, Reference, Replay, Setting, record};

/// Measures sweeps on this machine.
#[derive(Parser)]
struct Arguments {
    /// The experiment
    #[arg(long, default_value = "examples/experiments/counterfactual.toml")]
    config: PathBuf,
    /// Its first samples
    #[arg(long, default_value_t = 2)]
    samples: usize,
    /// The strengths
    #[arg(long, default_value = "alpha=0.05:2:0.05")]
    grid: Grid,
    /// Cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = Config::load(&root.join(&args.config))?;
    let runtime = Runtime::load(&find_runtime(&Environment::of_process(), None)?.library)?;
    let points = Grid::product(std::slice::from_ref(&args.grid))?;
    let decoded = decode(&config, &runtime, args.samples, &points)?;
    println!("{} strengths, {} samples", points.len(), args.samples);
    println!("decoding           {:9.2} s for {} tokens", decoded.seconds, decoded.tokens);
    let folder =
        tempfile::tempdir().map_err(|e| logitfuse_core::Error::new(logitfuse_core::ErrorKind::Io, e.to_string()))?;
    for rows in [RowKind::TopK(64), RowKind::F16, RowKind::F32] {
        let path = folder.path().join(rows.to_string());
        let options = RecordOptions {
            rows,
            reference: Reference::Generated,
            limit: Some(args.samples),
            ..RecordOptions::default()
        };
        let start = Instant::now();
        let plugins = PluginSettings::default();
        let recorded = record(&config, &runtime, 0, &plugins, &options, &path, &Cancel::new(), &mut |_, _| {})?;
        let recording = start.elapsed().as_secs_f64();
        let bytes = path.metadata().map_or(0, |file| file.len());
        let start = Instant::now();
        let replay = Replay::new(&path);
        let tape = Tape::open(&path)?;
        let candidate =
            |settings: &Vec<Setting>| replay.candidate(&config, tape.header(), tape.vocabulary(), settings, &plugins);
        let outcomes = replay.run(&points.iter().map(candidate).collect::<Result<Vec<_>>>()?, &Cancel::new())?;
        let seconds = start.elapsed().as_secs_f64();
        let tokens = recorded.tokens * outcomes.len();
        // Texts end where their strength ends them, so what is compared is the time of a token.
        let ratio = (decoded.seconds / decoded.tokens as f64) / (seconds / tokens as f64);
        println!(
            "tape {:<10} {seconds:13.2} s for {tokens} tokens, {ratio:.0} x a decoded token's; recorded in {recording:.2} s, {} kB",
            rows.to_string(),
            bytes / 1024
        );
    }
    Ok(())
}

struct Decoded {
    seconds: f64,
    tokens: usize,
}

/// Opening models is not counted: a sweep need not do it more than once.
fn decode(config: &Config, runtime: &Runtime, samples: usize, points: &[Vec<Setting>]) -> Result<Decoded> {
    let mut total = Decoded { seconds: 0.0, tokens: 0 };
    for settings in points {
        let mut config = config.clone();
        settings.iter().try_for_each(|setting| setting.apply(&mut config.strategy))?;
        let samples: Vec<_> = config.samples()?.into_iter().take(samples).collect();
        let pipeline = config.open(runtime, 0, &PluginSettings::default())?;
        let start = Instant::now();
        for (index, sample) in samples.iter().enumerate() {
            let request = pipeline.request_for(index, &sample.fields)?;
            total.tokens += pipeline.decoder().generate_one(&request)?.tokens.len();
        }
        total.seconds += start.elapsed().as_secs_f64();
        eprintln!("{}: {:.2} s so far", settings[0], total.seconds);
    }
    Ok(total)
}

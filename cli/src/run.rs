//! `logitfuse run`: prompts to JSON lines, or tasks to a run directory.

mod meter;
mod prompts;
mod suite;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use logitfuse_config::Experiment;
use logitfuse_rundir::Shard;

use crate::args::{Global, OverrideArgs, PrintArgs};

pub(crate) use self::{
    meter::Meter,
    suite::{Machine, RerunArgs, RunArgsOfDirectory, print, rerun},
};

#[derive(Args)]
#[command(
    after_help = "An experiment without [tasks] generates for its prompts: JSON lines on stdout, or in --output FILE.\n\
    With [tasks] it is a run: every variant on every task, into a directory:\n  \
    resolved.toml   the experiment, with what it inherits and --set\n  \
    manifest.json   sha256 of every model, tokenizer, template, data file and plugin; versions; the machine\n  \
    samples.jsonl   one line a sample, written as it is finished\n  \
    timings.jsonl   where the time of each sample went\n  \
    metrics.json    figures with intervals, from the samples alone\n  \
    report.html     the picture\n\
    Killed or interrupted, the same command goes on where it was; nothing is lost, nothing made twice. With another\n\
    model, file or version it refuses: results are never mixed.\n\n\
    Examples:\n  \
    logitfuse run family.toml                     writes runs/family, prints the table\n  \
    logitfuse run family.toml --limit 20 -o quick a look; not for reporting\n  \
    logitfuse run family.toml --shard 1/4 -o s1   a quarter; `logitfuse merge s1 s2 s3 s4 -o all` joins them\n  \
    logitfuse verify runs/family --samples 50     makes 50 samples again, names the first that differs\n  \
    logitfuse compare runs/family runs/new        paired differences with intervals\n\n\
    Exit status: 1 if an [[expect]] of the experiment does not hold."
)]
pub(crate) struct RunArgs {
    /// The experiment
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// The run directory [default: runs/NAME of NAME.toml]; without tasks a JSONL file to append to. What is there already
    /// is not made again
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Only the first N items of every task, or N prompts; such figures are marked
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
    /// Only every N-th item, from the I-th on: for N machines, each with its own directory
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub(crate) shard: Option<Shard>,
    /// Samples that are decoded at once [default: `batch` of [run], else 8; 4 without tasks]; changes how long it takes and
    /// how much memory, not what comes out. Prompts with `--format text` or `--timings` are taken one at a time
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batch: Option<usize>,
    /// Write no report.html
    #[arg(long)]
    pub(crate) no_report: bool,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
}

pub(crate) fn run(global: &Global, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    if experiment.has_tasks() { suite::run(global, args, experiment) } else { prompts::run(global, args, &experiment) }
}

fn shard(text: &str) -> Result<Shard, String> {
    let number = |text: &str| text.parse::<usize>().ok();
    let parsed = text.split_once('/').and_then(|(index, of)| Some((number(index)?, number(of)?)));
    match parsed {
        Some((index, of)) if 1 <= index && index <= of => Ok(Shard { index: index - 1, of }),
        _ => Err("write I/N with 1 ≤ I ≤ N, such as 1/4".to_owned()),
    }
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "must be 1 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_count_from_one() {
        assert_eq!(shard("4/4"), Ok(Shard { index: 3, of: 4 }));
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0", "-1/2"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}

//! Flags of `logitfuse run` and of the commands that work on run directories.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use logitfuse_rundir::Shard;

use super::{Format, OverrideArgs, PrintArgs, at_least_one};

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
    logitfuse run family.toml --shard 1/4 -o s1   a quarter; `logitfuse merge-shards s1 s2 s3 s4 -o all` joins them\n  \
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

/// Flags of the commands that execute what a directory holds.
#[derive(Args)]
pub(crate) struct RunDirectoryArgs {
    /// Where the experiment's relative paths begin [default: where they began when the run was made]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Samples that are decoded at once; changes how long it takes, not what comes out
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batch: Option<usize>,
}

#[derive(Args)]
#[command(after_help = "Example:\n  logitfuse rerun runs/family -o runs/family-again && \
                        logitfuse compare runs/family runs/family-again")]
pub(crate) struct RerunArgs {
    /// A run directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The new directory [default: DIR-again]
    #[arg(short, long, value_name = "DIR2")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) of: RunDirectoryArgs,
    /// text is a table, json is metrics.json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Args)]
#[command(
    after_help = "Tokens, log-probabilities (all bits), texts and scores are compared; of traced samples also what\n\
                        every source thought of every token. Exit status: 0 all the same, 1 one differs."
)]
pub(crate) struct VerifyArgs {
    /// A run directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Only so many items, spread evenly over the run
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) samples: Option<usize>,
    #[command(flatten)]
    pub(crate) of: RunDirectoryArgs,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Args)]
#[command(after_help = "Example:\n  logitfuse merge-shards s1 s2 s3 s4 -o runs/family\n\n\
                        The new directory holds the bytes that one run would have written.")]
pub(crate) struct MergeShardsArgs {
    /// Directories of the same experiment
    #[arg(required = true, value_name = "DIR")]
    pub(crate) directories: Vec<PathBuf>,
    /// The new directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Where the experiment's relative paths begin [default: where they began on the first directory's machine]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// text is a table, json is metrics.json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse compare runs/before runs/after\n  \
    logitfuse compare runs/family runs/family --variant large=static --variant large=dynamic")]
pub(crate) struct CompareArgs {
    /// A run directory
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// Another one, or the same
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    /// A variant of A and one of B; repeat for each [default: variants of the same name]
    #[arg(long, value_name = "A=B")]
    pub(crate) variant: Vec<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Args)]
#[command(after_help = "Example:\n  logitfuse report runs/family\n\n\
                        `run` makes the page by itself at its end; this makes it again from the same files, \
                        with another version or after `merge-shards`.")]
pub(crate) struct ReportArgs {
    /// A directory that `logitfuse run` wrote to the end
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Figures as svg alone, or as svg and png [default: all that this build has]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<FigureFormat>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FigureFormat {
    Svg,
    Png,
}

fn shard(text: &str) -> Result<Shard, String> {
    let number = |text: &str| text.parse::<usize>().ok();
    let parsed = text.split_once('/').and_then(|(index, of)| Some((number(index)?, number(of)?)));
    match parsed {
        Some((index, of)) if 1 <= index && index <= of => Ok(Shard { index: index - 1, of }),
        _ => Err("write I/N with 1 ≤ I ≤ N, such as 1/4".to_owned()),
    }
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

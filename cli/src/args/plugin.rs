//! Flags of `logitfuse plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// The plugins of this machine, one line a strategy; none of their code runs
    List {
        /// text, json, or jsonl
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
    /// A plugin's metadata and sha256; none of its code runs
    Show {
        /// A file, or the id of a strategy
        plugin: String,
        /// text, json, or jsonl
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
    /// Test a plugin against the ABI and the strategy laws, each case in a process of its own
    Check(CheckArgs),
    /// Write a plugin to start from, which builds and passes `check` as it is
    New(NewArgs),
    /// Write plugins with their sha256 into `logitfuse.lock`, beside the experiment
    Lock {
        /// Experiments, whose plugins are meant, or libraries
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// One case of `check`, in a process that may die
    #[command(hide = true)]
    CheckCase {
        /// What to try
        request: PathBuf,
        /// Where to write what was found
        record: PathBuf,
    },
}

#[derive(Args)]
#[command(after_help = "Exit status: 0 nothing found, 1 something found, 2 the check could not be made.\n\
                        Findings can be had again with --filter GROUP/NAME and the seed that the report names.")]
pub(crate) struct CheckArgs {
    /// The library
    #[arg(value_name = "FILE")]
    pub(crate) plugin: PathBuf,
    /// Only this strategy of the plugin
    #[arg(long, value_name = "ID")]
    pub(crate) strategy: Option<String>,
    /// The parameters to try it with, as a JSON object [default: as few as its schema allows]
    #[arg(long, value_name = "JSON")]
    pub(crate) params: Option<String>,
    /// Only cases whose group/name contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Seed of random rows and parameters
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Random rows for each law
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) cases: u32,
    /// Go on with random rows and parameters for so long: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) fuzz: Option<std::time::Duration>,
    /// What one case may take: 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(crate) timeout: std::time::Duration,
    /// Processes at the same time; 0 is one for each core
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub(crate) jobs: usize,
    /// Run cases in this process, one after the other and for as long as they take, for a debugger; what the plugin breaks is
    /// broken
    #[arg(long, conflicts_with_all = ["timeout", "jobs"])]
    pub(crate) in_process: bool,
    /// text, json, or junit
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
    Junit,
}

#[derive(Args)]
pub(crate) struct NewArgs {
    /// The strategy's id, in kebab-case
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The language to write it in
    #[arg(long, value_name = "LANG", default_value = "rust")]
    pub(crate) lang: Language,
    /// The folder to write; it must not exist [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Where logitfuse's sources are, for a plugin in Rust: it depends on the SDK in there
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    C,
}

pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write a number and s, m or h".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number and s, m or h".to_owned())?;
    Ok(std::time::Duration::from_secs(number.saturating_mul(seconds)))
}

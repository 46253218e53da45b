//! Flags of `logitfuse tasks`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum TasksCommand {
    /// Write a task file of lm-eval as a table for an experiment's TOML
    #[command(after_help = "Example:\n  logitfuse tasks import gsm8k.yaml --data gsm8k.jsonl >> experiment.toml")]
    Import {
        /// The task file; files that it includes are read too
        #[arg(value_name = "FILE.yaml")]
        file: PathBuf,
        /// Its items, as JSONL; without it a comment says how to write them
        #[arg(long, value_name = "FILE.jsonl")]
        data: Option<PathBuf>,
    },
}

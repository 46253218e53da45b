//! Flags and values that several commands share.

use clap::{Args, ValueEnum};
use logitfuse_config::Overrides;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
    Jsonl,
}

/// Overrides of an experiment's TOML for this invocation.
#[derive(Args, Default)]
#[command(next_help_heading = "Experiment")]
pub(crate) struct OverrideArgs {
    /// Set a key of the experiment; has the last word over variants and tasks. VALUE is TOML or a bare word, paths are
    /// relative to the working directory; repeat for each: `--set strategy.params.alpha=0.5 --set run.stop=[]`
    #[arg(long, value_name = "PATH=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
    /// Take a key of the experiment away, in variants and tasks too; before --set; repeat for each
    #[arg(long, value_name = "PATH")]
    pub(crate) unset: Vec<String>,
}

impl OverrideArgs {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { set: self.set.clone(), unset: self.unset.clone() }
    }
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "must be 1 or more".to_owned())
}

//! Flags of `logitfuse config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OverrideArgs;

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// The experiment as one TOML, with all that it extends and with --set; or one variant with everything resolved
    Show(ShowArgs),
    /// Find everything that is wrong without loading a model: keys, parameters, roles, folders, templates, data
    Check(CheckArgs),
    /// The JSON Schema of an experiment's TOML, for editors
    Schema {
        /// With the parameters of every strategy, built in or of a plugin that is found; none of their code runs
        #[arg(long)]
        with_plugins: bool,
    },
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The experiment
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: PathBuf,
    /// Show where every value comes from
    #[arg(long)]
    pub(crate) origin: bool,
    /// This variant, with every default written out
    #[arg(long, value_name = "NAME", conflicts_with = "origin")]
    pub(crate) variant: Option<String>,
    /// The variant on this task
    #[arg(long, value_name = "NAME", conflicts_with = "origin")]
    pub(crate) task: Option<String>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The experiments
    #[arg(required = true, value_name = "FILE.toml")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
}

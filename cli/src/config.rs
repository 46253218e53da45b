//! `logitfuse config`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use logitfuse_config::{Experiment, json_schema, json_schema_with};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_eval::preflight;
use logitfuse_pipeline::built_in;
use serde_json::Value;

use crate::{
    args::{Global, OverrideArgs},
    output, plugin,
};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// The experiment as one TOML, with all that it extends and with --set; or all that one variant comes down to
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
    file: PathBuf,
    /// Show where every value comes from
    #[arg(long)]
    origin: bool,
    /// This variant, with every default written out
    #[arg(long, value_name = "NAME", conflicts_with = "origin")]
    variant: Option<String>,
    /// The variant on this task
    #[arg(long, value_name = "NAME", conflicts_with = "origin")]
    task: Option<String>,
    #[command(flatten)]
    overrides: OverrideArgs,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The experiments
    #[arg(required = true, value_name = "FILE.toml")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
}

pub(crate) fn run(global: &Global, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Show(args) => show(args)?,
        ConfigCommand::Check(args) => check(global, args)?,
        ConfigCommand::Schema { with_plugins: false } => output::json(&json_schema(), true)?,
        ConfigCommand::Schema { with_plugins: true } => output::json(&schema_of_this_machine(global)?, true)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A plugin that cannot be read has no parameters to complete; `plugin list` says why.
fn schema_of_this_machine(global: &Global) -> Result<Value> {
    let mut strategies: Vec<_> = built_in().into_iter().map(|info| (info.id, info.params_schema)).collect();
    for plugin in plugin::search_path(global).scan()?.into_iter().filter_map(|found| found.plugin.ok()) {
        let infos = plugin.metadata().strategies.iter().map(|strategy| &strategy.info);
        strategies.extend(infos.map(|info| (format!("plugin:{}", info.id), info.params_schema.clone())));
    }
    Ok(json_schema_with(strategies))
}

fn show(args: &ShowArgs) -> Result<()> {
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    let text = if args.variant.is_some() || args.task.is_some() {
        experiment.cell_toml(args.variant.as_deref(), args.task.as_deref())?
    } else if args.origin {
        experiment.resolved_toml_with_origins()
    } else {
        experiment.resolved_toml()
    };
    output::write_all(text.as_bytes())
}

fn check(global: &Global, args: &CheckArgs) -> Result<()> {
    for file in &args.files {
        let experiment = Experiment::load(file, &args.overrides.overrides())?;
        preflight(&experiment, &plugin::settings(global))?;
        if !experiment.has_tasks() && experiment.variants().len() > 1 {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: variants without tasks", file.display()))
                .with_help("add [tasks.NAME] with data that every variant answers"));
        }
        output::line(&format!("{}: sound; {}", file.display(), extent(&experiment)))?;
    }
    Ok(())
}

/// How much there is to run.
fn extent(experiment: &Experiment) -> String {
    if !experiment.has_tasks() {
        return "no tasks".to_owned();
    }
    let tasks = experiment.cells().len() / experiment.variants().len().max(1);
    format!("{} variants on {tasks} tasks: {}", experiment.variants().len(), experiment.variants().join(", "))
}

//! `logitfuse config`.

use std::process::ExitCode;

use logitfuse_config::{Experiment, json_schema, json_schema_with};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_eval::preflight;
use logitfuse_pipeline::built_in;
use serde_json::Value;

use crate::{
    args::{
        Global,
        config::{CheckArgs, ConfigCommand, ShowArgs},
    },
    diagnostics, output, plugin,
};

/// Variants that are named.
const SHOWN: usize = 50;

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
        let warnings = preflight(&experiment, &plugin::settings(global))?;
        diagnostics::warn(global.quiet, &warnings);
        if !experiment.has_tasks() && experiment.variants().len() > 1 {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: variants without tasks", file.display()))
                .with_help("add [tasks.NAME] with data that every variant answers"));
        }
        let unrun = unrun(global, &experiment)?;
        output::line(&format!("{}: sound; {}{unrun}", file.display(), extent(&experiment)))?;
    }
    Ok(())
}

/// What of the experiment was read and not run.
fn unrun(global: &Global, experiment: &Experiment) -> Result<String> {
    let files = plugin::files(global, experiment)?;
    let named: Vec<String> = files.iter().map(|file| format!("{}", file.path().display())).collect();
    Ok(if named.is_empty() { String::new() } else { format!("; read and not run: {}", named.join(", ")) })
}

/// How much there is to run.
fn extent(experiment: &Experiment) -> String {
    if !experiment.has_tasks() {
        return "no tasks".to_owned();
    }
    let tasks = experiment.cells().len() / experiment.variants().len().max(1);
    let (variants, all) = (experiment.variants(), experiment.variants().len());
    let more = if all > SHOWN { ", …" } else { "" };
    format!("{all} variants on {tasks} tasks: {}{more}", variants[..all.min(SHOWN)].join(", "))
}

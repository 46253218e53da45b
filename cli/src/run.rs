//! `logitfuse run`: prompts to JSON lines, or tasks to a run directory.

mod progress;
mod prompts;
mod suite;
mod table;

use std::process::ExitCode;

use logitfuse_config::Experiment;

use crate::{
    args::{Global, RunArgs},
    diagnostics,
};

pub(crate) use self::{
    progress::ProgressReporter,
    suite::{RunContext, print, rerun},
};

pub(crate) fn run(global: &Global, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    diagnostics::warn(global.quiet, &experiment.idle_settings());
    if experiment.has_tasks() { suite::run(global, args, experiment) } else { prompts::run(global, args, &experiment) }
}

//! `logitfuse tasks`: evaluation tasks.

use std::process::ExitCode;

use logitfuse_eval::task::import;

use crate::{args::TasksCommand, output};

pub(crate) fn run(command: &TasksCommand) -> anyhow::Result<ExitCode> {
    let TasksCommand::Import { file, data } = command;
    output::write_all(import(file, data.as_deref())?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

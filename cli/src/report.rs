//! `logitfuse report`: the page of a run directory, made again.

use std::process::ExitCode;

use crate::{args::ReportArgs, output};

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let page = logitfuse_report::write(&args.directory)?;
    output::line(&page.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

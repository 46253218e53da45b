//! `logitfuse report`: the page of a run directory, made again.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::output;

#[derive(Args)]
#[command(after_help = "Example:\n  logitfuse report runs/family\n\n\
                        `run` makes the page by itself at its end; this makes it again from the same files, \
                        with another version or after a merge.")]
pub(crate) struct ReportArgs {
    /// A directory that `logitfuse run` wrote to the end
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let page = logitfuse_report::write(&args.directory)?;
    output::line(&page.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

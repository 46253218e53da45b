//! `logitfuse report`: the page of a run directory, made again.

use std::process::ExitCode;

use logitfuse_report::{
    FigureFormat::{Png, Svg},
    Report,
};

use crate::{
    args::{FigureFormat, ReportArgs},
    output,
};

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let report = Report::of(&args.directory)?;
    let page = match args.format {
        None => report.write(&args.directory)?,
        Some(FigureFormat::Svg) => report.write_as(&args.directory, &[Svg])?,
        Some(FigureFormat::Png) => report.write_as(&args.directory, &[Svg, Png])?,
    };
    output::line(&page.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

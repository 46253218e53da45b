//! `logitfuse merge`: the directories of `run --shard` become one.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use logitfuse_core::Result;
use logitfuse_eval::run::finish;
use logitfuse_rundir::{Run, merge, missing};

use crate::{
    args::{Format, Global},
    output,
    run::print,
};

#[derive(Args)]
#[command(after_help = "Example:\n  logitfuse merge s1 s2 s3 s4 -o runs/family\n\n\
                        The new directory holds the bytes that one run would have written.")]
pub(crate) struct MergeArgs {
    /// Directories of the same experiment
    #[arg(required = true, value_name = "DIR")]
    pub(crate) directories: Vec<PathBuf>,
    /// The new directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Where the experiment's relative paths begin [default: where they began on the first directory's machine]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// text is a table, json is metrics.json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

pub(crate) fn run(global: &Global, args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let runs = args.directories.iter().map(|path| Run::open(path)).collect::<Result<Vec<_>>>()?;
    let merged = merge(&runs, &args.output)?;
    let (there, all) = (merged.samples(), merged.reader()?.manifest().samples());
    if there < all {
        let to = args.output.display();
        let lacking = missing(&runs)?.join("\n  ");
        let what =
            format!("{to}: {there} of {all} samples\n  {lacking}\n`logitfuse run` with `-o {to}` makes the rest");
        output::say(global.quiet, &what);
        return Ok(ExitCode::SUCCESS);
    }
    // The tasks say what samples are worth; neither models nor ONNX Runtime are needed.
    print(&finish(&merged, args.folder.clone())?, args.format)?;
    let written = logitfuse_report::write(&args.output)?;
    output::say(global.quiet, &format!("\n{}", written.display()));
    Ok(ExitCode::SUCCESS)
}

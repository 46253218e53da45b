//! `logitfuse merge-shards`: the directories of `run --shard` become one.

use std::process::ExitCode;

use logitfuse_core::Result;
use logitfuse_eval::run::finish;
use logitfuse_rundir::{Run, merge, missing};

use crate::{
    args::{Global, MergeShardsArgs},
    output,
    run::print,
};

pub(crate) fn run(global: &Global, args: &MergeShardsArgs) -> anyhow::Result<ExitCode> {
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
    let metrics = finish(&merged, args.folder.clone())?;
    // The reader of stdout may have gone; the page is there all the same.
    let written = logitfuse_report::write(&args.output)?;
    print(&metrics, args.format)?;
    output::say(global.quiet, &format!("\n{}", written.display()));
    Ok(ExitCode::SUCCESS)
}

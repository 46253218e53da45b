//! `logitfuse verify`: whether a run is reproducible.

use std::process::ExitCode;

use logitfuse_eval::{run, run::Verification};
use logitfuse_rundir::Run;
use serde_json::json;

use crate::{
    args::{Format, Global, VerifyArgs},
    output,
    run::{ProgressReporter, RunContext},
    signal::INTERRUPTED,
};

pub(crate) fn run(global: &Global, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let run = Run::open(&args.directory)?;
    let context = RunContext::find(global)?;
    let mut progress = ProgressReporter::new(global);
    let options = context.options(global, args.of.batch);
    let verified = run::verify(&run, args.of.folder.clone(), args.samples, &options, &mut |event| progress.on(&event));
    progress.end();
    let Verification { same, first, versions, complete } = verified?;
    for version in &versions {
        output::say(global.quiet, &format!("note: {version}"));
    }
    if args.format == Format::Text {
        let what = match &first {
            None => format!("{same} samples are the same"),
            Some((key, difference)) => format!("{same} samples are the same, then {key} differs: {difference}"),
        };
        output::line(&what)?;
    } else {
        let first = first.as_ref().map(|(key, difference)| {
            json!({
                "sample": key,
                "response": difference.response,
                "step": difference.step,
                "source": difference.source,
                "difference": difference.what,
            })
        });
        let record = json!({ "schema_version": 1, "same": same, "first_difference": first, "versions": versions });
        output::json(&record, args.format == Format::Json)?;
    }
    Ok(match (first, complete) {
        (Some(_), _) => ExitCode::from(1),
        (None, false) => ExitCode::from(INTERRUPTED),
        (None, true) => ExitCode::SUCCESS,
    })
}

//! `logitfuse verify`: whether a run can be made again.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use logitfuse_eval::{run, run::Verification};
use logitfuse_rundir::Run;
use serde_json::json;

use crate::{
    INTERRUPTED,
    args::{Format, Global},
    output,
    run::{Machine, Meter, RunArgsOfDirectory, at_least_one},
};

#[derive(Args)]
#[command(
    after_help = "Tokens, log-probabilities (all bits), texts and scores are compared; of traced samples also what\n\
                        every source thought of every token. Exit status: 0 all the same, 1 one differs."
)]
pub(crate) struct VerifyArgs {
    /// A run directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Only so many items, spread evenly over the run
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) samples: Option<usize>,
    #[command(flatten)]
    pub(crate) of: RunArgsOfDirectory,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

pub(crate) fn run(global: &Global, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let run = Run::open(&args.directory)?;
    let machine = Machine::find(global)?;
    let mut meter = Meter::new(global);
    let options = machine.options(global, args.of.batch);
    let verified =
        run::verify(&run, args.of.folder.clone(), args.samples, &options, &mut |progress| meter.on(&progress));
    meter.end();
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

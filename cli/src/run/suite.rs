//! A run: every variant on every task, into a directory.

use std::{path::Path, process::ExitCode};

use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_engine::Cancel;
use logitfuse_eval::{run::RunOptions, run::Suite, run::failures};
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::PluginSettings;
use logitfuse_rundir::{Metrics, Run, Scope};

use super::{progress::ProgressReporter, table::table};
use crate::{
    args::{Format, Global, RerunArgs, RunArgs},
    decode, output, plugin,
    signal::{self, INTERRUPTED},
};

/// ONNX Runtime, plugins and the interrupt flag: what a run needs besides its experiment.
pub(crate) struct RunContext {
    runtime: Runtime,
    plugins: PluginSettings,
    pub(crate) cancel: Cancel,
}

impl RunContext {
    pub(crate) fn find(global: &Global) -> Result<Self> {
        decode::forward_plugin_log(global);
        Ok(Self {
            runtime: decode::runtime(global)?,
            plugins: plugin::settings(global),
            cancel: signal::cancel_on_interrupt()?,
        })
    }

    pub(crate) fn options(&self, global: &Global, batch: Option<usize>) -> RunOptions<'_> {
        RunOptions { threads: global.threads, batch, ..RunOptions::new(&self.runtime, &self.plugins, &self.cancel) }
    }
}

pub(crate) fn run(global: &Global, args: &RunArgs, experiment: Experiment) -> anyhow::Result<ExitCode> {
    let format = format(args)?;
    let directory = args.output.clone().unwrap_or_else(|| Path::new("runs").join(experiment.name()));
    if directory.is_file() {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: is a file", directory.display()))
            .with_help("an experiment with [tasks] writes a directory; name one with `-o`")
            .into());
    }
    let context = RunContext::find(global)?;
    let scope = Scope { limit: args.limit, shard: args.shard };
    let suite = Suite::new(experiment, RunOptions { scope, ..context.options(global, args.batch) })?;
    execute(global, &suite, &context, &directory, format, !args.no_report)
}

fn format(args: &RunArgs) -> Result<Format> {
    let wrong = |message: &str| Err(Error::new(ErrorKind::InvalidConfig, message));
    match args.print.format {
        Some(Format::Jsonl) => wrong("--format jsonl: the samples of an experiment with [tasks] are in its directory")
            .map_err(|e| e.with_help("`--format json` prints metrics.json, text a table")),
        _ if args.print.trace || args.print.timings => {
            wrong("--trace, --timings: an experiment with [tasks] writes both into its directory")
                .map_err(|e| e.with_help("set run.traced_samples; times are in timings.jsonl"))
        }
        format => Ok(format.unwrap_or(Format::Text)),
    }
}

/// Runs a suite to its end and prints what came of it.
pub(crate) fn execute(
    global: &Global,
    suite: &Suite<'_>,
    context: &RunContext,
    directory: &Path,
    format: Format,
    report: bool,
) -> anyhow::Result<ExitCode> {
    let mut progress = ProgressReporter::new(global);
    let metrics = suite.run(directory, &mut |event| progress.on(&event));
    progress.end();
    let Some(metrics) = metrics? else {
        let made = progress.total;
        if context.cancel.is_cancelled() {
            let what = format!("interrupted after {made} samples; the same command goes on from there");
            output::say(global.quiet, &what);
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let what = format!(
            "{}: this shard is complete; `logitfuse merge-shards` joins it with the others",
            directory.display()
        );
        output::say(global.quiet, &what);
        return if progress.failed == 0 { Ok(ExitCode::SUCCESS) } else { Err(samples_failed(progress.failed).into()) };
    };
    // What is asked of a run is done whatever becomes of stdout, whose reader may have gone: `run … | head -1`.
    let page = report.then(|| logitfuse_report::write(directory)).transpose();
    let printed = print(&metrics, format);
    let run = Run::open(directory)?;
    drafting(global, &run)?;
    for note in run.saturation()?.notes() {
        output::say(global.quiet, &format!("note: {note}"));
    }
    if let Ok(Some(page)) = &page {
        output::say(global.quiet, &format!("\n{}", page.display()));
    }
    let failures = failures(suite.experiment(), &metrics)?;
    for failure in &failures {
        output::talk(&format!("expectation failed: {}", failure.what));
    }
    page?;
    printed?;
    // A directory that is complete may hold failures of an earlier process, so the figures say and not the progress.
    let failed = metrics.failures.iter().map(|of_cell| of_cell.failed).sum();
    if failed > 0 {
        return Err(samples_failed(failed).into());
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What ends a run in which a plugin failed, after everything is written.
fn samples_failed(count: usize) -> Error {
    let what = format!("{count} samples failed: the strategy's plugin did; `error` in samples.jsonl says why");
    Error::new(ErrorKind::Backend, what).with_help(
        "the other samples are scored without them; `logitfuse plugin check` finds what is wrong with the plugin, and \
         on_error = \"fallback_to_base\" goes on with the base",
    )
}

/// Reports the predicted and the achieved speed of drafts, on stderr: times differ from run to run.
fn drafting(global: &Global, run: &Run) -> Result<()> {
    for (forecast, of) in run.drafting()? {
        let (Some(predicted), Some(achieved)) = (forecast.tokens_per_second(&of), of.tokens_per_second()) else {
            continue;
        };
        let accepted = of.acceptance().map_or("nothing drafted".to_owned(), |share| {
            format!("{:.0} % of {} drafted tokens accepted", 100.0 * share, of.drafted)
        });
        let (variant, task, draft) = (&forecast.variant, &forecast.task, &forecast.draft);
        let line = format!(
            "{variant} × {task}: {draft} drafts: {accepted}; {predicted:.0} tokens/s predicted, {achieved:.0} achieved"
        );
        output::say(global.quiet, &line);
    }
    Ok(())
}

/// The table, or `metrics.json`.
pub(crate) fn print(metrics: &Metrics, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text => output::line(&table(metrics))?,
        _ => output::json(&serde_json::to_value(metrics)?, format == Format::Json)?,
    }
    Ok(())
}

/// The same experiment once more, as its directory remembers it.
pub(crate) fn rerun(global: &Global, args: &RerunArgs) -> anyhow::Result<ExitCode> {
    let run = Run::open(&args.directory)?;
    let context = RunContext::find(global)?;
    let suite = Suite::of_run(&run, args.of.folder.clone(), &context.options(global, args.of.batch))?;
    let changes = run.manifest().identity.differences(&suite.manifest().identity);
    for change in &changes {
        output::say(global.quiet, &format!("note: {change}"));
    }
    let directory = args.output.clone().unwrap_or_else(|| {
        let mut name = args.directory.file_name().unwrap_or_default().to_owned();
        name.push("-again");
        args.directory.with_file_name(name)
    });
    execute(global, &suite, &context, &directory, args.format, true)
}

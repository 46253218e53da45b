//! Prompts: every sample of an experiment without tasks, one JSON line each.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressStyle};
use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use logitfuse_engine::{Cancel, FinishReason};
use logitfuse_pipeline::{Sample, is_plugin_failure};
use serde_json::Value;

use crate::{
    args::{Format, Global, RunArgs},
    batch,
    decode::{self, Decoded, Opened},
    output, plugin,
    record::RecordNames,
    signal::{self, INTERRUPTED},
};

/// Prompts that are decoded at once unless `--batch` says otherwise.
const BATCH: usize = 4;

pub(crate) fn run(global: &Global, args: &RunArgs, experiment: &Experiment) -> anyhow::Result<ExitCode> {
    if args.shard.is_some() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "--shard: prompts without [tasks] have no directory to merge",
        )
        .with_help("add [tasks.NAME] with `data`, or split the data")
        .into());
    }
    if args.no_report {
        return Err(Error::new(ErrorKind::InvalidConfig, "--no-report: prompts without [tasks] have no report")
            .with_help("leave it out")
            .into());
    }
    let format = args.print.format.unwrap_or(Format::Jsonl);
    if format == Format::Json || (format == Format::Text && args.output.is_some()) {
        return Err(Error::new(ErrorKind::InvalidConfig, "`run` writes jsonl, or text to stdout")
            .with_help("leave --format out, or turn lines into one document with `jq -s`")
            .into());
    }
    if args.print.timings && format == Format::Text {
        return Err(Error::new(ErrorKind::InvalidConfig, "--timings: text has none")
            .with_help("leave --format out: the JSON lines have them")
            .into());
    }
    if args.batch.is_some_and(|batch| batch > 1) && (format == Format::Text || args.print.timings) {
        let flag = if args.print.timings { "--timings" } else { "--format text" };
        output::say(
            global.quiet,
            &format!("warning: --batch has no effect beside {flag}, which takes prompts one at a time"),
        );
    }
    let config = experiment.config()?;
    let batch = args.batch.or(config.run.batch).unwrap_or(BATCH);
    let mut samples = config.samples()?;
    samples.truncate(args.limit.unwrap_or(usize::MAX));
    if samples.is_empty() {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: nothing to generate", args.file.display()))
            .with_help("set run.prompts or run.data")
            .into());
    }
    let mut log = args.output.as_deref().map(Log::open).transpose()?;
    let todo: Vec<(usize, &Sample)> =
        samples.iter().enumerate().filter(|(_, s)| !log.as_ref().is_some_and(|log| log.done.contains(&s.id))).collect();
    if todo.len() < samples.len() {
        let kept = samples.len() - todo.len();
        output::say(global.quiet, &format!("{kept} of {} samples are there already", samples.len()));
    }
    if todo.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }

    let cancel = signal::cancel_on_interrupt()?;
    let mut opened = decode::open(global, &config)?;
    let bar = bar(global, todo.len());
    let (mut count, mut failed) = (0, 0);
    let mut write = |record: &Value| match &mut log {
        Some(log) => log.append(record),
        None if format == Format::Jsonl => output::json(record, false),
        None => Ok(()),
    };
    let mut progress = |id: &str, summary: &str| {
        count += 1;
        bar.inc(1);
        if bar.is_hidden() {
            output::say(global.quiet, &format!("{count}/{} {id} {summary}", todo.len()));
        }
    };
    // Streaming and times are of one sample each.
    let one_by_one = format == Format::Text || args.print.timings || batch <= 1;
    let complete = if one_by_one {
        each(global, args, format, &mut opened, &todo, &cancel, &mut |finished| {
            failed += usize::from(finished.failed);
            write(&finished.record)?;
            progress(&finished.id, &finished.summary);
            Ok(())
        })?
    } else {
        let Opened { pipeline, decoder } = &mut opened;
        batch::samples(pipeline, decoder, &todo, batch, args.print, &cancel, &mut |finished| {
            failed += usize::from(finished.failed);
            write(&finished.record)?;
            let failure = finished.record.get("error").and_then(Value::as_str).map(|error| format!("failed: {error}"));
            progress(&finished.id, &failure.unwrap_or_else(|| format!("[{} tokens]", finished.tokens)));
            Ok(())
        })?
    };
    if complete {
        bar.finish_and_clear();
        plugin::print_summary(global, &opened.pipeline);
        return if failed == 0 { Ok(ExitCode::SUCCESS) } else { Err(samples_failed(failed, todo.len()).into()) };
    }
    bar.abandon();
    output::say(global.quiet, &format!("interrupted after {count} samples; the same command goes on from there"));
    Ok(ExitCode::from(INTERRUPTED))
}

/// What ends a run in which a plugin failed, after everything is written.
fn samples_failed(failed: usize, of: usize) -> Error {
    let what = format!("{failed} of {of} samples failed: the strategy's plugin did; `error` in their lines says why");
    Error::new(ErrorKind::Backend, what).with_help(
        "the same command makes them again; `logitfuse plugin check` finds what is wrong with the plugin, and \
         on_error = \"fallback_to_base\" goes on with the base",
    )
}

/// What is said of a finished sample.
struct Finished {
    record: Value,
    id: String,
    summary: String,
    failed: bool,
}

/// One sample after the other; hands over each one's record, id and summary. Returns false if it was interrupted.
fn each(
    global: &Global,
    args: &RunArgs,
    format: Format,
    opened: &mut Opened,
    todo: &[(usize, &Sample)],
    cancel: &Cancel,
    done: &mut dyn FnMut(Finished) -> Result<()>,
) -> Result<bool> {
    for (index, sample) in todo {
        if format == Format::Text {
            output::line(&format!("## {}", sample.id))?;
        }
        let id = sample.id.clone();
        let finished = match decode::sample(global, opened, *index, sample, args.print, format, cancel) {
            Ok(Decoded { generation, .. }) if generation.finish == FinishReason::Cancelled => return Ok(false),
            Ok(Decoded { generation, record, .. }) => {
                Finished { record, id, summary: decode::summary(&opened.pipeline, &generation), failed: false }
            }
            Err(e) if is_plugin_failure(&e) => {
                let record = RecordNames::of(&opened.pipeline).failed(*index, sample, &e);
                Finished { record, id, summary: format!("failed: {e}"), failed: true }
            }
            Err(e) => return Err(e.context(id)),
        };
        done(finished)?;
    }
    Ok(true)
}

fn bar(global: &Global, samples: usize) -> ProgressBar {
    if global.quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} samples, {elapsed} gone, {eta} left");
    ProgressBar::new(samples as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A JSONL file that grows by one flushed line a sample; the ids in it are not generated again. Samples that failed are: their
/// lines are taken out, for what failed may have been mended.
struct Log {
    file: File,
    path: String,
    done: BTreeSet<String>,
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let file = OpenOptions::new().create(true).append(true).read(true).open(path).or_err(ErrorKind::Io, &shown)?;
        let mut done = BTreeSet::new();
        let mut whole = 0;
        let (mut kept, mut failures) = (String::new(), false);
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            let bytes = reader.read_line(&mut line).or_err(ErrorKind::InvalidData, &shown)?;
            if !line.ends_with('\n') {
                break;
            }
            let value = serde_json::from_str::<Value>(&line).unwrap_or_default();
            let Some(id) = value.get("id").and_then(Value::as_str) else {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    format!("{shown}:{number}: not a line of `logitfuse run`"),
                )
                .with_help("name another file with --output"));
            };
            whole += bytes as u64;
            if value.get("error").is_some() {
                failures = true;
                continue;
            }
            done.insert(id.to_owned());
            kept.push_str(&line);
        }
        drop(reader);
        if failures {
            return Self::rewritten(path, &kept, done);
        }
        // A line that a kill cut off is made again.
        file.set_len(whole).or_err(ErrorKind::Io, &shown)?;
        Ok(Self { file, path: shown, done })
    }

    /// The same file with these lines only; whenever it is killed, it holds all of the old ones or all of the new.
    fn rewritten(path: &Path, kept: &str, done: BTreeSet<String>) -> Result<Self> {
        let shown = path.display().to_string();
        let mut half = path.as_os_str().to_owned();
        half.push(".half");
        let half = Path::new(&half);
        let replaced = std::fs::write(half, kept).and_then(|()| std::fs::rename(half, path));
        replaced.or_err(ErrorKind::Io, &shown)?;
        let file = OpenOptions::new().append(true).open(path).or_err(ErrorKind::Io, &shown)?;
        Ok(Self { file, path: shown, done })
    }

    fn append(&mut self, record: &Value) -> Result<()> {
        let line = format!("{record}\n");
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush()).or_err(ErrorKind::Io, &self.path)
    }
}

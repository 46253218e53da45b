//! `logitfuse tape`: rows of models along given texts, recorded once and replayed without them.

use std::{fmt::Write, path::Path, process::ExitCode};

use indicatif::{ProgressBar, ProgressStyle};
use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx::Runtime;
use logitfuse_replay::{Rest, RowKind, Tape};
use logitfuse_setup::{Environment, find_runtime};
use logitfuse_tape::{Feeding, Grid, Outcome, RecordOptions, Replay, Setting, Summary, TextOutcome, record};
use serde_json::{Map, Value, json};

use crate::{
    args::{
        Format, Global,
        tape::{ReadArgs, RecordArgs, ReplayArgs, RestArg, TapeCommand},
    },
    output, plugin,
    signal::{self, INTERRUPTED},
    table::TextTable,
};

/// Rounding differs by less, whatever the order of the sums.
const NOTABLE: f64 = 0.01;

/// A replay of the tape as the flags ask for it.
pub(crate) fn replay(global: &Global, args: &ReadArgs, tape: &Path) -> Replay {
    let rest = match args.rest {
        None | Some(RestArg::Spread) => Rest::Spread,
        Some(RestArg::Mask) => Rest::Masked,
    };
    Replay { rest, limit: args.limit, threads: global.threads, ..Replay::new(tape) }
}

/// Says that a tape which holds every id leaves nothing over.
pub(crate) fn note_rest(global: &Global, args: &ReadArgs, rows: RowKind) {
    if args.rest.is_some() && !matches!(rows, RowKind::TopK(_)) {
        output::say(
            global.quiet,
            &format!("warning: --rest has no effect on a tape of {rows} rows, which hold every id"),
        );
    }
}

pub(crate) fn run(global: &Global, command: &TapeCommand) -> anyhow::Result<ExitCode> {
    match command {
        TapeCommand::Record(args) => run_record(global, args),
        TapeCommand::Replay(args) => run_replay(global, args),
        TapeCommand::Inspect { tape, format } => inspect(tape, *format),
    }
}

fn run_record(global: &Global, args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let config = Experiment::load(&args.file, &args.overrides.overrides())?.config()?;
    let default = if args.choices.is_some() { " {{ choice }}" } else { "answer" };
    let reference = args.reference.clone().map_or_else(|| default.parse(), Ok)?;
    let options = RecordOptions {
        rows: args.rows,
        reference,
        choices: args.choices.clone(),
        gold: args.gold.clone(),
        end_of_sequence: args.end_of_sequence,
        sources: args.source.clone(),
        limit: args.limit,
        feeding: if args.stepwise { Feeding::Stepwise } else { Feeding::Whole },
    };
    let found = find_runtime(&Environment::of_process(), global.ort_lib.as_deref())?;
    let runtime = Runtime::load(&found.library)?;
    let cancel = signal::cancel_on_interrupt()?;
    let bar = bar(global);
    let mut progress = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let plugins = plugin::settings(global);
    let recorded = record(&config, &runtime, global.threads, &plugins, &options, &args.output, &cancel, &mut progress)?;
    bar.finish_and_clear();
    let mut line = format!("{} texts of {} tokens recorded", recorded.texts, recorded.tokens);
    for (count, what) in [(recorded.there, "were there already"), (recorded.without, "samples have no such text")] {
        if count > 0 {
            let _ = write!(line, ", {count} {what}");
        }
    }
    if recorded.cancelled {
        output::say(global.quiet, &format!("interrupted: {line}; the same command goes on from there"));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    output::say(global.quiet, &line);
    let depends = |of: &&(String, f64)| of.1 > NOTABLE;
    if let Some((source, nats)) = recorded.dependence.iter().filter(depends).max_by(|a, b| a.1.total_cmp(&b.1)) {
        let what = format!(
            "warning: {source}: log-probabilities differ by up to {nats:.2} nats between a text that is read in one pass, as it was \
             recorded, and the same text token by token, as it would be decoded: what greedy decoding says may differ from `run`\n\
             help: --stepwise records rows as decoding makes them, at the speed of decoding"
        );
        output::say(global.quiet, &what);
    }
    Ok(ExitCode::SUCCESS)
}

fn bar(global: &Global) -> ProgressBar {
    if global.quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} texts, {elapsed} gone, {eta} left");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn run_replay(global: &Global, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = Experiment::load(&args.file, &args.overrides.overrides())?.config()?;
    if args.trace && args.format != Format::Jsonl {
        return Err(Error::new(ErrorKind::InvalidConfig, "--trace: tokens are lines of JSON")
            .with_help("add --format jsonl")
            .into());
    }
    let tape = Tape::open(&args.tape)?;
    let mut replay = replay(global, &args.read, &args.tape).with_tokenizer_of(&config, tape.header());
    replay.tokens = args.trace;
    note_rest(global, &args.read, tape.header().rows);
    note_tail(global, &args.tape, &tape);
    let plugins = plugin::settings(global);
    let points = Grid::product(&args.grid)?;
    let candidate =
        |settings: &Vec<Setting>| replay.candidate(&config, tape.header(), tape.vocabulary(), settings, &plugins);
    let candidates = points.iter().map(candidate).collect::<Result<Vec<_>>>()?;
    let outcomes = replay.run(&candidates, &signal::cancel_on_interrupt()?)?;
    match args.format {
        Format::Text => output::write_all(table(&outcomes).as_bytes())?,
        Format::Json => output::json(&document(&args.tape, &outcomes), true)?,
        Format::Jsonl => {
            for outcome in &outcomes {
                outcome.texts.iter().try_for_each(|text| output::json(&text_record(&outcome.settings, text), false))?;
            }
        }
    }
    match &outcomes[..] {
        [only] => note_path(global, only),
        _ if outcomes.iter().any(|outcome| outcome.texts.iter().any(|text| text.left.is_some())) => {
            let note =
                "note: where `exact` is below 1, greedy decoding leaves recorded texts; --format jsonl says where";
            output::say(global.quiet, note);
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what a recorder that was killed left behind.
pub(crate) fn note_tail<R>(global: &Global, path: &Path, tape: &Tape<R>)
where
    R: std::io::Read + std::io::Seek,
{
    if let Some(tail) = tape.tail() {
        let note = format!("note: {}: from byte {} on no whole text: {}", path.display(), tail.offset, tail.what);
        output::say(global.quiet, &format!("{note}; `logitfuse tape record` goes on from there"));
    }
}

/// Says where greedy decoding would have gone another way: what was scored from there on is teacher-forced.
fn note_path(global: &Global, outcome: &Outcome) {
    let left: Vec<&TextOutcome> = outcome.texts.iter().filter(|text| text.left.is_some()).collect();
    let Some((text, (at, token))) =
        left.iter().filter_map(|text| Some((text, text.left?))).min_by_key(|(_, left)| left.0)
    else {
        return;
    };
    let note = format!(
        "note: greedy decoding leaves {} of {} texts, the first at token {at} of `{}`, for id {token}",
        left.len(),
        outcome.texts.len(),
        text.info
    );
    output::say(global.quiet, &note);
}

/// One line per point.
fn table(outcomes: &[Outcome]) -> String {
    let summaries: Vec<Summary> = outcomes.iter().map(Outcome::summary).collect();
    let has_choices = summaries.iter().any(|summary| summary.acc.is_some());
    let masks = summaries.iter().any(|summary| summary.masked > 0);
    let is_open = summaries.iter().any(|summary| summary.exact_open > 0);
    let is_partial = summaries.iter().any(|summary| summary.unknown_mass > 0.0);
    let paths: Vec<&str> = outcomes.first().into_iter().flat_map(|o| &o.settings).map(|s| s.path.as_str()).collect();
    let mut head: Vec<String> = paths.iter().map(|path| path.rsplit('.').next().unwrap_or(path).to_owned()).collect();
    head.extend(["nll", "perplexity", "bits/byte", "greedy", "exact"].map(str::to_owned));
    if has_choices {
        head.extend(["acc", "acc_norm"].map(str::to_owned));
    }
    for (shown, name) in [(is_open, "open"), (masks, "masked"), (is_partial, "unknown")] {
        head.extend(shown.then(|| name.to_owned()));
    }
    let mut rows = vec![head];
    for (outcome, s) in outcomes.iter().zip(&summaries) {
        let mut row: Vec<String> = outcome.settings.iter().map(|setting| setting.value.to_string()).collect();
        row.push(format!("{:.4}", s.nll));
        row.push(format!("{:.3}", s.perplexity));
        row.push(format!("{:.4}", s.bits_per_byte));
        row.push(format!("{:.3}", s.greedy_agreement));
        row.push(format!("{:.3}", s.exact_path));
        if has_choices {
            row.extend([s.acc, s.acc_norm].map(|acc| acc.map_or_else(|| "-".to_owned(), |acc| format!("{acc:.3}"))));
        }
        row.extend(is_open.then(|| s.exact_open.to_string()));
        row.extend(masks.then(|| s.masked.to_string()));
        if is_partial {
            row.push(format!("{:.1e}", s.unknown_mass));
        }
        rows.push(row);
    }
    let columns = rows[0].len();
    TextTable::new(rows).right(0..columns).to_string()
}

fn settings_object(settings: &[Setting]) -> Map<String, Value> {
    settings.iter().map(|setting| (setting.path.clone(), json!(setting.value))).collect()
}

fn document(tape: &Path, outcomes: &[Outcome]) -> Value {
    let point = |o: &Outcome| json!({ "settings": settings_object(&o.settings), "summary": o.summary() });
    json!({
        "schema_version": 1,
        "tape": tape.display().to_string(),
        "points": outcomes.iter().map(point).collect::<Vec<_>>(),
    })
}

fn text_record(settings: &[Setting], text: &TextOutcome) -> Value {
    let mut record = json!({
        "schema_version": 1,
        "settings": settings_object(settings),
        "id": text.info.id,
        "tokens": text.info.tokens,
        "bytes": text.info.bytes,
        "log_prob": text.log_prob,
        "greedy_tokens": text.agreed,
        "left_at": text.left.map(|left| left.0),
        "left_for": text.left.map(|left| left.1),
        "exact": text.exact,
        "masked_tokens": text.masked,
        "unknown_mass": text.unknown,
        "unknown_nats": text.slack,
    });
    if let Some(choice) = text.info.choice {
        record["choice"] = json!(choice);
        record["gold"] = json!(text.info.gold);
    }
    if !text.tokens.is_empty() {
        let token = |t: &logitfuse_tape::TokenOutcome| json!({ "token": t.token, "log_prob": t.log_prob, "greedy": t.greedy, "trace": t.trace });
        record["trace"] = text.tokens.iter().map(token).collect();
    }
    record
}

fn inspect(path: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let mut tape = Tape::open(path)?;
    // Reading every block is what checks every sum.
    for text in 0..tape.texts().len() {
        let mut number = 0;
        while tape.block(text, number)?.is_some() {
            number += 1;
        }
    }
    let tokens: usize = tape.texts().iter().map(|text| text.info.tokens).sum();
    let header = tape.header();
    if format == Format::Text {
        let mut page = format!("{} texts of {tokens} tokens, rows {}, all whole\n", tape.texts().len(), header.rows);
        let ids = format!("{} of {}", tape.vocabulary().count(), tape.vocabulary().width());
        let mut facts = vec![["texts", &header.reference].map(str::to_owned), ["ids".to_owned(), ids]];
        for source in &header.sources {
            let roles = if source.roles.is_empty() { "no role".to_owned() } else { source.roles.join(", ") };
            let model = format!("{} ({roles}): {}, sha256 {}", source.name, source.model, source.sha256);
            facts.push(["source".to_owned(), model]);
        }
        if let Some(tail) = tape.tail() {
            facts.push(["tail".to_owned(), format!("from byte {}: {}", tail.offset, tail.what)]);
        }
        let _ = write!(page, "{}", TextTable::new(facts));
        output::write_all(page.as_bytes())?;
    } else {
        let tail = tape.tail().map(|tail| json!({ "offset": tail.offset, "what": tail.what }));
        let texts: Vec<_> = tape.texts().iter().map(|text| &text.info).collect();
        let all = json!({ "schema_version": 1, "header": header, "texts": texts, "tail": tail });
        output::json(&all, format == Format::Json)?;
    }
    // A tape that a recorder did not finish is read, and is not what it should be.
    Ok(if tape.tail().is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

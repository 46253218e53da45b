//! `logitfuse tape`: rows of models along given texts, recorded once and replayed without them.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use logitfuse_config::Experiment;
use logitfuse_core::Result;
use logitfuse_onnx::Runtime;
use logitfuse_replay::{Rest, RowKind, Tape};
use logitfuse_setup::{Environment, find_runtime};
use logitfuse_tape::{Grid, Outcome, RecordOptions, Reference, Replay, Setting, Summary, TextOutcome, record};
use serde_json::{Map, Value, json};

use crate::{
    INTERRUPTED,
    args::{Format, Global, OverrideArgs},
    output, plugin, signal,
};

#[derive(Subcommand)]
pub(crate) enum TapeCommand {
    /// Feed every source of an experiment the samples' texts and keep the rows; goes on with a tape that was begun
    Record(Box<RecordArgs>),
    /// Run the experiment's strategy on a tape: the probability of every text, and where greedy decoding would leave it
    Replay(Box<ReplayArgs>),
    /// What is on a tape, and whether all of it is whole
    Inspect {
        /// The tape
        #[arg(value_name = "TAPE")]
        tape: PathBuf,
        /// text or json
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: Format,
    },
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse tape record experiment.toml -o answers.lftape\n  \
    logitfuse tape record experiment.toml -o dense.lftape --rows f16 --reference generated\n  \
    logitfuse tape record quiz.toml -o quiz.lftape --choices options --gold gold --reference ' {{ choice }}.'\n\n\
    docs/tape.md has the layout of the file and a reader in Python.")]
pub(crate) struct RecordArgs {
    /// The experiment: its samples, and its sources with their prompts
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// The tape; samples that it holds already are not run again
    #[arg(short, long, value_name = "TAPE")]
    output: PathBuf,
    /// How rows are kept: f32 (as they come), f16 (rounded), or top-k=K (the best K of every source, and the mass of the rest)
    #[arg(long, value_name = "KIND", default_value = "top-k=64")]
    rows: RowKind,
    /// The texts: a field of the samples, a Jinja text over their fields, or `generated` by the experiment's strategy
    /// [default: answer; with --choices ' {{ choice }}']
    #[arg(long, value_name = "TEXT")]
    reference: Option<Reference>,
    /// A field with a list of choices; each becomes a text
    #[arg(long, value_name = "FIELD")]
    choices: Option<String>,
    /// The field with the right choice, or its number from 0
    #[arg(long, value_name = "FIELD", requires = "choices")]
    gold: Option<String>,
    /// Record the end of the texts, too: an end-of-sequence token
    #[arg(long)]
    end_of_sequence: bool,
    /// Only this source; repeat for each [default: all of the experiment]
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Only the first N samples
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// How a tape is read.
#[derive(Args)]
pub(crate) struct ReadArgs {
    /// What strategies see of ids that a top-k tape does not hold: an equal share of their mass, or that they are impossible
    #[arg(long, value_name = "HOW", default_value = "spread")]
    rest: RestArg,
    /// Only the first N texts
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum RestArg {
    Spread,
    Mask,
}

impl ReadArgs {
    pub(crate) fn replay(&self, global: &Global, tape: &Path) -> Replay {
        let rest = match self.rest {
            RestArg::Spread => Rest::Spread,
            RestArg::Mask => Rest::Masked,
        };
        Replay { rest, limit: self.limit, threads: global.threads, ..Replay::new(tape) }
    }
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse tape replay experiment.toml answers.lftape --grid alpha=0:2:0.05\n  \
    logitfuse tape replay experiment.toml answers.lftape --trace --format jsonl")]
pub(crate) struct ReplayArgs {
    /// The experiment: its strategy, and which source plays which role
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// The tape
    #[arg(value_name = "TAPE")]
    tape: PathBuf,
    /// Values to try: PATH=FROM:TO:STEP or PATH=A,B,C with PATH such as strategy.params.alpha, in short alpha; repeat for
    /// every combination
    #[arg(long, value_name = "PATH=VALUES")]
    grid: Vec<Grid>,
    #[command(flatten)]
    read: ReadArgs,
    /// text is a table; json one document; jsonl one line per text
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// With jsonl: every token, with the strategy's trace
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    overrides: OverrideArgs,
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
    let mut replay = args.read.replay(global, &args.tape);
    replay.tokens = args.trace && args.format == Format::Jsonl;
    let tape = Tape::open(&args.tape)?;
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
    let is_partial = summaries.iter().any(|summary| summary.unknown_mass > 0.0);
    let paths: Vec<&str> = outcomes.first().into_iter().flat_map(|o| &o.settings).map(|s| s.path.as_str()).collect();
    let mut head: Vec<String> = paths.iter().map(|path| path.rsplit('.').next().unwrap_or(path).to_owned()).collect();
    head.extend(["nll", "perplexity", "bits/byte", "greedy", "exact"].map(str::to_owned));
    if has_choices {
        head.extend(["acc", "acc_norm"].map(str::to_owned));
    }
    if is_partial {
        head.push("unknown".to_owned());
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
        if is_partial {
            row.push(format!("{:.1e}", s.unknown_mass));
        }
        rows.push(row);
    }
    let columns = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("{}\n", cells.join("  "))
    };
    rows.iter().map(line).collect()
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
        let _ = writeln!(page, "texts     {}", header.reference);
        let _ = writeln!(page, "ids       {} of {}", tape.vocabulary().count(), tape.vocabulary().width());
        for source in &header.sources {
            let roles = if source.roles.is_empty() { "no role".to_owned() } else { source.roles.join(", ") };
            let _ = writeln!(page, "source    {} ({roles}): {}, sha256 {}", source.name, source.model, source.sha256);
        }
        if let Some(tail) = tape.tail() {
            let _ = writeln!(page, "tail      from byte {}: {}", tail.offset, tail.what);
        }
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

//! `logitfuse fit`: parameters of a strategy fitted to a tape.

use std::{fmt::Write, process::ExitCode};

use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind};
use logitfuse_replay::Tape;
use logitfuse_tape::{Baseline, Fit, FitOptions, Range, Summary};
use serde_json::json;

use crate::{
    args::{Format, Global, tape::FitArgs},
    output, plugin, signal,
    table::TextTable,
    tape::{note_rest, note_tail, replay},
};

pub(crate) fn run(global: &Global, args: &FitArgs) -> anyhow::Result<ExitCode> {
    let config = Experiment::load(&args.file, &args.overrides.overrides())?.config()?;
    let ranges: Vec<Range> = match args.range[..] {
        [one] => vec![one; args.param.len()],
        _ => args.range.clone(),
    };
    if ranges.len() != args.param.len() {
        let what = format!("--range: {} ranges for {} parameters", ranges.len(), args.param.len());
        return Err(Error::new(ErrorKind::InvalidConfig, what)
            .with_help("give one for all, or one each in the order of --param")
            .into());
    }
    let mut task = FitOptions {
        parameters: args.param.iter().cloned().zip(ranges).collect(),
        metric: args.metric,
        points: args.points,
        ..FitOptions::default()
    };
    task.bootstrap.draws = args.draws;
    task.bootstrap.seed = args.seed;
    let tape = Tape::open(&args.tape)?;
    note_tail(global, &args.tape, &tape);
    note_rest(global, &args.read, tape.header().rows);
    let replay = replay(global, &args.read, &args.tape).with_tokenizer_of(&config, tape.header());
    drop(tape);
    let fit = task.run(&config, &replay, &plugin::settings(global), &signal::cancel_on_interrupt()?)?;
    let patch = fit.patch(&config)?;
    output::say(global.quiet, page(&fit).trim_end());
    for found in fit.parameters.iter().filter(|found| found.at_end) {
        let note =
            format!("note: {} = {} is an end of its range: a better value may lie beyond", found.path, found.value);
        output::say(global.quiet, &note);
    }
    match args.format {
        Format::Text => output::write_all(patch.as_bytes())?,
        format => {
            let all = json!({ "schema_version": 1, "fit": fit, "patch": patch });
            output::json(&all, format == Format::Json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn page(fit: &Fit) -> String {
    let mut page = String::new();
    for found in &fit.parameters {
        let _ =
            writeln!(page, "{} = {:.4}, 95 % interval {:.4} to {:.4}", found.path, found.value, found.low, found.high);
    }
    let values = |values: &[f64]| values.iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(" ");
    let best: Vec<f64> = fit.parameters.iter().map(|found| found.value).collect();
    let mut rows = vec![head(fit), row(format!("best {}", values(&best)), &fit.summary)];
    for Baseline { values: at, configured, summary } in &fit.baselines {
        let name = if *configured { format!("configured {}", values(at)) } else { format!("at {}", values(at)) };
        rows.push(row(name, summary));
    }
    let columns = rows[0].len();
    let _ = write!(page, "{}", TextTable::new(rows).right(1..columns));
    let _ = writeln!(page, "{} texts, {} tokens, {} passes", fit.summary.texts, fit.summary.tokens, fit.passes);
    page
}

fn head(fit: &Fit) -> Vec<String> {
    let mut head = vec!["", "nll", "bits/byte", "greedy", "exact"];
    if fit.summary.acc.is_some() {
        head.extend(["acc", "acc_norm"]);
    }
    head.into_iter().map(str::to_owned).collect()
}

fn row(name: String, s: &Summary) -> Vec<String> {
    let mut row = vec![name, format!("{:.4}", s.nll), format!("{:.4}", s.bits_per_byte)];
    let shares = [Some(s.greedy_agreement), Some(s.exact_path), s.acc, s.acc_norm];
    row.extend(shares.into_iter().flatten().map(|share| format!("{share:.3}")));
    row
}

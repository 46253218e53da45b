//! `logitfuse calibrate`: the parameters that suit a tape best.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind};
use logitfuse_replay::Tape;
use logitfuse_tape::{Baseline, Fit, FitOptions, Metric, Range, Summary};
use serde_json::json;

use crate::{
    args::{Format, Global, OverrideArgs},
    output, plugin, signal,
    tape::{ReadArgs, note_tail},
};

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    logitfuse calibrate experiment.toml answers.lftape --param alpha --range 0:2\n  \
    logitfuse calibrate experiment.toml quiz.lftape --param strategy.gate.max_prob --range 0:1 --metric acc\n\n\
    stdout is a piece of TOML to paste into the experiment; what was found out goes to stderr.")]
pub(crate) struct CalibrateArgs {
    /// The experiment: its strategy, and which source plays which role
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
    /// The tape
    #[arg(value_name = "TAPE")]
    tape: PathBuf,
    /// A parameter: strategy.params.alpha, in short alpha; repeat to find several
    #[arg(long, value_name = "PATH", required = true)]
    param: Vec<String>,
    /// Where it may lie; one for all parameters, or one each in the same order
    #[arg(long, value_name = "LOW:HIGH", default_value = "0:2", allow_hyphen_values = true)]
    range: Vec<Range>,
    /// `nll`, `greedy_agreement` or `exact_path`; with choices on the tape `acc` or `acc_norm`
    #[arg(long, value_name = "NAME", default_value = "nll")]
    metric: Metric,
    /// Points of the scan over a range
    #[arg(long, value_name = "N", default_value_t = 41)]
    points: usize,
    /// How often samples are drawn anew for the intervals
    #[arg(long, value_name = "N", default_value_t = 1000)]
    draws: usize,
    /// Seed of these draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    read: ReadArgs,
    /// text is the patch; json one document with everything
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    #[command(flatten)]
    overrides: OverrideArgs,
}

pub(crate) fn run(global: &Global, args: &CalibrateArgs) -> anyhow::Result<ExitCode> {
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
    let mut task = Calibration {
        parameters: args.param.iter().cloned().zip(ranges).collect(),
        metric: args.metric,
        points: args.points,
        ..Calibration::default()
    };
    task.bootstrap.draws = args.draws;
    task.bootstrap.seed = args.seed;
    note_tail(global, &args.tape, &Tape::open(&args.tape)?);
    let replay = args.read.replay(global, &args.tape);
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
    let _ = writeln!(page, "{:<24} {}", "", head(fit));
    let _ = writeln!(page, "{:<24} {}", format!("best {}", values(&best)), numbers(&fit.summary));
    for Baseline { values: at, configured, summary } in &fit.baselines {
        let name = if *configured { format!("configured {}", values(at)) } else { format!("at {}", values(at)) };
        let _ = writeln!(page, "{name:<24} {}", numbers(summary));
    }
    let _ = writeln!(page, "{} texts, {} tokens, {} passes", fit.summary.texts, fit.summary.tokens, fit.passes);
    page
}

fn head(fit: &Fit) -> String {
    let acc = if fit.summary.acc.is_some() { "     acc  acc_norm" } else { "" };
    format!("    nll  bits/byte  greedy   exact{acc}")
}

fn numbers(s: &Summary) -> String {
    let mut line =
        format!("{:>7.4}  {:>9.4}  {:>6.3}  {:>6.3}", s.nll, s.bits_per_byte, s.greedy_agreement, s.exact_path);
    if let (Some(acc), Some(acc_norm)) = (s.acc, s.acc_norm) {
        let _ = write!(line, "  {acc:>6.3}  {acc_norm:>8.3}");
    }
    line
}

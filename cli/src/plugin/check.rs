//! `logitfuse plugin check`.

use std::{collections::BTreeMap, fmt::Write, process::ExitCode};

use anstyle::{AnsiColor, Style};
use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use logitfuse_plugin_check::{self as check, CaseResult, Cause, Isolation, Options, Report, Verdict};

use crate::{
    args::plugin::{CheckArgs, ReportFormat},
    output,
};

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        strategy: args.strategy.clone(),
        params: args.params.as_deref().map(params).transpose()?,
        seed: args.seed,
        cases: args.cases,
        filter: args.filter.clone(),
        fuzz: args.fuzz,
        timeout: args.timeout,
        jobs: args.jobs,
    };
    let isolation = if args.in_process {
        Isolation::None
    } else {
        let program = std::env::current_exe().or_err(ErrorKind::Io, "this program cannot find itself")?;
        Isolation::Process { program, arguments: vec!["plugin".to_owned(), "check-case".to_owned()] }
    };
    let mut written = Ok(());
    let mut causes: BTreeMap<String, String> = BTreeMap::new();
    let report = check::run(&args.plugin, &options, &isolation, &mut |result| {
        if args.format == ReportFormat::Text && written.is_ok() {
            written = output::line(&line(result, &mut causes));
        }
    })?;
    written?;
    match args.format {
        ReportFormat::Text => output::line(&summary(&report))?,
        ReportFormat::Json => output::json(&report.to_json(), true)?,
        ReportFormat::Junit => output::write_all(report.to_junit().as_bytes())?,
    }
    if report.results.is_empty() {
        return Err(Error::new(ErrorKind::InvalidConfig, "no case was asked for")
            .with_help("--filter takes a part of GROUP/NAME, --strategy the id of one of the plugin's strategies")
            .into());
    }
    Ok(if report.findings().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn params(text: &str) -> Result<serde_json::Value> {
    let value: serde_json::Value = serde_json::from_str(text).or_err(ErrorKind::InvalidConfig, "--params")?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Error::new(ErrorKind::InvalidConfig, "--params: not a table")
        .with_help("write a JSON object: '{\"alpha\": 1.5}'"))
}

/// `causes` are those of the findings so far, each with the case that was told first.
fn line(result: &CaseResult, causes: &mut BTreeMap<String, String>) -> String {
    let (word, colour) = match result.verdict {
        Verdict::Passed => ("ok", AnsiColor::Green),
        Verdict::Skipped => ("skipped", AnsiColor::BrightBlack),
        Verdict::Warning => ("warning", AnsiColor::Yellow),
        Verdict::Failed => ("FAILED", AnsiColor::Red),
        Verdict::Crashed => ("CRASHED", AnsiColor::Red),
        Verdict::Hung => ("HUNG", AnsiColor::Red),
    };
    let style = Style::new().fg_color(Some(colour.into()));
    let what = format!("{}/{}", result.group, result.name);
    let strategy = result.strategy.as_deref().unwrap_or("");
    let mut detail = result.detail.clone();
    if result.verdict.is_finding() {
        match causes.get(&result.cause()) {
            Some(first) => detail = format!("as {first}"),
            None => drop(causes.insert(result.cause(), what.clone())),
        }
    }
    let line = format!("{style}{word:<8}{style:#} {strategy:<16} {what:<36} {detail}");
    line.trim_end().to_owned()
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.count(verdict);
    let findings = report.findings().count();
    let causes = report.causes();
    let found = if findings > 1 {
        let count = if causes.len() == 1 { "one cause".to_owned() } else { format!("{} causes", causes.len()) };
        format!("{findings} findings of {count}")
    } else {
        format!("{findings} findings")
    };
    let mut counts = vec![found, format!("{} passed", count(Verdict::Passed))];
    for (verdict, word) in [(Verdict::Warning, "warnings"), (Verdict::Skipped, "skipped")] {
        if count(verdict) > 0 {
            counts.push(format!("{} {word}", count(verdict)));
        }
    }
    let name = if report.plugin.is_empty() { &report.path } else { &report.plugin };
    let pin = if findings == 0 { format!("\nsha256 = \"{}\"", report.sha256) } else { String::new() };
    let mut text = String::new();
    for Cause { telling, others } in &causes {
        let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}/{}{more}: {}", telling.group, telling.name, telling.detail);
    }
    if !text.is_empty() {
        text = format!("\nwhat is wrong, the telling first:\n{text}\n");
    }
    format!("{text}{name} {}: {}, seed {}{pin}", report.version, counts.join(", "), report.seed)
}

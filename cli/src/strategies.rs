//! `logitfuse strategies`.

use std::{fmt::Write, process::ExitCode};

use logitfuse_config::example;
use logitfuse_core::{Arity, Error, ErrorKind, Result, StrategyInfo};
use logitfuse_pipeline::{Parameter, built_in, parameters, wrappers};
use serde_json::{Value, json};

use crate::{args::Format, output, table::TextTable};

pub(crate) fn list(format: Format) -> anyhow::Result<ExitCode> {
    let (strategies, wrappers) = (built_in(), wrappers());
    if format == Format::Text {
        let width = strategies.iter().chain(&wrappers).map(|info| info.id.len()).max().unwrap_or(0);
        let lines = |infos: &[StrategyInfo]| {
            TextTable::new(infos.iter().map(|info| [&info.id, &info.summary])).at_least(0, width)
        };
        let text = format!(
            "{}\nAround any of them, as [strategy.gate] and [strategy.schedule]:\n{}",
            lines(&strategies),
            lines(&wrappers)
        );
        output::write_all(text.as_bytes())?;
    } else {
        let list = |infos: &[StrategyInfo]| infos.iter().map(document).collect::<Vec<Value>>();
        let all = json!({ "schema_version": 1, "strategies": list(&strategies), "wrappers": list(&wrappers) });
        output::json(&all, format == Format::Json)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn show(name: &str, format: Format) -> anyhow::Result<ExitCode> {
    let info = find(name)?;
    if format == Format::Text {
        output::write_all(page(&info).as_bytes())?;
    } else {
        let mut document = document(&info);
        document["schema_version"] = json!(1);
        output::json(&document, format == Format::Json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> Result<StrategyInfo> {
    let known: Vec<StrategyInfo> = built_in().into_iter().chain(wrappers()).collect();
    let names = known.iter().map(|info| info.id.as_str()).collect::<Vec<&str>>().join(", ");
    known.into_iter().find(|info| info.id == name).ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, format!("{name}: no strategy and no wrapper is called that"))
            .with_help(format!("there are {names}"))
    })
}

pub(crate) fn document(info: &StrategyInfo) -> Value {
    let roles = info.roles.iter().map(
        |role| json!({ "name": role.name, "min": role.arity.min, "max": role.arity.max, "summary": role.summary }),
    );
    let trace = info.trace.iter().map(|column| json!({ "name": column.name, "unit": column.unit }));
    let schema: Value = serde_json::from_str(&info.params_schema).unwrap_or_default();
    json!({
        "id": info.id,
        "summary": info.summary,
        "equation": info.equation,
        "reference": info.reference,
        "roles": roles.collect::<Vec<Value>>(),
        "lead": info.lead_role,
        "parameters": parameters(info),
        "params_schema": schema,
        "trace": trace.collect::<Vec<Value>>(),
        "laws": info.laws,
        "example": example(info),
    })
}

pub(crate) fn page(info: &StrategyInfo) -> String {
    let mut page = format!("{}: {}\n", info.id, info.summary);
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = write!(page, "\n{title}\n");
            for line in lines {
                let _ = if line.is_empty() { writeln!(page) } else { writeln!(page, "  {line}") };
            }
        }
    };
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<String>>();
    section("Equation", lines(&info.equation));
    section("Papers", lines(&info.reference));
    let roles = info.roles.iter().map(|role| [&*role.name, arity(role.arity), &*role.summary]);
    section("Roles", table(roles.collect()));
    section("Parameters", parameters(info).iter().flat_map(parameter).collect());
    let trace = info.trace.iter().map(|column| [&*column.name, &*column.unit]);
    section("Trace columns, with units", table(trace.collect()));
    section("Laws, with default parameters", info.laws.iter().map(ToString::to_string).collect());
    section("A TOML to start from", lines(&example(info)));
    page
}

fn arity(arity: Arity) -> &'static str {
    match (arity.min, arity.max) {
        (1, Some(1)) => "one source",
        (0, Some(1)) => "one source or none",
        (0, None) => "any number of sources",
        (_, None) => "one source or more",
        _ => "several sources",
    }
}

/// Columns under one another.
fn table<const N: usize>(rows: Vec<[&str; N]>) -> Vec<String> {
    TextTable::new(rows).to_string().lines().map(str::to_owned).collect()
}

/// `name: kind, range, unit, default` and what it does.
fn parameter(parameter: &Parameter) -> Vec<String> {
    let mut facts = vec![parameter.kind.clone()];
    facts.extend(parameter.unit.as_ref().map(|unit| format!("in {unit}")));
    facts.extend(parameter.range.clone());
    if !parameter.default.is_null() {
        facts.push(format!("default {}", parameter.default));
    }
    let mut lines = vec![format!("{}: {}", parameter.name, facts.join("; ")), format!("    {}", parameter.summary)];
    let choices: Vec<[&str; 2]> = parameter.choices.iter().map(|c| [&*c.value, &*c.summary]).collect();
    lines.extend(table(choices).into_iter().map(|line| format!("    {line}")));
    lines
}

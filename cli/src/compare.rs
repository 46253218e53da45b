//! `logitfuse compare`: paired differences of two runs.

use std::{fmt::Write, process::ExitCode};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::{Comparison, Run, compare};

use crate::{
    args::{CompareArgs, Format},
    output,
    table::TextTable,
};

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let (a, b) = (Run::open(&args.a)?, Run::open(&args.b)?);
    let pairs = args.variant.iter().map(|text| pair(&a, &b, text)).collect::<Result<Vec<_>>>()?;
    let comparison = compare(&a, &b, &pairs)?;
    match args.format {
        Format::Text => output::line(&table(&comparison))?,
        format => output::json(&serde_json::to_value(&comparison)?, format == Format::Json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The two variants that `A=B` names: where names have equals signs of their own, as those of a sweep do, the ones that are there.
fn pair(a: &Run, b: &Run, text: &str) -> Result<(String, String)> {
    let has = |run: &Run, name: &str| run.manifest().cells.iter().any(|cell| cell.variant == name);
    let mut splits = text.match_indices('=').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let first = splits.clone().next().filter(|(a, b)| !a.is_empty() && !b.is_empty());
    match splits.find(|(x, y)| has(a, x) && has(b, y)).or(first) {
        Some((a, b)) => Ok((a.to_owned(), b.to_owned())),
        None => Err(Error::new(ErrorKind::InvalidConfig, format!("--variant {text}: names no two variants"))
            .with_help("write A=B: a variant of the first run and one of the second")),
    }
}

fn table(comparison: &Comparison) -> String {
    let mut rows: Vec<[String; 8]> =
        vec![["task", "metric", "variants", "n", "a", "b", "b − a [95 %]", "p (Holm)"].map(str::to_owned)];
    for row in &comparison.rows {
        let variants = if row.variant_a == row.variant_b {
            row.variant_a.clone()
        } else {
            format!("{} → {}", row.variant_a, row.variant_b)
        };
        let [low, high] = row.interval;
        rows.push([
            row.task.clone(),
            row.metric.clone(),
            variants,
            row.n.to_string(),
            format!("{:.4}", row.a),
            format!("{:.4}", row.b),
            format!("{:+.4} [{low:+.4}, {high:+.4}]", row.difference),
            format!("{:.4}", row.p_holm),
        ]);
    }
    let mut text = TextTable::new(rows).to_string();
    if comparison.fallback_samples > 0 {
        let count = comparison.fallback_samples;
        let _ = write!(text, "\nin {count} samples a plugin failed and the base went on alone; they are counted\n");
    }
    if comparison.unpaired > 0 {
        let _ = writeln!(
            text,
            "\n{} items are in one of the two only, or failed in one, and were left out",
            comparison.unpaired
        );
    }
    text.push_str(
        "\np: McNemar's exact test for scores of 0 and 1, else a bootstrap of the centred differences; \
         Holm's correction over all rows",
    );
    text
}

//! What changes if something is changed: demonstrations, the objective, the experts; and what it all costs.

use anyhow::Result;

use super::{
    gap::Ceiling,
    markdown::{Table, closed, percent},
    page::ends,
    single::STATIC,
    study::{Answers, Results, Study, TASKS},
};

const COST: &str = "
α is given as the 10th, 50th and 90th percentile over the tokens of 32 items a task; where expert and anti agree it scales nothing and says little.
Tokens per second are those of decoding one text at a time, prompts not counted: the median over five rounds, in each of which every system
decodes the same 32 items, so that the ratio holds even on a machine with other things to do. With models as small as these, what
surrounds their passes weighs more than with real ones. A dash: no times were taken.
";

pub(super) fn in_context(results: &Results) -> Result<String> {
    let rows: [(&str, &Study, &str); 6] = [
        ("none: `dynamic-kl` as above", &results.single, "dynamic"),
        ("`L`, alone", &results.in_context, "large-shown"),
        ("`S`, which is the expert, and without them the anti", &results.in_context, "helper-shown"),
        ("the base of `dynamic-kl`", &results.in_context, "base-shown"),
        ("expert and anti of `dynamic-kl`", &results.in_context, "helpers-shown"),
        ("all three", &results.in_context, "all-shown"),
    ];
    let table = scores_and_gap(results, "demonstrations for", &rows)?;
    Ok(format!(
        "\n## Demonstrations\n\nThe same three to five solved training items precede every prompt of some of the models \
         (`in-context.toml`):\n\n{table}"
    ))
}

pub(super) fn ablations(results: &Results) -> Result<String> {
    let reference = results.reference();
    let rows: [(&str, &Study, &str); 7] = [
        ("both divergences (`paper`), as above", &results.single, "dynamic"),
        ("their sum (`jeffreys`)", &results.ablations, "dynamic[objective=jeffreys]"),
        ("KL(fused‖base) alone (`forward`)", &results.ablations, "dynamic[objective=forward]"),
        ("KL(base‖fused) alone (`reverse`)", &results.ablations, "dynamic[objective=reverse]"),
        ("α at most 1, the default", &results.ablations, "at-most-1"),
        ("ordinary experts, α = 1 (reference)", reference, "static 1 ordinary"),
        ("ordinary experts, dynamic (reference)", reference, "dynamic ordinary"),
    ];
    let there: Vec<_> = rows.into_iter().filter(|(_, study, system)| study.has(system)).collect();
    let table = scores_and_gap(results, "", &there)?;
    Ok(format!(
        "\n## What it owes to what\n\nOrdinary experts are tuned on whole answers; those that ship are held to their base where they could only guess \
         ([the model card](../examples/family/MODEL_CARD.md)) and weigh less where they know nothing.\n\n{table}"
    ))
}

fn scores_and_gap(results: &Results, head: &str, rows: &[(&str, &Study, &str)]) -> Result<String> {
    let gap = ends(results, Ceiling::Perfect);
    let mut table = Table::new([&[head], &TASKS[..], &["gap closed, mean"]].concat());
    for (label, study, system) in rows {
        let mut cells = vec![(*label).to_owned()];
        for task in TASKS {
            cells.push(percent(&study.get(system, task)?.mean()?));
        }
        cells.push(closed(gap.mean(study, system)?));
        table.row(cells);
    }
    Ok(table.text())
}

pub(super) fn cost(results: &Results) -> Result<String> {
    let mut table = Table::new(["", "α, qa", "α, math", "α, sum", "α, mc", "tokens/s", "of the base's"]);
    for (label, system) in [
        ("`L` alone", "large"),
        ("`S-t` alone", "expert"),
        ("`static-proxy`, α = 1", STATIC[1]),
        ("`dynamic-kl`, grid", "dynamic-grid"),
        ("`dynamic-kl`", "dynamic"),
        ("chosen by the prompt, six models", "chosen"),
    ] {
        let mut cells = vec![label.to_owned()];
        for task in TASKS {
            cells.push(strengths(results.single.get(system, task)?));
        }
        let rates: Vec<f64> = results.rounds.iter().map(|round| rate(round, system)).collect::<Result<_>>()?;
        let alone: Vec<f64> = results.rounds.iter().map(|round| rate(round, "large")).collect::<Result<_>>()?;
        let ratios = rates.iter().zip(&alone).map(|(rate, alone)| 100.0 * rate / alone).collect();
        cells.push(median(rates).map_or("–".to_owned(), |rate| format!("{rate:.0}")));
        cells.push(median(ratios).map_or("–".to_owned(), |ratio| format!("{ratio:.0} %")));
        table.row(cells);
    }
    Ok(format!("\n## Strength and speed\n{COST}\n{}", table.text()))
}

/// Tokens per second of decoding over the four tasks.
fn rate(round: &Study, system: &str) -> Result<f64> {
    let (mut tokens, mut seconds) = (0, 0.0);
    for task in TASKS {
        let answers = round.get(system, task)?;
        tokens += answers.tokens;
        seconds += answers.seconds;
    }
    Ok(tokens as f64 / seconds)
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn strengths(answers: &Answers) -> String {
    let mut sorted = answers.alphas.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |percentile: usize| sorted.get((sorted.len().saturating_sub(1)) * percentile / 100);
    match (at(10), at(50), at(90)) {
        (Some(low), Some(middle), Some(high)) => format!("{low:.2}, {middle:.2}, {high:.2}"),
        _ => "–".to_owned(),
    }
}

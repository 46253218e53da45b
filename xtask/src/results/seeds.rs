//! What the seed of training does to the figures.

use anyhow::Result;
use logitfuse_metrics::statistics::Summary;

use super::{
    gap::{Ceiling, Ends},
    markdown::{Table, signed},
    study::{Results, Study, TASKS, UNSEEN},
};

const SEEDS: &str = "
The same recipe from other seeds of training, decoded by the reference in Python; the worlds, corpora and items are the same.
";

/// The mean over seeds with the lowest and the highest, of every system that all seeds have.
pub(super) fn seeds(results: &Results) -> Result<String> {
    let seeds = &results.seeds;
    let systems = [
        ("`L`, the large base alone", "L"),
        ("`S-t`, the expert alone", "S_t"),
        ("`static-proxy`, α = 0.5", "static 0.5"),
        ("`static-proxy`, α = 1", "static 1"),
        ("**`dynamic-kl`**", "dynamic"),
        ("chosen by the prompt", "selected"),
        ("`one_expert`, the paper's", "one_expert"),
        ("`L-t`, the large model tuned", "L_t"),
    ];
    let count = seeds.len();
    let head = format!("{count} seed{}", if count == 1 { "" } else { "s: mean (lowest to highest)" });
    let mut table = Table::new([&[&*head], &TASKS[..], &["gap closed, mean", "`cloze`"]].concat());
    for (label, system) in systems.into_iter().filter(|(_, system)| seeds.iter().all(|seed| seed.has(system))) {
        let mut cells = vec![label.to_owned()];
        for task in TASKS {
            cells.push(over(seeds, |seed| Ok(Some(seed.get(system, task)?.mean()?.value)))?);
        }
        cells.push(match system {
            "L" | "L_t" => String::new(),
            _ => over(seeds, |seed| {
                let ends = Ends { base: (seed, "L"), oracles: seed, ceiling: Ceiling::Perfect };
                Ok(ends.mean(seed, system)?.map(|gap| gap.value))
            })?,
        });
        cells.push(over(seeds, |seed| seed.find(system, UNSEEN).map(|a| Ok(a.mean()?.value)).transpose())?);
        table.row(cells);
    }
    Ok(format!("\n## Training seeds\n{SEEDS}\n{}", table.text()))
}

/// A figure of every seed; nothing where one of them lacks it.
fn over(seeds: &[Study], figure: impl Fn(&Study) -> Result<Option<f64>>) -> Result<String> {
    let values: Option<Vec<f64>> = seeds.iter().map(figure).collect::<Result<_>>()?;
    Ok(values.map_or(String::new(), |values| spread(&values)))
}

pub(super) fn spread(values: &[f64]) -> String {
    let mean = Summary::of(values).map_or(f64::NAN, |summary| summary.mean);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let number = |value: f64| signed(100.0 * value).replace('+', "");
    format!("{} ({} to {})", number(mean), number(low), number(high))
}

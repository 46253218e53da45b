//! What the seed of training does to the figures.

use anyhow::Result;

use super::{
    gap::{Ceiling, Ends},
    markdown::{Table, signed},
    study::{Results, Study, TASKS, UNSEEN},
};

const SEEDS: &str = "
The same recipe from other seeds of training, decoded by the reference in Python; world, corpus and items are the same. Gaps are in per
cent, and are not defined where the tuned model of a task is not clearly above its base.
";

/// Every figure, seed by seed.
pub(super) fn seeds(results: &Results) -> Result<String> {
    let seeds = &results.seeds;
    let systems = [
        ("`L`, the large base alone", "L"),
        ("`S-t`, the expert alone", "S_t"),
        ("`static-proxy`, α = 0.5", "static 0.5"),
        ("`static-proxy`, α = 1", "static 1"),
        ("**`dynamic-kl`**", "dynamic"),
        ("chosen by the prompt", "selected"),
        ("`one_expert`, the paper's search", "one_expert"),
        ("`L-t`, the large model tuned", "L_t"),
    ];
    let names: Vec<&str> = seeds.iter().map(|seed| seed.name.trim_end_matches(".test")).collect();
    let head = names.join(" / ");
    let mut table = Table::new([&[&*head], &TASKS[..], &["gap closed, mean", "`cloze`"]].concat());
    for (label, system) in systems.into_iter().filter(|(_, system)| seeds.iter().all(|seed| seed.has(system))) {
        let mut cells = vec![label.to_owned()];
        for task in TASKS {
            cells.push(each(seeds, |seed| Ok(Some(seed.get(system, task)?.mean()?.value)))?);
        }
        cells.push(match system {
            "L" | "L_t" => String::new(),
            _ => shown(&gaps(results, system)?),
        });
        cells.push(each(seeds, |seed| seed.find(system, UNSEEN).map(|a| Ok(a.mean()?.value)).transpose())?);
        table.row(cells);
    }
    Ok(format!("\n## Training seeds\n{SEEDS}\n{}", table.text()))
}

/// The mean gap that a system closes with the members of each seed.
pub(super) fn gaps(results: &Results, system: &str) -> Result<Vec<Option<f64>>> {
    let gap = |seed: &Study| {
        let ends = Ends { base: (seed, "L"), oracles: seed, ceiling: Ceiling::Perfect };
        Ok(ends.mean(seed, system)?.map(|gap| gap.value))
    };
    results.seeds.iter().map(gap).collect()
}

/// A figure of every seed, in per cent; a dash where it is not defined, nothing where no seed has it.
fn each(seeds: &[Study], figure: impl Fn(&Study) -> Result<Option<f64>>) -> Result<String> {
    Ok(shown(&seeds.iter().map(figure).collect::<Result<Vec<_>>>()?))
}

pub(super) fn shown(values: &[Option<f64>]) -> String {
    if values.iter().all(Option::is_none) {
        return String::new();
    }
    let one = |value: &Option<f64>| value.map_or("–".to_owned(), |value| signed(100.0 * value).replace('+', ""));
    values.iter().map(one).collect::<Vec<_>>().join(" / ")
}

//! Other drafters than the expert: what they gain, and that asking for drafts which do not pay costs nothing.

use anyhow::Result;

use super::{
    drafts::Round,
    markdown::Table,
    study::{Results, TASKS},
    variations::median,
};

const DRAFTERS: &str = "
Drafters that were not tuned for it (`drafters.toml`): the large model itself, which spares only the small ones' passes, the untuned small
one, and what followed in the prompt the last time. `auto` is to draft where that pays and else not at all, so nothing may be below 1 but by
noise. Tokens per second over those without drafts, the mean of the run before and the run after; the median of five rounds, with the lowest
and the highest. *Nobody* is a run without drafts against its neighbours: what the machine adds by itself. *Drafted* is tokens that were
drafted, for each that was generated.
";

/// The runs of a round in their order; those without drafts have even places.
const RUNS: [&str; 7] = ["plain-1", "base", "plain-2", "anti", "plain-3", "prompt-lookup", "plain-4"];
const ROWS: [(&str, &str); 4] = [
    ("nobody", "plain-2"),
    ("the large model", "base"),
    ("the small model, untuned", "anti"),
    ("prompt lookup", "prompt-lookup"),
];

pub(super) fn drafters(results: &Results) -> Result<String> {
    let rounds: Vec<Round> = results.drafters.iter().map(|path| Round::read(path)).collect::<Result<_>>()?;
    let mut table = Table::new(["who drafts"].into_iter().chain(TASKS).chain(["all four", "drafted"]));
    for temperature in ["0.0", "0.8"] {
        let heat = if temperature == "0.0" { "greedy".to_owned() } else { format!("T = {temperature}") };
        for (label, run) in ROWS {
            let mut cells = vec![format!("{heat}: {label}")];
            let sets = TASKS.iter().map(std::slice::from_ref).chain([&TASKS[..]]);
            cells.extend(sets.map(|tasks| {
                spread(rounds.iter().filter_map(|round| against_neighbours(round, run, temperature, tasks)).collect())
            }));
            let drafted = rounds.iter().map(|round| {
                let of = round.of(&named(run, temperature), &TASKS);
                of.drafted as f64 / of.tokens.max(1) as f64
            });
            cells.push(median(drafted.collect()).map_or("–".to_owned(), |share| format!("{share:.2}")));
            table.row(cells);
        }
    }
    Ok(format!("\n### Other drafters\n{DRAFTERS}\n{}", table.text()))
}

fn named(run: &str, temperature: &str) -> String {
    format!("{run}[temperature={temperature}]")
}

/// Tokens per second of a run over the mean of those before and after it.
fn against_neighbours(round: &Round, run: &str, temperature: &str, tasks: &[&str]) -> Option<f64> {
    let rate = |run: &str| round.of(&named(run, temperature), tasks).tokens_per_second();
    let place = RUNS.iter().position(|known| *known == run)?;
    // The nearest runs without drafts: beside a run that drafts, else two places away.
    let step = if place % 2 == 0 { 2 } else { 1 };
    let (before, after) = (rate(RUNS[place.checked_sub(step)?])?, rate(RUNS.get(place + step)?)?);
    Some(2.0 * rate(run)? / (before + after))
}

fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    match (&ratios[..], median(ratios.clone())) {
        ([low, .., high], Some(middle)) => format!("{middle:.2} [{low:.2}, {high:.2}]"),
        (_, middle) => middle.map_or("–".to_owned(), |middle| format!("{middle:.2}")),
    }
}

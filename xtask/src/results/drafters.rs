//! Other drafters than the expert: their speed-up, and that `auto` costs nothing where drafts give none.

use anyhow::Result;

use super::{
    drafts::{Round, TEMPERATURES, at, said},
    markdown::Table,
    study::{Results, TASKS},
    variations::median,
};

const DRAFTERS: &str = "
Drafters that were not tuned for it (`drafters.toml`): the large model itself, which spares only the small ones' passes, the untuned small
one, and what followed in the prompt the last time. `auto` drafts where that is faster and else not at all, so nothing may be below 1 but by
noise. Tokens per second over those without drafts, the mean of the run before and the run after; the median of five rounds, with the lowest
and the highest. *None* is a run without drafts against its neighbours: the noise of the machine. *Drafted* is tokens that were
drafted, for each that was generated.
";

/// Who drafts, the variant, and the runs without drafts before and after it.
const ROWS: [(&str, &str, [&str; 2]); 4] = [
    ("none", "plain-2", ["plain-1", "plain-3"]),
    ("the large model", "base", ["plain-1", "plain-2"]),
    ("the small model, untuned", "anti", ["plain-2", "plain-3"]),
    ("prompt lookup", "prompt-lookup", ["plain-3", "plain-4"]),
];

pub(super) fn drafters(results: &Results) -> Result<String> {
    let rounds: Vec<Round> = results.drafters.iter().map(|path| Round::read(path)).collect::<Result<_>>()?;
    let mut table = Table::new(["drafter"].into_iter().chain(TASKS).chain(["all four", "drafted"]));
    for temperature in TEMPERATURES {
        for (label, variant, neighbours) in ROWS {
            let [variant, before, after] = [variant, neighbours[0], neighbours[1]].map(|name| at(name, temperature));
            let mut cells = vec![format!("{}: {label}", said(temperature))];
            let sets = TASKS.iter().map(std::slice::from_ref).chain([&TASKS[..]]);
            cells.extend(sets.map(|tasks| {
                let ratio = |round: &Round| {
                    let rate = |variant: &str| round.of(variant, tasks).tokens_per_second();
                    Some(2.0 * rate(&variant)? / (rate(&before)? + rate(&after)?))
                };
                spread(rounds.iter().filter_map(ratio).collect())
            }));
            let drafted = rounds.iter().map(|round| {
                let of = round.of(&variant, &TASKS);
                of.drafted as f64 / of.tokens.max(1) as f64
            });
            cells.push(median(drafted.collect()).map_or("–".to_owned(), |share| format!("{share:.2}")));
            table.row(cells);
        }
    }
    Ok(format!("\n### Other drafters\n{DRAFTERS}\n{}", table.text()))
}

fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    match (&ratios[..], median(ratios.clone())) {
        ([low, .., high], Some(middle)) => format!("{middle:.2} [{low:.2}, {high:.2}]"),
        (_, middle) => middle.map_or("–".to_owned(), |middle| format!("{middle:.2}")),
    }
}

//! What drafts are worth: fused decoding against the large model alone.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use logitfuse_rundir::{DraftStats, Forecast, Run};

use super::{
    markdown::Table,
    study::{Results, TASKS},
    variations::median,
};

const DRAFTS: &str = "
The expert, which has to run anyway, drafts (`drafts.toml`); all models look at a draft in one pass each, and the fused distribution accepts
a prefix of it. Greedy the texts are the same; sampled they are other draws of the same distribution. Medians over five rounds, one text at
a time, of tokens per second without those that come of prompts; ratios are within a round. *Predicted* is what the cost model
predicted, from times taken before the texts, for drafts as long and as often accepted as these.
";

/// What the experiments sweep, as in the names of their variants.
pub(super) const TEMPERATURES: [&str; 2] = ["0.0", "0.8"];

/// The name of a variant at a temperature.
pub(super) fn at(variant: &str, temperature: &str) -> String {
    format!("{variant}[temperature={temperature}]")
}

/// A temperature as people call it.
pub(super) fn said(temperature: &str) -> String {
    if temperature == "0.0" { "greedy".to_owned() } else { format!("T = {temperature}") }
}

/// Tokens per second of a round, and what came of its drafts.
#[derive(Default)]
pub(super) struct Round {
    done: BTreeMap<(String, String), DraftStats>,
    forecasts: BTreeMap<(String, String), Forecast>,
}

impl Round {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let run = Run::open(path)?;
        let mut round = Self::default();
        for timing in run.timings()? {
            let timing = timing?;
            if let [variant, task, ..] = timing.key.split('/').collect::<Vec<_>>()[..] {
                timing.add_to(round.done.entry((variant.to_owned(), task.to_owned())).or_default());
            }
        }
        round.forecasts =
            run.forecasts()?.into_iter().map(|line| ((line.variant.clone(), line.task.clone()), line)).collect();
        Ok(round)
    }

    pub(super) fn of(&self, variant: &str, tasks: &[&str]) -> DraftStats {
        let mut sum = DraftStats::default();
        for task in tasks {
            if let Some(one) = self.done.get(&(variant.to_owned(), (*task).to_owned())) {
                sum.samples += one.samples;
                sum.tokens += one.tokens;
                sum.drafted += one.drafted;
                sum.accepted += one.accepted;
                sum.rounds += one.rounds;
                sum.seconds += one.seconds;
            }
        }
        sum
    }

    /// Predicted tokens per second.
    fn predicted(&self, variant: &str, tasks: &[&str]) -> Option<f64> {
        let (mut tokens, mut seconds) = (0.0, 0.0);
        for task in tasks {
            let key = (variant.to_owned(), (*task).to_owned());
            let done = self.done.get(&key)?;
            let count = done.tokens.saturating_sub(done.samples) as f64;
            tokens += count;
            seconds += count / self.forecasts.get(&key)?.tokens_per_second(done)?;
        }
        Some(tokens / seconds)
    }
}

pub(super) fn drafts(results: &Results) -> Result<String> {
    let rounds: Vec<Round> = results.drafts.iter().map(|path| Round::read(path)).collect::<Result<_>>()?;
    let mut table = Table::new([
        "tokens/s",
        "`L` alone",
        "fused",
        "with drafts",
        "of `L`",
        "of fused",
        "drafted a round",
        "accepted",
        "predicted",
    ]);
    for temperature in TEMPERATURES {
        let [large, fused, drafts] = ["large", "fused", "drafts"].map(|variant| at(variant, temperature));
        let rows = TASKS.iter().map(|task| (*task, vec![*task])).chain([("**all four**", TASKS.to_vec())]);
        for (label, tasks) in rows {
            let over = |figure: &dyn Fn(&Round) -> Option<f64>| median(rounds.iter().filter_map(figure).collect());
            let rate = |round: &Round, variant: &str| round.of(variant, &tasks).tokens_per_second();
            let ratio = |round: &Round, other: &str| Some(rate(round, &drafts)? / rate(round, other)?);
            let whole = |figure: Option<f64>| figure.map_or("–".to_owned(), |x| format!("{x:.0}"));
            let times = |figure: Option<f64>| figure.map_or("–".to_owned(), |x| format!("{x:.2} ×"));
            table.row([
                format!("{}, {label}", said(temperature)),
                whole(over(&|round| rate(round, &large))),
                whole(over(&|round| rate(round, &fused))),
                whole(over(&|round| rate(round, &drafts))),
                times(over(&|round| ratio(round, &large))),
                times(over(&|round| ratio(round, &fused))),
                over(&|round| Some(round.of(&drafts, &tasks).per_round()?.0))
                    .map_or("–".to_owned(), |x| format!("{x:.1}")),
                over(&|round| round.of(&drafts, &tasks).acceptance())
                    .map_or("–".to_owned(), |x| format!("{:.0} %", 100.0 * x)),
                whole(over(&|round| round.predicted(&drafts, &tasks))),
            ]);
        }
    }
    Ok(format!("\n## Faster than the large model alone\n{DRAFTS}\n{}", table.text()))
}

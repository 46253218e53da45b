//! Predicted and achieved speed of speculative decoding.

use std::collections::BTreeMap;

use logitfuse_core::{DraftStats, Result, RoundCosts};
use serde::{Deserialize, Serialize};

use crate::{Run, SampleRecord, TimingRecord};

/// A line of `forecasts.jsonl`: what a variant's drafts were expected to cost on a task, timed on this machine before it
/// began. It is apart from everything that equal runs have equal.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Forecast {
    /// The variant.
    pub variant: String,
    /// The task.
    pub task: String,
    /// The drafter: a role, a source, or `prompt_lookup`.
    pub draft: String,
    /// Tokens per draft: a number, or `auto`.
    pub tokens: String,
    /// Timed costs of rounds.
    pub costs: RoundCosts,
}

impl TimingRecord {
    /// Adds what this sample's drafts gave.
    pub fn add_to(&self, sum: &mut DraftStats) {
        let add = |sum: &mut usize, count: usize| *sum = sum.saturating_add(count);
        add(&mut sum.samples, 1);
        add(&mut sum.tokens, self.tokens);
        add(&mut sum.drafted, self.drafted);
        add(&mut sum.accepted, self.accepted);
        add(&mut sum.rounds, self.rounds);
        sum.seconds += self.decode_seconds;
    }
}

impl Forecast {
    /// The tokens per second that these costs predict for drafts of the achieved length and acceptance.
    pub fn tokens_per_second(&self, of: &DraftStats) -> Option<f64> {
        of.per_round().map(|(drafted, tokens)| self.costs.tokens_per_second(drafted, tokens))
    }
}

impl Run {
    /// Prediction and result of each variant and task with drafts. Empty where nothing was drafted.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`](logitfuse_core::ErrorKind::InvalidData) for a damaged line.
    pub fn drafting(&self) -> Result<Vec<(Forecast, DraftStats)>> {
        let prefix = |forecast: &Forecast| SampleRecord::cell_prefix(&forecast.variant, &forecast.task);
        // A run that went on later timed its models again: the last forecast counts, in its place.
        let mut last = BTreeMap::new();
        let forecasts = self.forecasts()?;
        for (place, forecast) in forecasts.iter().enumerate() {
            last.insert(prefix(forecast), place);
        }
        let counts = forecasts.into_iter().enumerate().filter(|(place, forecast)| last[&prefix(forecast)] == *place);
        let mut all: Vec<_> = counts.map(|(_, forecast)| (forecast, DraftStats::default())).collect();
        if all.is_empty() {
            return Ok(all);
        }
        let places: BTreeMap<String, usize> = all.iter().enumerate().map(|(i, (f, _))| (prefix(f), i)).collect();
        for timing in self.timings()? {
            let timing = timing?;
            // Two slashes, unless the name of a swept key has more.
            let mut ends = timing.key.match_indices('/').map(|(at, _)| at + 1).take(64);
            if let Some(&place) = ends.find_map(|end| places.get(&timing.key[..end])) {
                timing.add_to(&mut all[place].1);
            }
        }
        Ok(all)
    }
}

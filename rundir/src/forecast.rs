//! Predicted and achieved speed of speculative decoding.

use logitfuse_core::{DraftStats, Result, RoundCosts};
use serde::{Deserialize, Serialize};

use crate::{Run, TimingRecord};

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
        sum.samples += 1;
        sum.tokens += self.tokens;
        sum.drafted += self.drafted;
        sum.accepted += self.accepted;
        sum.rounds += self.rounds;
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
        let mut all: Vec<(Forecast, DraftStats)> = Vec::new();
        for forecast in self.forecasts()? {
            // A run that went on later timed its models again.
            all.retain(|(known, _)| (&known.variant, &known.task) != (&forecast.variant, &forecast.task));
            all.push((forecast, DraftStats::default()));
        }
        if all.is_empty() {
            return Ok(all);
        }
        for timing in self.timings()? {
            let timing = timing?;
            let own = |(forecast, _): &&mut (Forecast, DraftStats)| {
                let rest = timing.key.strip_prefix(&forecast.variant).and_then(|rest| rest.strip_prefix('/'));
                rest.and_then(|rest| rest.strip_prefix(&forecast.task)).is_some_and(|rest| rest.starts_with('/'))
            };
            if let Some((_, sum)) = all.iter_mut().find(own) {
                timing.add_to(sum);
            }
        }
        Ok(all)
    }
}

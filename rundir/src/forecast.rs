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

/// Adds a sample.
fn add(sum: &mut DraftStats, timing: &TimingRecord) {
    sum.samples += 1;
    sum.tokens += timing.tokens;
    sum.drafted += timing.drafted;
    sum.accepted += timing.accepted;
    sum.rounds += timing.rounds;
    sum.seconds += timing.decode_seconds;
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
                add(sum, &timing);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs() -> RoundCosts {
        RoundCosts { batch: 2, round_seconds: vec![1.0, 1.5, 3.0], token_seconds: 0.25 }
    }

    #[test]
    fn costs_lie_on_lines_between_what_was_timed_and_beyond() {
        for (drafted, seconds) in [(0.0, 1.0), (0.5, 1.25), (1.0, 1.5), (1.5, 2.25), (2.0, 3.0), (3.0, 4.5)] {
            assert!((costs().seconds(drafted) - seconds).abs() < 1e-12, "{drafted}");
        }
        let lone = RoundCosts { round_seconds: vec![2.0], ..costs() };
        assert!((lone.seconds(3.0) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_batch_shares_its_round_and_every_token_pays_for_itself() {
        // Two sequences of 1 + 1/2 tokens each: 3 tokens in 1.5 s and 3 times 0.25 s.
        assert!((costs().tokens_per_second(1.0, 1.5) - 3.0 / 2.25).abs() < 1e-12);
        assert_eq!(costs().best_at(0.0).0, 0);
        assert_eq!(costs().best_at(1.0).0, 1);
    }

    #[test]
    fn first_tokens_come_of_prompts() {
        let drafting = DraftStats { samples: 2, tokens: 22, drafted: 16, accepted: 12, rounds: 8, seconds: 4.0 };
        assert_eq!(drafting.per_round(), Some((2.0, 2.5)));
        assert_eq!(drafting.acceptance(), Some(0.75));
        assert_eq!(drafting.tokens_per_second(), Some(5.0));
        assert_eq!(DraftStats::default().per_round(), None);
    }
}

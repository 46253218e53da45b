//! The cost model of speculative decoding.

use serde::{Deserialize, Serialize};

/// The timed costs of a round of speculative decoding, by draft length.
///
/// ```
/// use logitfuse_core::RoundCosts;
///
/// // 10 ms a round, 2 ms more for every drafted token, 1 ms for every token that comes of it.
/// let costs = RoundCosts { batch: 1, round_seconds: vec![0.010, 0.012, 0.014], token_seconds: 0.001 };
/// // Of two drafted tokens 1.5 are accepted on the mean: 2.5 tokens in 16.5 ms.
/// assert!((costs.tokens_per_second(2.0, 2.5) - 2.5 / 0.0165).abs() < 1e-9);
/// // If every drafted token is accepted with probability 1/2: 1 + 1/2 + 1/4 tokens a round.
/// assert!((costs.at_acceptance(2, 0.5) - 1.75 / 0.01575).abs() < 1e-9);
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RoundCosts {
    /// Sequences that are decoded at once.
    pub batch: usize,
    /// Seconds of a round in which this many tokens are drafted for every sequence, from none on; what every token costs by
    /// itself is not in it.
    pub round_seconds: Vec<f64>,
    /// Seconds of fusing and choosing one token.
    pub token_seconds: f64,
}

impl RoundCosts {
    /// Tokens per second if a round drafts `drafted` tokens for each sequence and gives `tokens` for it, on the mean.
    /// Costs between two whole numbers of tokens lie on a line, as do those beyond the longest draft that was timed.
    pub fn tokens_per_second(&self, drafted: f64, tokens: f64) -> f64 {
        let tokens = self.batch as f64 * tokens;
        tokens / (self.seconds(drafted) + tokens * self.token_seconds)
    }

    /// The same for drafts of `length` tokens, each of which is accepted with probability `acceptance` if those before it do.
    pub fn at_acceptance(&self, length: usize, acceptance: f64) -> f64 {
        let mut run = 1.0;
        let mut tokens = 1.0;
        for _ in 0..length {
            run *= acceptance;
            tokens += run;
        }
        self.tokens_per_second(length as f64, tokens)
    }

    /// The length that gives the most tokens per second, and these.
    pub fn best_at(&self, acceptance: f64) -> (usize, f64) {
        let all = (0..self.round_seconds.len()).map(|length| (length, self.at_acceptance(length, acceptance)));
        // Of equals the shortest.
        all.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap_or((0, 0.0))
    }

    fn seconds(&self, drafted: f64) -> f64 {
        let known = self.round_seconds.as_slice();
        let after = known.iter().enumerate().position(|(length, _)| length as f64 >= drafted).unwrap_or(known.len());
        let after = after.min(known.len().saturating_sub(1)).max(1);
        match (known.get(after - 1), known.get(after)) {
            (Some(low), Some(high)) => low + (high - low) * (drafted - (after - 1) as f64),
            (Some(only), None) => *only,
            _ => f64::NAN,
        }
    }
}

/// Acceptance and speed of drafts, summed over samples.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DraftStats {
    /// Samples.
    pub samples: usize,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Drafted tokens that were accepted.
    pub accepted: usize,
    /// Rounds of all samples.
    pub rounds: usize,
    /// Wall-clock seconds of the generation, prompts not counted.
    pub seconds: f64,
}

impl DraftStats {
    /// The share of drafted tokens that were accepted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Tokens drafted, and tokens generated, in one round of one sequence, on the mean. The first token of a sample comes of
    /// its prompt.
    pub fn per_round(&self) -> Option<(f64, f64)> {
        let tokens = self.tokens.saturating_sub(self.samples) as f64;
        let rounds = self.rounds as f64;
        (self.rounds > 0).then(|| (self.drafted as f64 / rounds, tokens / rounds))
    }

    /// Tokens per second of generation, those that came of prompts not counted.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let tokens = self.tokens.saturating_sub(self.samples);
        (tokens > 0 && self.seconds > 0.0).then(|| tokens as f64 / self.seconds)
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

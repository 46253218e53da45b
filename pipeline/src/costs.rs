//! What models' passes cost, timed or guessed, and what drafting costs by them.

use std::time::Instant;

use logitfuse_core::{LogitSource, Result, Rows, SequenceId, Step, TokenId};
use logitfuse_engine::DraftCosts;

use crate::ThreadPlan;

/// The longest draft that is considered.
pub(crate) const LONGEST: usize = 8;
/// Tokens in the cache while something is timed.
pub(crate) const CONTEXT: usize = 64;

/// The best of so many timings counts: whatever else the machine does only adds.
const TRIES: usize = 3;

/// Seconds that each model's `forward` takes.
#[derive(Clone, Debug)]
pub(crate) struct Costs<'a> {
    /// `of[model][rows - 1]`: appending `rows` tokens to a short context and yielding all their rows.
    pub(crate) of: Vec<Vec<f64>>,
    /// How the models share the cores.
    pub(crate) plan: &'a ThreadPlan,
}

impl Costs<'_> {
    /// What drafting costs if `drafter` drafts; `None`: no model runs for it.
    pub(crate) fn drafts(&self, drafter: Option<usize>) -> DraftCosts {
        let seconds = |model: usize, rows: usize| self.of[model][rows - 1];
        let round = |tokens: usize| {
            let in_wave = |wave: &Vec<usize>| {
                // What the drafter did not draft from is the last token alone.
                let rows = |model: usize| if drafter == Some(model) && tokens > 0 { 1 } else { tokens + 1 };
                wave.iter().map(|&model| seconds(model, rows(model))).fold(0.0, f64::max)
            };
            self.plan.waves.iter().map(in_wave).sum()
        };
        let longest = self.of.iter().map(Vec::len).min().unwrap_or(1) - 1;
        DraftCosts { draft: drafter.map_or(0.0, |model| seconds(model, 1)), verify: (0..=longest).map(round).collect() }
    }
}

/// Times one model in seconds: one token to nine at once, the best of a few tries each.
pub(crate) fn time(source: &mut dyn LogitSource) -> Result<Vec<f64>> {
    let sequence = source.open()?;
    let timed = time_sequence(source, sequence);
    source.close(sequence);
    timed
}

fn time_sequence(source: &mut dyn LogitSource, sequence: SequenceId) -> Result<Vec<f64>> {
    let context = context(source.info().context_length);
    let tokens: Vec<TokenId> = vec![0; context + LONGEST + 1];
    let mut rows = Rows::new();
    source.reserve(sequence, tokens.len())?;
    source.forward(&[Step { sequence, tokens: &tokens[..context], rows: 0 }], &mut rows)?;
    let mut times = Vec::new();
    for count in 1..=LONGEST + 1 {
        let mut best = f64::INFINITY;
        for _ in 0..TRIES {
            let start = Instant::now();
            source.forward(&[Step { sequence, tokens: &tokens[..count], rows: count }], &mut rows)?;
            best = best.min(start.elapsed().as_secs_f64());
            source.truncate(sequence, context)?;
        }
        times.push(best);
    }
    Ok(times)
}

/// Tokens in the cache of a model with such a context.
pub(crate) fn context(limit: Option<usize>) -> usize {
    limit.map_or(CONTEXT, |limit| CONTEXT.min(limit / 4)).max(1)
}

/// A guess from the bytes of weights alone, for where a clock must not be asked. A pass begins with what every pass takes;
/// then it reads the weights, from a cache of the processor as far as they fit, else from memory; each further row
/// computes. Measured on two cores: 0.6 MB, 10 MB and 140 MB of weights.
pub(crate) fn by_size<'a>(plan: &'a ThreadPlan, weights: &[u64]) -> Costs<'a> {
    let step = |&bytes: &u64| {
        let bytes = bytes as f64;
        let read = bytes.min(CACHE) / CACHE_BANDWIDTH + (bytes - CACHE).max(0.0) / MEMORY_BANDWIDTH;
        (0..=LONGEST).map(|extra| PASS + read + extra as f64 * (ROW + ROW_SHARE * read)).collect()
    };
    Costs { of: weights.iter().map(step).collect(), plan }
}

/// Seconds of a pass over a model without weights.
const PASS: f64 = 80e-6;
/// Bytes of weights that stay near the processor.
const CACHE: f64 = 32e6;
/// Bytes per second.
const CACHE_BANDWIDTH: f64 = 30e9;
/// Bytes per second.
const MEMORY_BANDWIDTH: f64 = 9e9;
/// Seconds of a further row, and what it takes of the time of reading the weights.
const ROW: f64 = 15e-6;
const ROW_SHARE: f64 = 0.1;

#[cfg(test)]
mod tests {
    use logitfuse_replay::SyntheticSource;

    use super::*;

    #[test]
    fn a_round_is_its_waves() {
        let plan = ThreadPlan { threads: vec![2, 1, 1], waves: vec![vec![0], vec![1, 2]] };
        let of = vec![vec![0.100, 0.110, 0.120], vec![0.010, 0.011, 0.012], vec![0.010, 0.012, 0.014]];
        let costs = Costs { of, plan: &plan };
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        let drafts = costs.drafts(Some(1));
        assert!(close(&[drafts.draft], &[0.010]) && close(&drafts.verify, &[0.110, 0.122, 0.134]), "{drafts:?}");
        let lookup = costs.drafts(None);
        assert!(close(&[lookup.draft], &[0.0]) && close(&lookup.verify, &[0.110, 0.122, 0.134]), "{lookup:?}");
    }

    #[test]
    fn a_source_is_as_it_was_after_it_was_timed() {
        let mut source = SyntheticSource::new("toy", 32, 1);
        assert_eq!(time(&mut source).unwrap().len(), LONGEST + 1);
        let fresh = source.open().unwrap();
        assert_eq!(source.len(fresh), Some(0));
    }

    #[test]
    fn small_models_are_not_as_cheap_as_they_are_small() {
        let plan = ThreadPlan::new(&[10_000_000, 600_000], 2);
        let costs = by_size(&plan, &[10_000_000, 600_000]);
        assert!(costs.of[0][0] < 10.0 * costs.of[1][0], "{costs:?}");
        assert!(costs.of.iter().all(|of| of.is_sorted()), "{costs:?}");
    }
}

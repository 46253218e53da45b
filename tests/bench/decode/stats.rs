//! What is made of repeated measurements.
//!
//! The machine may be busy with other work, so no single number counts: turns are paired, a ratio is the median of its
//! pairs, and an interval says how far it may be trusted.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::Serialize;

/// How many times the pairs are drawn anew.
const RESAMPLES: usize = 4000;

/// The middle of some measurements and how they lie around it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The 10th percentile: what the machine does when it is left alone.
    pub(crate) p10: f64,
    /// The distance between the quartiles as a share of the median.
    pub(crate) spread: f64,
}

impl Summary {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values = sorted(values);
        let median = quantile(&values, 0.5);
        let spread = (quantile(&values, 0.75) - quantile(&values, 0.25)) / median;
        Self { median, p10: quantile(&values, 0.1), spread }
    }
}

/// The median of paired quotients with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// `over[i] / under[i]`, where both were measured in round `i`.
    pub(crate) fn of(over: &[f64], under: &[f64]) -> Self {
        Self::of_shares(over.iter().zip(under).map(|(over, under)| over / under))
    }

    /// The same for numbers that are quotients already.
    pub(crate) fn of_shares(shares: impl IntoIterator<Item = f64>) -> Self {
        let shares: Vec<f64> = shares.into_iter().collect();
        // A fixed seed: the same measurements give the same interval.
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut pick = || shares[usize::try_from(rng.next_u64() % shares.len().max(1) as u64).unwrap_or(0)];
        let medians = sorted((0..RESAMPLES).map(|_| median((0..shares.len()).map(|_| pick()))));
        Self { value: median(shares.clone()), low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Between the two nearest values; NaN of nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q * last as f64;
    let (below, above) = (place.floor(), place.ceil());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both lie within 0..=last")]
    let (low, high) = (sorted[below as usize], sorted[above as usize]);
    low + (high - low) * (place - below)
}

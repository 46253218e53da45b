use logitfuse_core::{Error, ErrorKind, Result};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    interval::{Interval, checked, quantile},
    same_items,
    summary::{Summary, mean},
};

/// The percentile bootstrap over items.
///
/// A draw takes as many items as there are, with replacement, and a statistic is computed on them; what it does over many
/// draws is how it would do over many samples of items. Systems that answered the same items are resampled together.
///
/// ```
/// use logitfuse_metrics::statistics::Bootstrap;
///
/// // A median, for which there is no simple formula.
/// let latencies = [12.0, 15.0, 11.0, 90.0, 14.0, 13.0, 12.5];
/// let median = |items: &[usize]| {
///     let mut drawn: Vec<f64> = items.iter().map(|i| latencies[*i]).collect();
///     drawn.sort_by(f64::total_cmp);
///     drawn[drawn.len() / 2]
/// };
/// let interval = Bootstrap::default().interval(latencies.len(), median)?.unwrap();
/// assert!(interval.contains(13.0) && !interval.contains(20.0));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// How many draws; the default is 10 000.
    pub draws: usize,
    /// The part of the draws that an interval holds; the default is 0.95.
    pub confidence: f64,
    /// The seed of the draws; the default is 0.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 10_000, confidence: 0.95, seed: 0 }
    }
}

/// A value over all items with its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The value over all items.
    pub value: f64,
    /// Its standard error by formula (n − 1); `None` of one item.
    pub stderr: Option<f64>,
    /// The percentile interval.
    pub interval: Interval,
}

/// A statistic over all draws, sorted.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    sorted: Vec<f64>,
    undefined: usize,
}

impl Bootstrap {
    /// The statistic on every draw. It is given the indices of the drawn items, each below `items`, in drawn order; NaN
    /// says that it is not defined on them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] without draws, [`ErrorKind::InvalidData`] without items or with 2³² of them.
    pub fn distribution(&self, items: usize, mut statistic: impl FnMut(&[usize]) -> f64) -> Result<Distribution> {
        if self.draws == 0 {
            return Err(Error::new(ErrorKind::InvalidConfig, "draws: must be 1 or more").with_help("10000 is usual"));
        }
        let bound = u32::try_from(items).ok().filter(|bound| *bound > 0).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidData,
                format!("items: {items} cannot be drawn from; there must be 1 to 4294967295"),
            )
        })?;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        let mut drawn = vec![0; items];
        let mut sorted = Vec::with_capacity(self.draws);
        for _ in 0..self.draws {
            drawn.fill_with(|| below(&mut random, bound));
            sorted.push(statistic(&drawn));
        }
        sorted.retain(|value| !value.is_nan());
        sorted.sort_by(f64::total_cmp);
        Ok(Distribution { undefined: self.draws - sorted.len(), sorted })
    }

    /// The interval of a statistic; `None` if it is undefined on every draw.
    ///
    /// # Errors
    /// As [`Bootstrap::distribution`], and for a confidence that is not between 0 and 1.
    pub fn interval(&self, items: usize, statistic: impl FnMut(&[usize]) -> f64) -> Result<Option<Interval>> {
        checked(self.confidence)?;
        Ok(self.distribution(items, statistic)?.interval(self.confidence))
    }

    /// The mean of scores.
    ///
    /// # Errors
    /// As [`Bootstrap::interval`], and [`ErrorKind::Numeric`] for scores that are not finite.
    pub fn mean(&self, scores: &[f64]) -> Result<Estimate> {
        if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
            return Err(Error::new(ErrorKind::Numeric, format!("scores: {score} among them")));
        }
        let interval = self.interval(scores.len(), |items| mean_of(scores, items))?;
        let missing = || Error::new(ErrorKind::Numeric, "scores: their sum is not finite");
        let summary = Summary::of(scores).ok_or_else(missing)?;
        Ok(Estimate { value: summary.mean, stderr: summary.stderr, interval: interval.ok_or_else(missing)? })
    }

    /// The mean of the differences `a − b`, item by item.
    ///
    /// # Errors
    /// As [`Bootstrap::mean`], and [`ErrorKind::Incompatible`] unless both are of the same number of items.
    pub fn difference(&self, a: &[f64], b: &[f64]) -> Result<Estimate> {
        same_items(a.len(), b.len())?;
        self.mean(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
    }
}

impl Distribution {
    /// The interval that leaves out equal parts of the draws at both ends; `None` if no draw was defined.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let tail = 0.5 * (1.0 - confidence.clamp(0.0, 1.0));
        Some(Interval { low: quantile(&self.sorted, tail)?, high: quantile(&self.sorted, 1.0 - tail)? })
    }

    /// The standard deviation of the draws (n − 1), which lm-eval calls the bootstrap's standard error; `None` of fewer
    /// than two defined draws.
    pub fn stderr(&self) -> Option<f64> {
        let mean = mean(&self.sorted)?;
        let squares: f64 = self.sorted.iter().map(|value| (value - mean).powi(2)).sum();
        (self.sorted.len() > 1).then(|| (squares / (self.sorted.len() - 1) as f64).sqrt())
    }

    /// On how many draws the statistic was not defined; these are left out of everything else.
    pub fn undefined(&self) -> usize {
        self.undefined
    }
}

pub(crate) fn mean_of(scores: &[f64], items: &[usize]) -> f64 {
    items.iter().map(|i| scores[*i]).sum::<f64>() / items.len() as f64
}

/// Uniform below `bound`, without bias and the same everywhere (Lemire, ACM TOMACS 29, 2019).
fn below(random: &mut ChaCha8Rng, bound: u32) -> usize {
    let reject_below = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(random.next_u32()) * u64::from(bound);
        let (index, low) = (product >> 32, product & u64::from(u32::MAX));
        if low >= u64::from(reject_below) {
            return usize::try_from(index).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_drawn_equally_often() {
        let mut counts = [0_u32; 7];
        let bootstrap = Bootstrap { draws: 20_000, ..Bootstrap::default() };
        bootstrap
            .distribution(7, |items| {
                for i in items {
                    counts[*i] += 1;
                }
                0.0
            })
            .unwrap();
        // Binomial with n = 140 000, p = 1/7: a standard deviation is 131.
        assert!(counts.iter().all(|count| count.abs_diff(20_000) < 6 * 131), "{counts:?}");
    }
}

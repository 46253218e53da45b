//! How much of the gap between an untuned and a tuned model a fused system closes.
//!
//! Why: "88 % of the gap" is what papers report and readers remember, and it is easy to get wrong: by dividing by the tuned
//! score alone, by clamping, or by dividing by a gap that is not there. A ratio here comes with its interval, over paired
//! items, and is *undefined* where the 95 % interval of its denominator includes 0.
//!
//! ```
//! use logitfuse_metrics::{gap::{GapScores, gap_closed}, statistics::Bootstrap};
//!
//! # let (base, tuned): (Vec<f64>, Vec<f64>) = (0..200).map(|i| (f64::from(u8::from(i % 10 < 3)), f64::from(u8::from(i % 10 < 8)))).unzip();
//! # let fused: Vec<f64> = (0..200).map(|i| f64::from(u8::from(i % 10 < 7))).collect();
//! // Scores per item: base is right on 30 %, tuned on 80 %, fused on 70 %.
//! let gap = gap_closed(GapScores { fused: &fused, base: &base, tuned: &tuned }, &Bootstrap::default())?;
//! let closed = gap.recovered.unwrap();
//! assert!((closed.value - 0.8).abs() < 1e-12 && closed.interval.contains(0.8));
//! // The ratio that some papers print flatters: an untuned model would already reach 0.3 / 0.8.
//! assert!((gap.ratio_to_ceiling.unwrap() - 0.875).abs() < 1e-12);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! | name | formula | floor | ceiling |
//! |---|---|---|---|
//! | gap closed | (fused − base) / (tuned − base) | the large model, untuned | the large model, tuned |
//! | PGR, performance gap recovered (Burns et al. 2023) | (fused − weak) / (ceiling − weak) | the small tuned model | the large model, tuned |
//! | ratio to the ceiling ("paper-style") | fused / tuned | 0 | the large model, tuned |
//!
//! Nothing is clamped: a fused system may be worse than the floor or better than the ceiling. The formulas also serve
//! where less is better, such as a mean loss.

use logitfuse_core::{Error, ErrorKind, Result};

use crate::statistics::{Bootstrap, Estimate, Interval, Summary, mean_of, same_items};

/// The level at which a denominator must differ from 0.
const DENOMINATOR_CONFIDENCE: f64 = 0.95;

/// Scores of the same items, in the same order, by three systems.
#[derive(Clone, Copy, Debug)]
pub struct GapScores<'a> {
    /// The large untuned model, steered.
    pub fused: &'a [f64],
    /// The large untuned model alone.
    pub base: &'a [f64],
    /// The large tuned model alone.
    pub tuned: &'a [f64],
}

/// Scores of the same items, in the same order, by three systems.
#[derive(Clone, Copy, Debug)]
pub struct PgrScores<'a> {
    /// The large untuned model, steered by the small tuned one.
    pub fused: &'a [f64],
    /// The small tuned model alone.
    pub weak: &'a [f64],
    /// The large tuned model alone.
    pub ceiling: &'a [f64],
}

/// A gap and what part of it was closed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gap {
    /// (fused − floor) / (ceiling − floor); `None` where it is not defined: the 95 % interval of the denominator includes
    /// 0, or there are fewer than two items.
    pub recovered: Option<Recovered>,
    /// The denominator, ceiling − floor, with its 95 % interval.
    pub gap: Estimate,
    /// fused / ceiling, the "paper-style" ratio; `None` for a ceiling of 0.
    pub ratio_to_ceiling: Option<f64>,
}

/// The part of a gap that was closed; 1 is all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recovered {
    /// Over all items.
    pub value: f64,
    /// The interval of the paired bootstrap, at its confidence: all three systems are resampled together.
    pub interval: Interval,
    /// On how many draws numerator and denominator were both 0; they are left out.
    pub undefined_draws: usize,
}

/// (fused − base) / (tuned − base).
///
/// # Errors
/// [`ErrorKind::Incompatible`] unless all systems have the same number of items; as [`Bootstrap::mean`] else.
pub fn gap_closed(scores: GapScores<'_>, bootstrap: &Bootstrap) -> Result<Gap> {
    between(scores.fused, scores.base, scores.tuned, bootstrap)
}

/// (fused − weak) / (ceiling − weak).
///
/// # Errors
/// As [`gap_closed`].
pub fn performance_gap_recovered(scores: PgrScores<'_>, bootstrap: &Bootstrap) -> Result<Gap> {
    between(scores.fused, scores.weak, scores.ceiling, bootstrap)
}

/// The mean over tasks of [`gap_closed`], which weighs tasks alike however many items they have. Its interval draws the items
/// of every task, each task by itself. `None` of no tasks, or where one of the gaps is not defined.
///
/// ```
/// use logitfuse_metrics::{gap::{GapScores, mean_gap_closed}, statistics::Bootstrap};
///
/// let scores = |right: usize| (0..50).map(|i| f64::from(u8::from(i < right))).collect::<Vec<f64>>();
/// let (base, tuned) = (scores(10), scores(50));
/// let (one, other) = (scores(30), scores(40));
/// let tasks = [&one, &other].map(|fused| GapScores { fused, base: &base, tuned: &tuned });
/// let mean = mean_gap_closed(&tasks, &Bootstrap::default())?.unwrap();
/// assert!((mean.value - 0.625).abs() < 1e-12 && mean.interval.contains(0.625));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
///
/// # Errors
/// As [`gap_closed`].
pub fn mean_gap_closed(tasks: &[GapScores<'_>], bootstrap: &Bootstrap) -> Result<Option<Recovered>> {
    let mut sums = vec![0.0; bootstrap.draws];
    let mut value = 0.0;
    for (seed, task) in (bootstrap.seed..).zip(tasks) {
        let Some(closed) = gap_closed(*task, bootstrap)?.recovered else { return Ok(None) };
        value += closed.value;
        let mut draw = sums.iter_mut();
        // Every task has draws of its own.
        Bootstrap { seed, ..*bootstrap }.distribution(task.fused.len(), |items| {
            let base = mean_of(task.base, items);
            let closed = (mean_of(task.fused, items) - base) / (mean_of(task.tuned, items) - base);
            if let Some(sum) = draw.next() {
                *sum += closed;
            }
            closed
        })?;
    }
    if tasks.is_empty() {
        return Ok(None);
    }
    let count = tasks.len() as f64;
    let mut means = sums.into_iter().map(|sum| sum / count);
    let draws = bootstrap.distribution(1, |_| means.next().unwrap_or(f64::NAN))?;
    Ok(draws.interval(bootstrap.confidence).map(|interval| Recovered {
        value: value / count,
        interval,
        undefined_draws: draws.undefined(),
    }))
}

fn between(fused: &[f64], floor: &[f64], ceiling: &[f64], bootstrap: &Bootstrap) -> Result<Gap> {
    same_items(fused.len(), floor.len())?;
    if let Some(score) = fused.iter().find(|score| !score.is_finite()) {
        return Err(Error::new(ErrorKind::Numeric, format!("scores: {score} among those of the fused system")));
    }
    let gap = Bootstrap { confidence: DENOMINATOR_CONFIDENCE, ..*bootstrap }.difference(ceiling, floor)?;
    let mean = |scores: &[f64]| Summary::of(scores).map_or(0.0, |summary| summary.mean);
    let (fused_mean, ceiling_mean) = (mean(fused), mean(ceiling));
    let ratio_to_ceiling = (ceiling_mean != 0.0).then(|| fused_mean / ceiling_mean);
    let mut all = Gap { recovered: None, gap, ratio_to_ceiling };
    if fused.len() < 2 || gap.interval.contains(0.0) {
        return Ok(all);
    }
    let above: Vec<f64> = fused.iter().zip(floor).map(|(fused, floor)| fused - floor).collect();
    let whole: Vec<f64> = ceiling.iter().zip(floor).map(|(ceiling, floor)| ceiling - floor).collect();
    let draws = bootstrap.distribution(fused.len(), |items| mean_of(&above, items) / mean_of(&whole, items))?;
    all.recovered = draws.interval(bootstrap.confidence).map(|interval| Recovered {
        value: mean(&above) / gap.value,
        interval,
        undefined_draws: draws.undefined(),
    });
    Ok(all)
}

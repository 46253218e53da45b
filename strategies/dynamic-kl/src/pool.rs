//! The pooled expert and anti: means of distributions.

use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{
    Contrast, lanes::round_to_f32, linear_combination, ln, log_sum_exp, masked_difference, softmax,
};

use crate::{Pool, StepRows};

/// The rows of the pooled expert and its anti; the buffers are reused between steps.
#[derive(Debug, Default)]
pub(crate) struct Pooler {
    expert: Vec<f32>,
    anti: Vec<f32>,
    scratch: [Vec<f32>; 2],
}

impl Pooler {
    /// The expert and the anti that these weights make. A single expert is returned as it is, so that a pool of one
    /// has the same bits as no pool.
    ///
    /// "No expert" is the anti, as one more member of the pool of experts. Where an expert lacks an id it
    /// counts as its anti there.
    pub(crate) fn pool<'a>(
        &'a mut self,
        pool: Pool,
        rows: StepRows<'a>,
        weights: &[f64],
        no_expert: f64,
    ) -> (RoleRow<'a>, RoleRow<'a>) {
        let weighted = || (0..weights.len()).filter(|&index| weights[index] > 0.0);
        let Some(first) = weighted().next() else { return (*rows.anti(0), *rows.anti(0)) };
        if no_expert == 0.0 && weighted().count() == 1 {
            return (*rows.expert(first), *rows.anti(first));
        }
        let Self { expert, anti, scratch } = self;
        let pooled_anti = if rows.shares_anti() {
            *rows.anti(0)
        } else {
            let all = weights.iter().sum::<f64>();
            let from_first = |i| Contrast::between(weights[i] / all, rows.anti(i), rows.anti(first));
            sum(rows.anti(first).logits(), weighted().map(from_first), anti, &mut scratch[0]);
            // A direction has two ends: an id that one anti lacks is left to the base.
            weighted().for_each(|index| mask_where_masked(rows.anti(index).logits(), anti));
            normalised(anti)
        };
        let contrasts = weighted().map(|i| Contrast::between(weights[i], rows.expert(i), rows.anti(i)));
        match pool {
            Pool::Geometric => sum(pooled_anti.logits(), contrasts, expert, &mut scratch[0]),
            Pool::Arithmetic => mixture(pooled_anti.logits(), contrasts, no_expert, expert, scratch),
        }
        let pooled = normalised(expert);
        // Distributions without a common id have no mean; then nothing is fused.
        if pooled.log_normaliser.is_finite() && pooled_anti.log_normaliser.is_finite() {
            (pooled, pooled_anti)
        } else {
            (*rows.anti(first), *rows.anti(first))
        }
    }
}

fn normalised(row: &[f32]) -> RoleRow<'_> {
    RoleRow::new(row, log_sum_exp(row), 0.0)
}

/// Writes `base + Σ contrasts`: for weights that add up to 1, the geometric mean.
pub(crate) fn sum<'a>(
    base: &[f32],
    contrasts: impl Iterator<Item = Contrast<'a>>,
    out: &mut Vec<f32>,
    scratch: &mut Vec<f32>,
) {
    /// Contrasts of one pass; with them on the stack, nothing is allocated.
    const AT_ONCE: usize = 8;
    const NONE: Contrast<'_> = Contrast { weight: 0.0, towards: &[], away: &[], where_masked: 0.0 };
    out.resize(base.len(), 0.0);
    let (mut contrasts, mut first) = (contrasts.peekable(), true);
    while first || contrasts.peek().is_some() {
        let mut pass = [NONE; AT_ONCE];
        pass.iter_mut().zip(contrasts.by_ref()).for_each(|(place, contrast)| *place = contrast);
        if !first {
            scratch.clone_from(out);
        }
        // Contrasts of weight 0 are not looked at.
        linear_combination(if first { base } else { scratch }, 1.0, &pass, out);
        first = false;
    }
}

/// Writes `base + log(rest + Σ weight · exp(towards − away))`, log-probabilities being meant in the exponent: for one
/// `away`, which is the base, the arithmetic mean. Ratios are kept between e^-87 and e^88, and experts equal to
/// their anti change no bit.
fn mixture<'a>(
    base: &[f32],
    contrasts: impl Iterator<Item = Contrast<'a>>,
    rest: f64,
    out: &mut Vec<f32>,
    [difference, ratios]: &mut [Vec<f32>; 2],
) {
    let rest = round_to_f32(rest);
    let mut all = rest;
    out.clear();
    out.resize(base.len(), rest);
    difference.resize(base.len(), 0.0);
    ratios.resize(base.len(), 0.0);
    for contrast in contrasts {
        masked_difference(contrast.towards, contrast.away, contrast.where_masked, difference);
        softmax(difference, contrast.where_masked, ratios);
        let weight = round_to_f32(contrast.weight);
        out.iter_mut().zip(&*ratios).for_each(|(out, ratio)| *out += weight * ratio);
        all += weight;
    }
    for (out, base) in out.iter_mut().zip(base) {
        *out = base + ln(*out / all);
    }
}

fn mask_where_masked(row: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(row).for_each(|(out, x)| *out = if *x == f32::NEG_INFINITY { *x } else { *out });
}

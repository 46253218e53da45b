//! The kernel of means that are not linear in logits.

use logitfuse_core::{
    FusionGraph, RoleRow,
    fusion_graph::{Comparison, Value},
    numerics::{lanes::round_to_f32, ln, masked_difference, softmax},
};

/// Entries that are worked on together, on the stack.
const BLOCK: usize = 1024;

/// Writes the logits of `(Σ w · p^power)^(1/power)`, the power mean of the members' probabilities, weights normalised. A
/// member that lacks an id does not count there. `base` is the first member, of weight `base_weight`; where it is masked, so is
/// the result.
///
/// Everything is relative to the base, `base + log(Σ w · e^(power · d)) / power` with `d` the difference of the
/// log-probabilities, so that equal rows give the base to the bit and no probability is too small.
pub(crate) fn power_mean<'a>(
    power: f64,
    base: &RoleRow<'a>,
    base_weight: f64,
    others: &(impl Iterator<Item = (f64, &'a RoleRow<'a>)> + Clone),
    out: &mut [f32],
) {
    // Added up as the sums of the ids are, so that their ratio is 1 where all members agree.
    let total = others.clone().fold(round_to_f32(base_weight), |total, (weight, _)| total + round_to_f32(weight));
    let power = round_to_f32(power);
    let (mut exponent, mut ratio) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
    for start in (0..out.len()).step_by(BLOCK) {
        let ids = start..out.len().min(start + BLOCK);
        let base_logits = &base.logits()[ids.clone()];
        let (exponent, ratio) = (&mut exponent[..ids.len()], &mut ratio[..ids.len()]);
        // Each id's sum is kept as `sum · e^best`, where `best` is the largest exponent so far: nothing overflows.
        let mut best = [if base_weight > 0.0 { 0.0_f32 } else { f32::MIN }; BLOCK];
        let mut sum = [round_to_f32(base_weight); BLOCK];
        for (weight, row) in others.clone().filter(|(weight, _)| *weight > 0.0) {
            let weight = round_to_f32(weight);
            let shift = row.log_normaliser - base.log_normaliser;
            let (high, low) = (round_to_f32(shift), round_to_f32(shift - f64::from(round_to_f32(shift))));
            masked_difference(&row.logits()[ids.clone()], base_logits, shift, exponent);
            for ((exponent, ratio), best) in exponent.iter_mut().zip(&mut *ratio).zip(&best) {
                *exponent = finite(power * ((*exponent - high) - low));
                *ratio = -(*exponent - best).abs();
            }
            exponentiate(ratio);
            for (((sum, best), &exponent), &ratio) in sum.iter_mut().zip(&mut best).zip(&*exponent).zip(&*ratio) {
                let wins = exponent > *best;
                *sum = if wins { *sum * ratio + weight } else { *sum + weight * ratio };
                *best = if wins { exponent } else { *best };
            }
        }
        for (((out, &base), &sum), &best) in out[ids].iter_mut().zip(base_logits).zip(&sum).zip(&best) {
            let above = (best + ln(sum / total)) / power;
            // Not `base + 0`, which would turn -0 into +0.
            let moved = if above == 0.0 { base } else { finite(base + above) };
            *out = if base == f32::NEG_INFINITY { base } else { moved };
        }
    }
}

/// [`power_mean`] as operations of a graph; `terms` are the normalised weights of the other members and their differences from
/// the base.
pub(crate) fn lowered_power_mean(
    graph: &mut FusionGraph,
    power: Value,
    (base_weight, base): (Value, Value),
    terms: &[(Value, Value)],
) -> Value {
    let [zero, lowest] = [0.0, f32::MIN].map(|number| graph.constant(number));
    let counts = graph.compare(Comparison::Less, zero, base_weight);
    let mut best = graph.select(counts, zero, lowest);
    let mut exponents = Vec::new();
    for &(weight, direction) in terms {
        let exponent = graph.multiply(power, direction);
        let exponent = graph.finite(exponent);
        let counts = graph.compare(Comparison::Less, zero, weight);
        let counted = graph.select(counts, exponent, lowest);
        best = graph.max(best, counted);
        exponents.push((weight, counted));
    }
    let below = graph.subtract(zero, best);
    let ratio = graph.exp(below);
    let base_part = graph.multiply(base_weight, ratio);
    let mut sum = graph.select(counts, base_part, zero);
    for (weight, exponent) in exponents {
        let below = graph.subtract(exponent, best);
        let ratio = graph.exp(below);
        let part = graph.multiply(weight, ratio);
        sum = graph.add(sum, part);
    }
    let log = graph.log(sum);
    let above = graph.add(best, log);
    let above = graph.divide(above, power);
    let fused = graph.add(base, above);
    let fused = graph.finite(fused);
    let masked = graph.is_masked(base);
    graph.select(masked, base, fused)
}

/// `e^x` of every entry, by the core's kernel: a softmax without normaliser.
fn exponentiate(entries: &mut [f32]) {
    let mut result = [0.0_f32; BLOCK];
    let result = &mut result[..entries.len()];
    softmax(entries, 0.0, result);
    entries.copy_from_slice(result);
}

fn finite(x: f32) -> f32 {
    x.clamp(f32::MIN, f32::MAX)
}

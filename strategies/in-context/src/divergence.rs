//! The Jensen–Shannon divergence of two rows.

use logitfuse_core::{
    RoleRow,
    numerics::{ln, softmax},
};

/// Entries that are worked on together, on the stack.
const BLOCK: usize = 512;
/// Partial sums, so that additions need not wait for one another; their number is part of the result's last bits.
const LANES: usize = 16;

/// The Jensen–Shannon divergence in nats: 0 for equal rows, exactly so for rows of equal bits; log 2 for rows without a
/// common id. Unlike KL it is symmetric, and finite where one row masks what the other allows. Absolute error 1e-6.
pub(crate) fn jensen_shannon(p: &RoleRow<'_>, q: &RoleRow<'_>) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (mut of_p, mut of_q) = ([0.0_f32; BLOCK], [0.0_f32; BLOCK]);
    for (p_logits, q_logits) in p.logits().chunks(BLOCK).zip(q.logits().chunks(BLOCK)) {
        let (of_p, of_q) = (&mut of_p[..p_logits.len()], &mut of_q[..q_logits.len()]);
        softmax(p_logits, p.log_normaliser, of_p);
        softmax(q_logits, q.log_normaliser, of_q);
        for (p, q) in of_p.chunks(LANES).zip(of_q.chunks(LANES)) {
            for ((sum, &p), &q) in sums.iter_mut().zip(p).zip(q) {
                *sum += f64::from(share(p, q));
            }
        }
    }
    // Rounding may leave the interval.
    sums.iter().sum::<f64>().clamp(0.0, std::f64::consts::LN_2)
}

/// What one id with probabilities `p` and `q` contributes: `m/2 · ((1+u) ln(1+u) + (1−u) ln(1−u))`, where `m` is the mean
/// and `1 ± u` are the ratios of `p` and `q` to it. Written in `u`, equal probabilities give 0 to the bit.
#[inline]
fn share(p: f32, q: f32) -> f32 {
    let both = (p + q).max(f32::MIN_POSITIVE);
    let u = (p - q) / both;
    let (above, below) = (1.0 + u, 1.0 - u);
    0.25 * both * (above * ln(above) + below * ln(below))
}

#[cfg(test)]
mod tests {
    use logitfuse_core::numerics::log_sum_exp;
    use proptest::prelude::*;

    use super::*;

    fn of(p: &[f32], q: &[f32]) -> f64 {
        jensen_shannon(&RoleRow::new(p, log_sum_exp(p), 0.0), &RoleRow::new(q, log_sum_exp(q), 0.0))
    }

    /// The definition, in f64.
    fn exact(p: &[f32], q: &[f32]) -> f64 {
        let probabilities = |row: &[f32]| {
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f64> = row.iter().map(|&x| f64::from(x - best).exp()).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(|w| w / sum).collect::<Vec<f64>>()
        };
        let half_kl = |p: f64, m: f64| if p > 0.0 { 0.5 * p * (p / m).ln() } else { 0.0 };
        let pairs = probabilities(p).into_iter().zip(probabilities(q));
        pairs.map(|(p, q)| half_kl(p, 0.5 * (p + q)) + half_kl(q, 0.5 * (p + q))).sum()
    }

    fn rows() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        let entry = prop_oneof![6 => -12.0_f32..12.0, 1 => Just(f32::NEG_INFINITY)];
        let row = move |len| {
            prop::collection::vec(entry.clone(), len).prop_map(|mut row| {
                row[0] = 3.0;
                row
            })
        };
        prop_oneof![1..40_usize, 505..520_usize].prop_flat_map(move |len| (row(len), row(len)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_the_definition((p, q) in rows()) {
            prop_assert!((of(&p, &q) - exact(&p, &q)).abs() < 1e-6, "{} {}", of(&p, &q), exact(&p, &q));
            prop_assert_eq!(of(&p, &p).to_bits(), 0);
            prop_assert_eq!(of(&p, &q).to_bits(), of(&q, &p).to_bits());
        }
    }

    #[test]
    fn rows_without_a_common_id_are_as_far_apart_as_can_be() {
        const MASKED: f32 = f32::NEG_INFINITY;
        assert!((of(&[0.0, MASKED], &[MASKED, 5.0]) - std::f64::consts::LN_2).abs() < 1e-7);
        assert_eq!((ln(1.0).to_bits(), (0.0 * ln(0.0)).abs().to_bits()), (0, 0));
    }
}

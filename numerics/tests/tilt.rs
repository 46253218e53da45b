//! The tilt and its moments against naive f64 arithmetic, on ordinary and on extreme rows.

use logitfuse_core::numerics::{log_sum_exp, masked_difference};
use logitfuse_numerics::{exponential_tilt, tilt_moments};
use proptest::prelude::*;

const MASKED: f32 = f32::NEG_INFINITY;

/// Textbook formulae in f64, id by id.
mod naive {
    pub(super) fn log_sum_exp(row: &[f32]) -> f64 {
        let max = row.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(f64::from(x)));
        max + row.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
    }

    pub(super) fn log_probabilities(row: &[f32]) -> Vec<f64> {
        let z = log_sum_exp(row);
        row.iter().map(|&x| f64::from(x) - z).collect()
    }
}

/// Rows of one length, of one scale, with masked ids and ties.
fn rows<const N: usize>() -> impl Strategy<Value = [Vec<f32>; N]> {
    let len = prop_oneof![1..40_usize, 500..530_usize, 1000..5000_usize];
    let scale = prop_oneof![6 => Just(8.0_f32), 1 => Just(1e-3_f32), 1 => Just(100.0_f32), 1 => Just(1e4_f32)];
    (len, scale).prop_flat_map(|(len, scale)| {
        let entry = prop_oneof![10 => -scale..scale, 1 => Just(scale / 2.0), 1 => Just(MASKED)];
        prop::collection::vec(prop::collection::vec(entry, len), N).prop_map(|rows| {
            let mut rows = <[Vec<f32>; N]>::try_from(rows).expect("N rows were asked for");
            for (index, row) in rows.iter_mut().enumerate() {
                // Something stays possible in every row.
                let len = row.len();
                row[index % len] = 0.25;
            }
            rows
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn moments_are_those_of_the_tilted_row([base, expert, anti] in rows::<3>(), alpha in -2.0..2.0) {
        let mut direction = vec![0.0; base.len()];
        masked_difference(&expert, &anti, 0.0, &mut direction);
        // The formulae lose what cancels in them; keep the tilt itself of ordinary size.
        let size = direction.iter().fold(1.0_f32, |size, d| size.max(d.abs()));
        for d in &mut direction {
            *d *= 8.0 / size;
        }
        let z = log_sum_exp(&base);
        let mut tilted = vec![0.0; base.len()];
        exponential_tilt(&base, &direction, alpha, &mut tilted);
        let p = naive::log_probabilities(&tilted);
        let mean: f64 = p.iter().zip(&direction).map(|(lp, d)| lp.exp() * f64::from(*d)).sum();
        let variance: f64 = p.iter().zip(&direction).map(|(lp, d)| lp.exp() * (f64::from(*d) - mean).powi(2)).sum();
        let moments = tilt_moments(&base, z, &direction, alpha);
        prop_assert!((moments.log_partition - (naive::log_sum_exp(&tilted) - naive::log_sum_exp(&base))).abs() < 1e-5);
        prop_assert!((moments.mean - mean).abs() < 1e-4, "{} {mean}", moments.mean);
        prop_assert!((moments.variance - variance).abs() < 1e-3 + 1e-4 * variance, "{} {variance}", moments.variance);
    }
}

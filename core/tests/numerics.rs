//! The kernels against naive f64 arithmetic, on ordinary and on extreme rows.

#![expect(clippy::float_cmp, reason = "infinities, masks and promises about bits are compared exactly")]

use approx::assert_relative_eq;
use logitfuse_core::numerics::{
    Contrast, argmax, check_row, entropy, jensen_shannon, kl_both, kl_divergence, linear_combination, log_softmax,
    log_sum_exp, mask_implausible, softmax, top_k,
};
use logitfuse_core::{ErrorKind, RoleRow};
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

    pub(super) fn kl(p: &[f32], q: &[f32]) -> f64 {
        let pairs = log_probabilities(p).into_iter().zip(log_probabilities(q));
        pairs
            .filter(|(lp, _)| *lp > f64::NEG_INFINITY)
            .map(|(lp, lq)| if lq == f64::NEG_INFINITY { f64::INFINITY } else { lp.exp() * (lp - lq) })
            .sum()
    }

    pub(super) fn jensen_shannon(p: &[f32], q: &[f32]) -> f64 {
        let pairs = log_probabilities(p).into_iter().zip(log_probabilities(q)).map(|(lp, lq)| [lp.exp(), lq.exp()]);
        let term = |p: f64, q: f64| if p > 0.0 { 0.5 * p * (2.0 * p / (p + q)).ln() } else { 0.0 };
        pairs.map(|[p, q]| term(p, q) + term(q, p)).sum()
    }

    pub(super) fn entropy(row: &[f32]) -> f64 {
        -log_probabilities(row).into_iter().filter(|lp| *lp > f64::NEG_INFINITY).map(|lp| lp.exp() * lp).sum::<f64>()
    }
}

/// What taking the difference of two f32 logits may cost: half a unit in the last place of the largest one. Logits of
/// thousands, which no model yields, lose digits there that no later arithmetic can bring back.
fn rounding(p: &[f32], q: &[f32]) -> f64 {
    let differences = p.iter().zip(q).map(|(p, q)| (f64::from(*p) - f64::from(*q)).abs());
    differences.filter(|d| d.is_finite()).fold(0.0, f64::max) * f64::from(f32::EPSILON)
}

/// One to three rows of one length, of one scale, with masked ids and ties.
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
    fn normalisers_agree([row] in rows::<1>()) {
        let z = log_sum_exp(&row);
        let exact = naive::log_sum_exp(&row);
        prop_assert!((z - exact).abs() < 2e-6, "{z} {exact}");
    }

    #[test]
    fn probabilities_agree([row] in rows::<1>()) {
        let z = log_sum_exp(&row);
        let (mut p, mut log_p) = (vec![0.0; row.len()], vec![0.0; row.len()]);
        softmax(&row, z, &mut p);
        log_softmax(&row, z, &mut log_p);
        let mut sum = 0.0;
        for (id, exact) in naive::log_probabilities(&row).into_iter().enumerate() {
            prop_assert!((f64::from(p[id]) - exact.exp()).abs() <= (3e-6 - 2e-7 * exact.max(-100.0)) * exact.exp() + 1e-37);
            prop_assert!(f64::from(log_p[id]) == exact || (f64::from(log_p[id]) - exact).abs() < 2e-6 + 2e-7 * exact.abs());
            sum += f64::from(p[id]);
        }
        prop_assert!((sum - 1.0).abs() < 1e-5);
    }

    #[test]
    fn entropy_agrees([row] in rows::<1>()) {
        let (h, exact) = (entropy(&row, log_sum_exp(&row)), naive::entropy(&row));
        prop_assert!(h >= 0.0 && (h - exact).abs() < 1e-5 + 1e-5 * exact, "{h} {exact}");
    }

    #[test]
    fn divergences_agree([p, q] in rows::<2>()) {
        let (zp, zq) = (log_sum_exp(&p), log_sum_exp(&q));
        let (forward, reverse) = kl_both(&p, zp, &q, zq);
        for (ours, exact) in [(forward, naive::kl(&p, &q)), (reverse, naive::kl(&q, &p))] {
            prop_assert!(ours >= 0.0);
            let tolerance = 1e-5 + 2e-6 * exact + rounding(&p, &q);
            prop_assert!(ours == exact || (ours - exact).abs() < tolerance, "{ours} {exact}");
        }
        prop_assert_eq!(forward.to_bits(), kl_divergence(&p, zp, &q, zq).to_bits());
        prop_assert_eq!(reverse.to_bits(), kl_divergence(&q, zq, &p, zp).to_bits());
    }

    #[test]
    fn jensen_shannon_agrees([p, q] in rows::<2>()) {
        let (zp, zq) = (log_sum_exp(&p), log_sum_exp(&q));
        let ours = jensen_shannon(&p, zp, &q, zq);
        // Differences of large logits round, which moves the ratio of the two.
        prop_assert!((ours - naive::jensen_shannon(&p, &q)).abs() < 1e-5 + rounding(&p, &q), "{ours}");
        prop_assert!((0.0..=2_f64.ln()).contains(&ours));
        prop_assert_eq!(jensen_shannon(&p, zp, &p, zp), 0.0);
        prop_assert!((ours - jensen_shannon(&q, zq, &p, zp)).abs() < 1e-6);
    }

    #[test]
    fn divergences_without_masks_agree([p, q] in rows::<2>()) {
        // Masks make most divergences infinite; here none is.
        let [p, q] = [p, q].map(|row| row.into_iter().map(|x| if x == MASKED { -1.0 } else { x }).collect::<Vec<_>>());
        let (ours, exact) = (kl_divergence(&p, log_sum_exp(&p), &q, log_sum_exp(&q)), naive::kl(&p, &q));
        prop_assert!((ours - exact).abs() < 1e-5 + 2e-6 * exact + rounding(&p, &q), "{ours} {exact}");
    }

    #[test]
    fn a_distribution_does_not_diverge_from_itself([row] in rows::<1>(), shift in -16_i8..16) {
        // A shift by a power of two's multiple is exact, so even the rounding may not show.
        let shifted: Vec<f32> = row.iter().map(|x| (x * 16.0).round() / 16.0).collect();
        let moved: Vec<f32> = shifted.iter().map(|x| x + f32::from(shift)).collect();
        let (z, zm) = (log_sum_exp(&shifted), log_sum_exp(&moved));
        prop_assert_eq!(kl_divergence(&shifted, z, &shifted, z), 0.0);
        prop_assert!(kl_divergence(&shifted, z, &moved, zm) < 1e-6);
    }

    #[test]
    fn ranks_agree_with_a_sort([row] in rows::<1>(), k in 0_usize..200) {
        let mut sorted: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).filter(|(_, x)| *x > MASKED).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        prop_assert_eq!(argmax(&row), sorted[0].0 as usize);
        sorted.truncate(k);
        prop_assert_eq!(top_k(&row, k), sorted);
    }

    #[test]
    fn linear_combinations_are_the_equation([base, e1, a1] in rows::<3>(), alpha in -2.0..2.0, weight in 0.0..2.0) {
        let contrasts = [
            Contrast { weight: alpha, towards: &e1, away: &a1, where_masked: 0.5 },
            Contrast { weight: 0.5, towards: &a1, away: &base, where_masked: -0.25 },
        ];
        let mut out = vec![f32::NAN; base.len()];
        linear_combination(&base, weight, &contrasts, &mut out);
        for id in 0..base.len() {
            let difference = |towards: f32, away: f32, masked: f64| {
                if towards == MASKED || away == MASKED { masked } else { f64::from(towards) - f64::from(away) }
            };
            let terms = [alpha * difference(e1[id], a1[id], 0.5), 0.5 * difference(a1[id], base[id], -0.25)];
            let exact = weight * f64::from(base[id]) + terms[0] + terms[1];
            let scale = [base[id], e1[id], a1[id]].iter().filter(|x| x.is_finite()).fold(1.0, |s: f64, x| s.max(f64::from(x.abs())));
            if base[id] == MASKED {
                prop_assert_eq!(out[id], MASKED);
            } else {
                prop_assert!((f64::from(out[id]) - exact).abs() < 1e-6 * scale, "{} {exact}", out[id]);
            }
        }
    }

    #[test]
    fn a_contrast_without_effect_leaves_the_base_bit_for_bit([base, e] in rows::<2>(), alpha in -9.0..9.0) {
        let mut base = base;
        base[0] = -0.0;
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let mut out = vec![f32::NAN; base.len()];
        for (weight, away) in [(alpha, &e), (0.0, &base)] {
            let contrast = Contrast { weight, towards: &e, away, where_masked: 0.0 };
            linear_combination(&base, 1.0, &[contrast], &mut out);
            prop_assert_eq!(bits(&out), bits(&base));
        }
        linear_combination(&base, 1.0, &[], &mut out);
        prop_assert_eq!(bits(&out), bits(&base));
    }

    #[test]
    fn implausible_ids_are_masked([base] in rows::<1>(), plausibility in 0.001..1.0) {
        let mut out = vec![0.0; base.len()];
        mask_implausible(&base, plausibility, &mut out);
        let p = naive::log_probabilities(&base);
        let best = p.iter().fold(f64::NEG_INFINITY, |best, p| best.max(*p));
        for (id, log_p) in p.into_iter().enumerate() {
            let margin = log_p - best - plausibility.ln();
            // On the border itself, f32 may round either way.
            prop_assert!(margin.abs() < 1e-2 || (out[id] == MASKED) == (margin < 0.0));
        }
        prop_assert_eq!(out[argmax(&base)], 0.0);
    }
}

#[test]
fn one_unmasked_id_is_certain() {
    for width in [1, 2, 17, 512, 513, 1000] {
        let mut row = vec![MASKED; width];
        row[width / 2] = -1e4;
        let z = log_sum_exp(&row);
        assert_eq!(z, -1e4);
        assert_eq!(entropy(&row, z), 0.0);
        assert_eq!(argmax(&row), width / 2);
        assert_eq!(top_k(&row, 3), [(u32::try_from(width / 2).unwrap(), -1e4)]);
        assert_eq!(kl_both(&row, z, &row, z), (0.0, 0.0));
    }
}

#[test]
fn a_tiny_probability_still_escapes() {
    // e^-200 is 0 in f32, and yet p allows what q forbids.
    let (p, q) = ([0.0, -200.0], [0.0, MASKED]);
    let (forward, reverse) = kl_both(&p, log_sum_exp(&p), &q, log_sum_exp(&q));
    assert_eq!(forward, f64::INFINITY);
    assert_relative_eq!(reverse, 0.0, epsilon = 1e-9);
}

#[test]
fn sums_leave_f32_at_its_ends_and_stay_finite() {
    let base = [1.0, -1.0, 0.0, MASKED];
    let (high, low) = ([f32::MAX; 4], [f32::MIN; 4]);
    let contrasts = [
        Contrast { weight: 9.0, towards: &high, away: &low, where_masked: 0.0 },
        Contrast { weight: 5.0, towards: &low, away: &high, where_masked: f64::INFINITY },
    ];
    for contrasts in [&contrasts[..1], &contrasts[1..], &contrasts[..]] {
        let mut out = [f32::NAN; 4];
        linear_combination(&base, 1.0, contrasts, &mut out);
        assert!(out[..3].iter().all(|x| x.is_finite()), "{out:?}");
        assert_eq!(out[3], MASKED);
    }
}

#[test]
fn where_only_a_helper_lacks_an_id_the_base_decides() {
    // The expert's logits carry a constant that means nothing; the masked id must not notice it.
    let (base, anti) = ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0]);
    let fused = |constant: f32| {
        let expert = [1.0 + constant, constant, MASKED];
        let [expert, anti] = [&expert[..], &anti[..]].map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
        let mut out = [0.0; 3];
        linear_combination(&base, 1.0, &[Contrast::between(2.0, &expert, &anti)], &mut out);
        let mut p = [0.0; 3];
        softmax(&out, log_sum_exp(&out), &mut p);
        p
    };
    let (plain, shifted) = (fused(0.0), fused(10.0));
    for id in 0..3 {
        assert_relative_eq!(plain[id], shifted[id], epsilon = 1e-5);
    }
}

#[test]
fn bad_rows_are_named() {
    let cases: [(Vec<f32>, &str); 5] = [
        (vec![0.0, f32::NAN, f32::INFINITY], "entry 1 is NaN"),
        (vec![MASKED, 0.0, f32::INFINITY], "entry 2 is +inf"),
        (vec![MASKED; 3], "all 3 entries are masked"),
        (vec![], "all 0 entries are masked"),
        ([vec![0.0; 1999], vec![f32::NAN]].concat(), "entry 1999 is NaN"),
    ];
    for (row, message) in cases {
        let error = check_row(&row).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Numeric, message));
    }
    check_row(&[MASKED, f32::MAX, f32::MIN, -0.0]).unwrap();
}

#[test]
#[should_panic(expected = "rows of different lengths")]
fn rows_of_different_lengths_are_a_bug() {
    kl_divergence(&[0.0; 3], 0.0, &[0.0; 4], 0.0);
}

//! That the generators generate what the laws need to see.

use logitfuse_conformance::generators::{self, RowKind};
use logitfuse_core::numerics::{check_row, kl_both, log_sum_exp, masked_difference, top_k};
use logitfuse_numerics::tilt_moments;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn contested_rows_have_no_clear_top_token(row in generators::row_of(RowKind::Contested, 60, 3)) {
        let best = top_k(&row, 5);
        // Places may coincide, so two is what is certain of; usually it is four.
        prop_assert!(best.iter().filter(|(_, x)| best[0].1 - x <= 0.5).count() <= 4);
        prop_assert!(best[0].1 - best[4].1 > 2.5, "{best:?}");
    }

    #[test]
    fn certain_rows_are_certain(row in generators::row_of(RowKind::Certain, 60, 3)) {
        prop_assert!((f64::from(top_k(&row, 1)[0].1) - log_sum_exp(&row)).exp() > 0.97);
    }

    #[test]
    fn every_row_is_a_distribution_that_allows_the_committed_token(case in generators::case(&[("base", 1), ("expert", 2)])) {
        for (rows, &token) in case.steps.iter().zip(&case.tokens) {
            for row in rows {
                prop_assert!(check_row(row).is_ok() && row[token as usize].is_finite());
            }
        }
    }

    #[test]
    fn a_recast_case_says_the_same(case in generators::case(&[("base", 1), ("anti", 1)])) {
        let renamed = case.with_roles(&[("base", "anti"), ("expert", "base"), ("anti", "anti")]);
        let roles: Vec<&str> = renamed.session.bindings.iter().map(|b| b.role.as_str()).collect();
        prop_assert_eq!(roles, ["base", "expert", "anti"]);
        for (old, new) in case.steps.iter().zip(&renamed.steps) {
            prop_assert_eq!(new, &[old[1].clone(), old[0].clone(), old[1].clone()]);
        }
    }
}

/// The objective of dynamic fusion on a grid, from its definition: how many local minima it has.
fn minima(rows: &[Vec<f32>]) -> usize {
    let [base, expert, anti] = rows else { return 0 };
    let [zb, ze, za] = [base, expert, anti].map(|row| log_sum_exp(row));
    let (forward, reverse) = kl_both(expert, ze, anti, za);
    if !(forward.is_finite() && reverse.is_finite()) {
        return 0;
    }
    let mut direction = vec![0.0; base.len()];
    masked_difference(expert, anti, ze - za, &mut direction);
    let mean = tilt_moments(base, zb, &direction, 0.0).mean;
    let loss = |alpha: f64| {
        let at = tilt_moments(base, zb, &direction, alpha);
        (alpha * at.mean - at.log_partition - forward).powi(2) + (at.log_partition - alpha * mean - reverse).powi(2)
    };
    let losses: Vec<f64> = (0..=80).map(|i| loss(f64::from(i) * 0.025)).collect();
    let lower = |a: f64, b: f64| a < b - 1e-4 * b.max(1e-3);
    // A minimum is left and right of it higher by more than rounding, however flat it is in between.
    let mut count = 0;
    let (mut low, mut high) = (losses[0], f64::NEG_INFINITY);
    for &loss in &losses[1..] {
        if lower(low, loss) && high == f64::NEG_INFINITY {
            count += 1;
            high = loss;
        } else if high > f64::NEG_INFINITY {
            if lower(loss, high) {
                (low, high) = (loss, f64::NEG_INFINITY);
            } else {
                high = high.max(loss);
            }
        } else {
            low = low.min(loss);
        }
    }
    count + usize::from(high == f64::NEG_INFINITY)
}

#[test]
fn related_rows_have_objectives_with_several_minima() {
    let mut runner = TestRunner::deterministic();
    let rows = generators::related_rows(3, 60, 0);
    let several = (0..2000)
        .filter(|_| minima(&rows.new_tree(&mut runner).expect("the generators reject nothing").current()) > 1)
        .count();
    assert!(several >= 20, "{several} of 2000");
}

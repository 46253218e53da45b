//! Budgets: what may be spent, what is, and what is kept for later.

use crate::support::{Sequence, fuse_once, session, strategy, tuned_rows};
use logitfuse_core::TokenId;
use logitfuse_dynamic_kl::{Goal, Params};
use proptest::prelude::*;

fn budget(nats: f64, whole: Option<f64>) -> Params {
    Params {
        bounds: Params::PAPER_BOUNDS,
        objective: Goal::Budget,
        budget_nats: Some(nats),
        sequence_budget_nats: whole,
        ..Params::default()
    }
}

/// What a divergence of f32 rows may be off by.
const ROUNDING: f64 = 2e-5;

/// Positions of one width: base, expert, anti.
fn text() -> impl Strategy<Value = Vec<Vec<Vec<f32>>>> {
    prop::collection::vec(tuned_rows(1), 1..6).prop_map(|mut positions| {
        let width = positions.iter().map(|rows| rows[0].len()).min().unwrap_or(2);
        positions.iter_mut().flatten().for_each(|row| row.truncate(width));
        positions
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_token_spends_what_it_may_and_no_more(rows in tuned_rows(1), nats in 0.001..2.0) {
        let fused = fuse_once(&strategy(budget(nats, None)), &rows, 1);
        let spent = fused.get("kl_fused_base");
        prop_assert!(spent <= nats + ROUNDING, "{fused:?}");
        // Stopped by the budget or by the bound, and the trace says by which.
        if fused.get("inactive") == 1.0 {
            prop_assert_eq!(fused.logits, rows[0].clone());
        } else if fused.get("saturated") == 1.0 {
            prop_assert_eq!(fused.get("alpha"), 2.0);
        } else {
            prop_assert!(spent >= nats - 1e-3 - 1e-2 * nats, "{fused:?}");
        }
    }

    #[test]
    fn a_text_keeps_to_its_budget(text in text(), nats in 0.0..1.0, whole in 0.0..2.0, ema in prop_oneof![Just(0.0), 0.0..0.9]) {
        let strategy = strategy(Params { ema, ..budget(nats, Some(whole)) });
        let mut sequence = Sequence::new(&strategy, &session(1, 1, text[0][0].len()));
        let mut spent = 0.0;
        for (position, rows) in text.iter().enumerate() {
            // A step that is only looked at costs nothing.
            sequence.fuse(&text[text.len() - 1 - position]);
            spent += sequence.fuse(rows).get("kl_fused_base");
            let earned = nats * (position + 1) as f64;
            prop_assert!(spent <= earned.min(whole) + ROUNDING * (position + 1) as f64, "{spent} of {earned}, {whole}");
            sequence.commit(rows, 0);
        }
    }

    #[test]
    fn what_is_rolled_back_was_never_spent(text in text(), nats in 0.01..1.0, whole in 0.01..2.0) {
        let strategy = strategy(Params { ema: 0.5, ..budget(nats, Some(whole)) });
        let mut sequence = Sequence::new(&strategy, &session(1, 1, text[0][0].len()));
        let expected = sequence.fuse(&text[0]);
        for rows in &text {
            sequence.fuse(rows);
            sequence.state.commit(&[0 as TokenId]).unwrap();
        }
        sequence.state.rollback(text.len()).unwrap();
        prop_assert_eq!(sequence.fuse(&text[0]), expected);
        prop_assert!(sequence.state.rollback(1).is_err());
    }
}

#[test]
fn unused_nats_are_banked() {
    let silent = vec![vec![0.0; 4], vec![0.0; 4], vec![0.0; 4]];
    let loud = vec![vec![0.0; 4], vec![9.0, 0.0, 0.0, 0.0], vec![0.0; 4]];
    let spend = |whole: Option<f64>| {
        let strategy = strategy(budget(0.1, whole));
        let mut sequence = Sequence::new(&strategy, &session(1, 1, 4));
        for _ in 0..4 {
            sequence.fuse(&silent);
            sequence.commit(&silent, 0);
        }
        let first = sequence.fuse(&loud).get("kl_fused_base");
        sequence.commit(&loud, 0);
        (first, sequence.fuse(&loud).get("kl_fused_base"))
    };
    let close = |(first, second): (f64, f64), exact: (f64, f64)| {
        assert!((first - exact.0).abs() < 1e-4 && (second - exact.1).abs() < 1e-4, "{first} {second}, not {exact:?}");
    };
    // Without a budget for the text every token has its own; with one, five tokens' nats are there at once; and the
    // text's budget ends it.
    close(spend(None), (0.1, 0.1));
    close(spend(Some(10.0)), (0.5, 0.1));
    close(spend(Some(0.3)), (0.3, 0.0));
}

#[test]
fn a_smoothed_strength_lags_behind() {
    let strategy = strategy(Params { ema: 0.75, ..Params::default() });
    let (rows, double) = (
        vec![vec![1.0, 0.0, 0.0], vec![2.0, 0.0, 0.0], vec![1.0, 0.0, 0.0]],
        vec![vec![0.5, 0.0, 0.0], vec![3.0, 0.0, 0.0], vec![1.0, 0.0, 0.0]],
    );
    let alone = [&rows, &double].map(|rows| fuse_once(&strategy, rows, 1).get("alpha"));
    let mut sequence = Sequence::new(&strategy, &session(1, 1, 3));
    assert_eq!(sequence.fuse(&rows).get("alpha"), alone[0]);
    sequence.commit(&rows, 0);
    let mut expected = alone[0];
    for _ in 0..3 {
        expected = 0.75 * expected + 0.25 * alone[1];
        let seen = sequence.fuse(&double).get("alpha");
        assert!((seen - expected).abs() < 1e-9, "{seen} {expected}");
        sequence.commit(&double, 0);
    }
    // A step where nothing is fused says nothing about strength.
    let silent = vec![rows[0].clone(), rows[1].clone(), rows[1].clone()];
    let fused = sequence.fuse(&silent);
    assert_eq!((fused.get("alpha"), fused.get("inactive")), (0.0, 1.0));
    sequence.commit(&silent, 0);
    expected = 0.75 * expected + 0.25 * alone[1];
    assert!((sequence.fuse(&double).get("alpha") - expected).abs() < 1e-9);
}

//! The laws, and the equations by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::float_cmp, reason = "masks and promises about bits are compared exactly")]

use logitfuse_conformance::{Case, generators, strategy_laws};
use logitfuse_core::numerics::{kl_divergence, log_softmax, log_sum_exp, softmax};
use logitfuse_core::{ErrorKind, FusionStrategy, RoleBinding, SessionInfo, SharedVocabulary};
use logitfuse_in_context::{InContext, Mode, Params};
use proptest::prelude::*;

const TWO: [(&str, usize); 2] = [("base", 1), ("anti", 1)];
const THREE: [(&str, usize); 3] = [("base", 1), ("expert", 1), ("anti", 1)];

fn cad(alpha: f64) -> InContext {
    InContext::new(Params { alpha: Some(alpha), ..Params::default() }).unwrap()
}

fn cfg(gamma: f64) -> InContext {
    InContext::new(Params { mode: Mode::Cfg, gamma: Some(gamma), ..Params::default() }).unwrap()
}

fn adacad(floor: f64) -> InContext {
    InContext::new(Params { mode: Mode::Adacad, floor: Some(floor), ..Params::default() }).unwrap()
}

/// The definition, in f64.
fn jensen_shannon(p: &[f32], q: &[f32]) -> f64 {
    let probabilities = |row: &[f32]| {
        let z = log_sum_exp(row);
        row.iter().map(move |&x| (f64::from(x) - z).exp()).collect::<Vec<f64>>()
    };
    let half_kl = |p: f64, m: f64| if p > 0.0 { 0.5 * p * (p / m).ln() } else { 0.0 };
    let pairs = probabilities(p).into_iter().zip(probabilities(q));
    pairs.map(|(p, q)| half_kl(p, 0.5 * (p + q)) + half_kl(q, 0.5 * (p + q))).sum()
}

fn icl_expert(alpha: f64) -> InContext {
    InContext::new(Params { mode: Mode::IclExpert, alpha: Some(alpha), ..Params::default() }).unwrap()
}

/// Equal within what f32 can hold of numbers of the rows' size.
fn close(fused: f32, exact: f64, id: usize, rows: &[Vec<f32>]) -> Result<(), TestCaseError> {
    let scale = rows.iter().map(|row| f64::from(row[id].abs())).fold(1.0, f64::max);
    prop_assert!((f64::from(fused) - exact).abs() <= 8e-6 * scale, "id {id}: {fused} {exact}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_for_two_prompts(case in generators::case(&TWO), strength in -1.0..3.0, plausibility in prop_oneof![Just(None), Just(Some(0.1))]) {
        let cad = InContext::new(Params { alpha: Some(strength), plausibility, ..Params::default() }).unwrap();
        let cfg = InContext::new(Params { mode: Mode::Cfg, gamma: Some(strength), plausibility, ..Params::default() }).unwrap();
        for strategy in [cad, cfg] {
            strategy_laws::contract(&strategy, &case)?;
            strategy_laws::claimed(&strategy, &case)?;
        }
    }

    #[test]
    fn the_laws_hold_for_an_expert(case in generators::case(&THREE), alpha in -1.0..3.0) {
        strategy_laws::contract(&icl_expert(alpha), &case)?;
        strategy_laws::claimed(&icl_expert(alpha), &case)?;
    }

    #[test]
    fn the_laws_hold_where_the_strength_adapts(case in generators::case(&TWO), floor in prop_oneof![Just(0.0), 0.0..1.0]) {
        strategy_laws::contract(&adacad(floor), &case)?;
        strategy_laws::claimed(&adacad(floor), &case)?;
    }

    /// The published rule: context-aware decoding whose alpha is the divergence of this row alone.
    #[test]
    fn adaptive_is_cad_at_the_divergence(case in generators::case(&TWO), floor in prop_oneof![Just(0.0), 0.0..1.0]) {
        for (step, (logits, trace)) in case.fused(&adacad(floor)).unwrap().into_iter().enumerate() {
            let alpha = trace[0];
            let divergence = jensen_shannon(&case.steps[step][0], &case.steps[step][1]);
            prop_assert!((alpha - divergence.max(floor)).abs() < 2e-6, "{alpha} {divergence}");
            // The position by itself: no other position, row or sequence has a say.
            let alone = Case { steps: vec![case.steps[step].clone()], tokens: vec![case.tokens[step]], ..case.clone() };
            prop_assert_eq!(&alone.fused(&cad(alpha)).unwrap()[0].0, &logits);
        }
    }

    #[test]
    fn neutral_strengths_are_the_base(two in generators::case(&TWO), three in generators::case(&THREE)) {
        strategy_laws::identity(&cad(0.0), &two)?;
        strategy_laws::identity(&cfg(1.0), &two)?;
        strategy_laws::identity(&icl_expert(0.0), &three)?;
    }

    #[test]
    fn a_context_that_changes_nothing_is_the_base(two in generators::case(&TWO), three in generators::case(&THREE), strength in -9.0..9.0) {
        strategy_laws::identity(&cad(strength), &two.with_role_equal("anti", "base"))?;
        strategy_laws::identity(&cfg(strength), &two.with_role_equal("anti", "base"))?;
        strategy_laws::identity(&adacad(strength.abs()), &two.with_role_equal("anti", "base"))?;
        strategy_laws::identity(&icl_expert(strength), &three.with_role_equal("expert", "anti"))?;
    }

    #[test]
    fn context_aware_decoding_by_hand(case in generators::case(&TWO), alpha in -1.0..3.0) {
        for (step, (logits, _)) in case.fused(&cad(alpha)).unwrap().into_iter().enumerate() {
            for (id, fused) in logits.into_iter().enumerate() {
                let [with, without] = [0, 1].map(|row| f64::from(case.steps[step][row][id]));
                if with.is_finite() && without.is_finite() {
                    close(fused, (1.0 + alpha) * with - alpha * without, id, &case.steps[step])?;
                }
            }
        }
    }

    #[test]
    fn an_expert_by_hand(case in generators::case(&THREE), alpha in -1.0..3.0) {
        for (step, (logits, _)) in case.fused(&icl_expert(alpha)).unwrap().into_iter().enumerate() {
            for (id, fused) in logits.into_iter().enumerate() {
                let [base, expert, anti] = [0, 1, 2].map(|row| f64::from(case.steps[step][row][id]));
                let exact = base + alpha * (expert - anti);
                if exact.is_finite() {
                    close(fused, exact, id, &case.steps[step])?;
                }
            }
        }
    }

    /// The published rule works on log-probabilities; the probabilities must be the same.
    #[test]
    fn guidance_is_guidance_on_log_probabilities(rows in prop::collection::vec(prop::collection::vec(-9.0_f32..9.0, 40), 2), gamma in 0.0..3.0) {
        let session = SessionInfo::new(
            ["base", "anti"].map(|role| RoleBinding { role: role.into(), source: "model".into() }),
            SharedVocabulary::new(40, []),
        );
        let case = Case { session, steps: vec![rows.clone()], tokens: vec![0] };
        let (logits, _) = case.fused(&cfg(gamma)).unwrap().remove(0);
        let log_p = rows.iter().map(|row| {
            let mut log_p = vec![0.0; 40];
            log_softmax(row, log_sum_exp(row), &mut log_p);
            log_p
        });
        let [positive, negative] = <[Vec<f32>; 2]>::try_from(log_p.collect::<Vec<_>>()).unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "a test value")]
        let published: Vec<f32> = positive.iter().zip(&negative)
            .map(|(&p, &n)| (f64::from(n) + gamma * (f64::from(p) - f64::from(n))) as f32).collect();
        let (mut ours, mut theirs) = (vec![0.0; 40], vec![0.0; 40]);
        softmax(&logits, log_sum_exp(&logits), &mut ours);
        softmax(&published, log_sum_exp(&published), &mut theirs);
        for (a, b) in ours.iter().zip(&theirs) {
            prop_assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn the_trace_says_what_happened(case in generators::case(&THREE), alpha in -1.0..3.0) {
        let kl = |p: &[f32], q: &[f32]| kl_divergence(p, log_sum_exp(p), q, log_sum_exp(q));
        for (rows, (logits, trace)) in case.steps.iter().zip(case.fused(&icl_expert(alpha)).unwrap()) {
            prop_assert_eq!(trace, [alpha, kl(&logits, &rows[0]), kl(&rows[0], &logits), kl(&rows[1], &rows[2])]);
        }
    }
}

#[test]
fn defaults_are_those_of_the_papers() {
    let strength = |mode| {
        let strategy = InContext::new(Params { mode, ..Params::default() }).unwrap();
        let roles: &[(&str, usize)] = if mode == Mode::IclExpert { &THREE } else { &TWO };
        let bindings = roles.iter().map(|(role, _)| RoleBinding { role: (*role).into(), source: "model".into() });
        let session = SessionInfo::new(bindings, SharedVocabulary::new(2, []));
        let case = Case { session, steps: vec![vec![vec![0.0, 1.0]; roles.len()]], tokens: vec![0] };
        case.fused(&strategy).unwrap().remove(0).1[0]
    };
    assert_eq!([Mode::Cad, Mode::Cfg, Mode::IclExpert].map(strength), [0.5, 0.5, 1.0]);
}

#[test]
fn bad_parameters_are_named() {
    use serde_json::json;
    let cases = [
        (
            json!({ "mode": "cda" }),
            "/mode: unknown variant `cda`, expected one of `cad`, `adacad`, `cfg`, `icl_expert`",
        ),
        (json!({ "mode": "icl_expert", "gamma": 1.0 }), "/gamma: mode icl_expert has no such parameter"),
        (json!({ "mode": "cfg", "alpha": 1.0 }), "/alpha: mode cfg has no such parameter"),
        (json!({ "mode": "adacad", "alpha": 1.0 }), "/alpha: mode adacad has no such parameter"),
        (json!({ "floor": 0.1 }), "/floor: mode cad has no such parameter"),
        (json!({ "mode": "adacad", "floor": -0.1 }), "/floor: must be 0 or more, and finite"),
        (json!({ "alpha": true }), "/alpha: invalid type: boolean `true`, expected f64"),
        (json!({ "beta": 1.0 }), "/beta: unknown field `beta`"),
        (json!({ "plausibility": -0.1 }), "/plausibility: must be above 0 and at most 1"),
        (json!("cad"), "params: must be a table of names and values"),
    ];
    for (params, message) in cases {
        let error = InContext::from_json(&params).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.help().is_some());
    }
    let alpha = InContext::new(Params { alpha: Some(f64::NAN), ..Params::default() }).unwrap_err();
    assert_eq!(alpha.to_string(), "/alpha: must be finite");
    let gamma =
        InContext::new(Params { mode: Mode::Cfg, gamma: Some(f64::INFINITY), ..Params::default() }).unwrap_err();
    assert_eq!(gamma.to_string(), "/gamma: must be finite");
}

#[test]
fn sessions_that_do_not_fit_are_refused() {
    let start = |strategy: InContext, roles: &[&str]| {
        let bindings = roles.iter().map(|role| RoleBinding { role: (*role).into(), source: "model".into() });
        let session = SessionInfo::new(bindings, SharedVocabulary::new(4, []));
        strategy.start(&session).err().map(|e| (e.kind(), e.to_string()))
    };
    let refused = |role: &str, count: usize| {
        Some((ErrorKind::Incompatible, format!("{role}: one source takes this role, not {count}")))
    };
    assert_eq!(start(cad(1.0), &["base", "anti"]), None);
    assert_eq!(start(cad(1.0), &["base"]), refused("anti", 0));
    assert_eq!(start(cfg(1.0), &["base", "anti", "anti"]), refused("anti", 2));
    assert_eq!(start(icl_expert(1.0), &["base", "anti"]), refused("expert", 0));
    assert_eq!(start(icl_expert(1.0), &["base", "expert", "anti"]), None);
}

#[test]
fn roles_follow_the_mode() {
    let names = |strategy: InContext| strategy.info().roles.iter().map(|role| role.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(cad(1.0)), ["base", "anti"]);
    assert_eq!(names(cfg(1.0)), ["base", "anti"]);
    assert_eq!(names(icl_expert(1.0)), ["base", "expert", "anti"]);
}

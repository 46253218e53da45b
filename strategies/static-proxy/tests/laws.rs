//! The laws, and the equation by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::float_cmp, reason = "masks and promises about bits are compared exactly")]

use logitfuse_conformance::{Case, generators, strategy_laws};
use logitfuse_core::numerics::{check_row, kl_divergence, log_sum_exp};
use logitfuse_core::{ErrorKind, FusionStrategy};
use logitfuse_static_proxy::{Params, StaticProxy};
use proptest::prelude::*;

fn strategy(params: Params) -> StaticProxy {
    StaticProxy::new(params).unwrap()
}

fn params() -> impl Strategy<Value = Params> {
    let weights = prop_oneof![Just(None), prop::collection::vec(-1.0..2.0, 2).prop_map(Some)];
    let plausibility = prop_oneof![2 => Just(None), 1 => Just(Some(0.1))];
    let top_p = prop_oneof![2 => Just(None), 1 => (0.05..1.0).prop_map(Some)];
    let base_weight = prop_oneof![Just(1.0), 0.0..2.0];
    let all = (-2.0..3.0, weights, base_weight, plausibility, top_p);
    all.prop_map(|(alpha, weights, base_weight, plausibility, top_p)| Params {
        alpha,
        weights,
        base_weight,
        plausibility,
        top_p,
    })
}

const ONE_ANTI: [(&str, usize); 3] = [("base", 1), ("expert", 2), ("anti", 1)];
const TWO_ANTIS: [(&str, usize); 3] = [("base", 1), ("expert", 2), ("anti", 2)];

fn case() -> impl Strategy<Value = Case> {
    prop_oneof![generators::case(&ONE_ANTI), generators::case(&TWO_ANTIS)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold(params in params(), case in case()) {
        let strategy = strategy(params);
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn alpha_zero_is_the_base(case in case()) {
        strategy_laws::identity(&strategy(Params { alpha: 0.0, ..Params::default() }), &case)?;
    }

    #[test]
    fn an_expert_that_learnt_nothing_is_the_base(case in case(), alpha in -1e3..1e3) {
        let same = case.with_role_equal("expert", "anti").with_role_equal("anti", "anti");
        strategy_laws::identity(&strategy(Params { alpha, ..Params::default() }), &same)?;
    }

    #[test]
    fn the_equation_by_hand(case in generators::case(&TWO_ANTIS), alpha in -2.0..3.0, weights in [0.0..2.0, 0.0..2.0]) {
        let strategy = strategy(Params { alpha, weights: Some(weights.into()), ..Params::default() });
        for (rows, (logits, _)) in case.steps.iter().zip(case.fused(&strategy).unwrap()) {
            for id in 0..case.width() {
                let at = |row: usize| f64::from(rows[row][id]);
                let exact = at(0) + alpha * (weights[0] * (at(1) - at(3)) + weights[1] * (at(2) - at(4)));
                if exact.is_finite() {
                    let scale = rows.iter().map(|row| f64::from(row[id].abs())).fold(1.0, f64::max);
                    prop_assert!((f64::from(logits[id]) - exact).abs() <= 1e-6 * 8.0 * scale, "{} {exact}", logits[id]);
                } else if at(0) == f64::NEG_INFINITY {
                    prop_assert_eq!(logits[id], f32::NEG_INFINITY);
                } else {
                    prop_assert!(logits[id].is_finite());
                }
            }
        }
    }

    #[test]
    fn one_anti_serves_every_expert(case in generators::case(&ONE_ANTI), alpha in -2.0..3.0) {
        let mut copied = case.clone();
        copied.session.bindings.push(copied.session.bindings[3].clone());
        for rows in &mut copied.steps {
            rows.push(rows[3].clone());
        }
        let strategy = strategy(Params { alpha, ..Params::default() });
        for ((one, _), (two, _)) in case.fused(&strategy).unwrap().into_iter().zip(copied.fused(&strategy).unwrap()) {
            prop_assert_eq!(one, two);
        }
    }

    #[test]
    fn the_trace_says_what_happened(case in case(), params in params()) {
        let strategy = strategy(params.clone());
        for (rows, (logits, trace)) in case.steps.iter().zip(case.fused(&strategy).unwrap()) {
            check_row(&logits).unwrap();
            let kl = |p: &[f32], q: &[f32]| kl_divergence(p, log_sum_exp(p), q, log_sum_exp(q));
            let anti = |expert: usize| if rows.len() == 5 { expert + 2 } else { 3 };
            let expert_anti = 0.5 * kl(&rows[1], &rows[anti(1)]) + 0.5 * kl(&rows[2], &rows[anti(2)]);
            prop_assert_eq!(trace, [params.alpha, kl(&logits, &rows[0]), kl(&rows[0], &logits), expert_anti]);
        }
    }

    #[test]
    fn plausibility_keeps_to_the_head_of_the_base(case in case(), alpha in -2.0..3.0) {
        let bounded = strategy(Params { alpha, plausibility: Some(0.05), ..Params::default() });
        let free = strategy(Params { alpha, ..Params::default() });
        for (rows, ((bounded, _), (free, _))) in case.steps.iter().zip(case.fused(&bounded).unwrap().into_iter().zip(case.fused(&free).unwrap())) {
            let best = rows[0].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for id in 0..case.width() {
                let ratio = f64::from(rows[0][id] - best).exp();
                // On the border itself, f32 may round either way.
                if (ratio - 0.05).abs() > 1e-4 {
                    prop_assert_eq!(bounded[id], if ratio < 0.05 { f32::NEG_INFINITY } else { free[id] });
                }
            }
        }
    }
}

#[test]
fn top_p_keeps_to_the_nucleus_of_the_base() {
    // Probabilities of the base: 0.5, 0.25, 0.125 twice.
    let rows = vec![
        vec![2.0, 1.0, 0.0, 0.0].into_iter().map(|x: f32| x * std::f32::consts::LN_2).collect(),
        vec![0.0; 4],
        vec![0.0; 4],
    ];
    let bindings = ["base", "expert", "anti"];
    let bindings = bindings.map(|role| logitfuse_core::RoleBinding { role: role.into(), source: role.into() });
    let session = logitfuse_core::SessionInfo::new(bindings, logitfuse_core::SharedVocabulary::new(4, []));
    let case = Case { session, steps: vec![rows], tokens: vec![0] };
    let kept = |top_p| {
        let (logits, _) = case.fused(&strategy(Params { top_p: Some(top_p), ..Params::default() })).unwrap().remove(0);
        logits.iter().filter(|x| x.is_finite()).count()
    };
    assert_eq!([0.1, 0.4, 0.6, 0.8, 1.0].map(kept), [1, 1, 2, 4, 4]);
}

#[test]
fn bad_parameters_are_named() {
    use serde_json::json;
    let cases = [
        (json!({ "alpha": "strong" }), "/alpha: invalid type: string \"strong\", expected f64"),
        (
            json!({ "alhpa": 1.0 }),
            "/alhpa: unknown field `alhpa`, expected one of `alpha`, `weights`, `base_weight`, `plausibility`",
        ),
        (json!({ "base_weight": -1.0 }), "/base_weight: must be 0 or more, and finite"),
        (json!({ "plausibility": 0.0 }), "/plausibility: must be above 0 and at most 1"),
        (json!({ "plausibility": 1.5 }), "/plausibility: must be above 0 and at most 1"),
        (json!({ "top_p": 0.0 }), "/top_p: must be above 0 and at most 1"),
        (json!({ "weights": [1.0, null] }), "/weights/1: invalid type: null, expected f64"),
        (json!([1.0]), "params: must be a table of names and values"),
        (json!(null), "params: must be a table of names and values"),
    ];
    for (params, message) in cases {
        let error = StaticProxy::from_json(&params).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.help().is_some());
    }
    for bad in [f64::NAN, f64::INFINITY] {
        let errors = [
            (Params { alpha: bad, ..Params::default() }, "/alpha"),
            (Params { base_weight: bad, ..Params::default() }, "/base_weight"),
            (Params { plausibility: Some(bad), ..Params::default() }, "/plausibility"),
            (Params { weights: Some(vec![1.0, bad]), ..Params::default() }, "/weights/1"),
        ];
        for (params, pointer) in errors {
            assert!(StaticProxy::new(params).unwrap_err().to_string().starts_with(pointer));
        }
    }
}

#[test]
fn sessions_that_do_not_fit_are_refused() {
    let session = |roles: &[&str]| {
        let bindings = roles
            .iter()
            .map(|role| logitfuse_core::RoleBinding { role: (*role).to_owned(), source: (*role).to_owned() });
        logitfuse_core::SessionInfo::new(bindings, logitfuse_core::SharedVocabulary::new(4, []))
    };
    let start = |params: Params, roles: &[&str]| {
        strategy(params).start(&session(roles)).err().map(|e| (e.kind(), e.to_string()))
    };
    let cases: [(&[&str], &str); 5] = [
        (&["expert", "anti"], "base: one source takes this role, not 0"),
        (&["base", "base", "expert", "anti"], "base: one source takes this role, not 2"),
        (&["base", "anti"], "expert: no source takes this role"),
        (&["base", "expert"], "anti: 0 sources take this role beside 1 experts"),
        (&["base", "expert", "expert", "expert", "anti", "anti"], "anti: 2 sources take this role beside 3 experts"),
    ];
    for (roles, message) in cases {
        assert_eq!(start(Params::default(), roles), Some((ErrorKind::Incompatible, message.to_owned())));
    }
    let weights = Params { weights: Some(vec![1.0]), ..Params::default() };
    let message = "/weights: 1 weights for 2 experts".to_owned();
    assert_eq!(start(weights, &["base", "expert", "expert", "anti"]), Some((ErrorKind::InvalidConfig, message)));
}

#[test]
fn the_schema_describes_the_parameters() {
    let strategy = strategy(Params::default());
    let schema: serde_json::Value = serde_json::from_str(&strategy.info().params_schema).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let properties = schema["properties"].as_object().unwrap();
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(names, ["alpha", "base_weight", "plausibility", "top_p", "weights"]);
    assert!(properties.values().all(|p| p["description"].is_string()));
    assert_eq!(properties["alpha"]["default"], 1.0);
    assert_eq!(strategy.info().trace.len(), 4);
}

#[test]
fn the_identity_is_claimed_where_it_holds() {
    let claims = |params| strategy(params).info().laws.iter().any(|law| law.to_string() == "identity-at: alpha=0");
    assert!(claims(Params::default()));
    assert!(!claims(Params { base_weight: 0.5, ..Params::default() }));
    assert!(!claims(Params { plausibility: Some(0.1), ..Params::default() }));
    assert!(!claims(Params { top_p: Some(0.9), ..Params::default() }));
}

//! The laws, and the equations by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::float_cmp, reason = "masks and promises about bits are compared exactly")]

use logitfuse_conformance::generators::{RowKind, row_of};
use logitfuse_conformance::{Case, generators, strategy_laws};
use logitfuse_core::numerics::{kl_both, log_sum_exp, softmax};
use logitfuse_core::{ErrorKind, FusionStrategy, RoleBinding, SessionInfo, SharedVocabulary};
use logitfuse_task_arithmetic::{Objective, Params, Strength, TaskArithmetic};
use proptest::prelude::*;
use serde_json::json;

const OBJECTIVES: [Objective; 7] = [
    Objective::Crossed,
    Objective::BothDivergences,
    Objective::Forward,
    Objective::Reverse,
    Objective::Jeffreys,
    Objective::Sqrt,
    Objective::VarianceRatio,
];

fn strategy(params: Params) -> TaskArithmetic {
    TaskArithmetic::new(params).unwrap()
}

fn dynamic(lambda: Option<Vec<f64>>) -> Params {
    Params { lambda, strength: Strength::Dynamic, ..Params::default() }
}

fn probabilities(row: &[f32]) -> Vec<f32> {
    let mut p = vec![0.0; row.len()];
    softmax(row, log_sum_exp(row), &mut p);
    p
}

/// One position of plain rows, the experts being their anti and a move: base, experts, anti.
fn tuned(experts: usize) -> impl Strategy<Value = Case> {
    (2..60_usize).prop_flat_map(move |width| {
        let row = move || row_of(RowKind::Ordinary, width, 0);
        let moves = prop::collection::vec(prop::collection::vec(-3.0_f32..3.0, width), experts);
        (row(), row(), moves).prop_map(move |(base, anti, moves)| {
            let tuned = moves.iter().map(|by| anti.iter().zip(by).map(|(x, by)| x + by).collect());
            let rows = [base].into_iter().chain(tuned).chain([anti.clone()]).collect();
            Case { session: session(experts, 1, width), steps: vec![rows], tokens: vec![0] }
        })
    })
}

fn session(experts: usize, antis: usize, width: usize) -> SessionInfo {
    let roles = [("base", 1), ("expert", experts), ("anti", antis)];
    let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
    let bindings = roles.into_iter().flat_map(|(role, count)| (0..count).map(move |_| binding(role)));
    SessionInfo::new(bindings, SharedVocabulary::new(width, []))
}

fn case(experts: usize, antis: usize) -> impl Strategy<Value = Case> {
    generators::case(&[("base", 1), ("expert", experts), ("anti", antis)])
}

fn lambda(experts: usize) -> impl Strategy<Value = Option<Vec<f64>>> {
    prop_oneof![Just(None), prop::collection::vec(-1.0..2.0, experts).prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_at_a_fixed_strength(
        case in prop_oneof![case(3, 1), case(3, 3)],
        lambda in lambda(3),
        alpha in -2.0..3.0,
    ) {
        let strategy = strategy(Params { lambda, alpha: Some(alpha), ..Params::default() });
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn the_laws_hold_at_a_dynamic_strength(
        case in case(3, 1),
        lambda in lambda(3),
        objective in prop::sample::select(OBJECTIVES.to_vec()),
        bounds in prop_oneof![Just(None), (0.0..1.0, 1.0..4.0).prop_map(|(low, high)| Some([low, high]))],
    ) {
        let strategy = strategy(Params { objective: Some(objective), bounds, ..dynamic(lambda) });
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn nothing_learnt_or_nothing_asked_is_the_base(
        case in case(2, 1),
        lambda in lambda(2),
        alpha in -9.0..9.0,
        objective in prop::sample::select(OBJECTIVES.to_vec()),
    ) {
        let same = case.with_role_equal("expert", "anti");
        strategy_laws::identity(&strategy(Params { lambda: lambda.clone(), alpha: Some(alpha), ..Params::default() }), &same)?;
        strategy_laws::identity(&strategy(Params { objective: Some(objective), ..dynamic(lambda.clone()) }), &same)?;
        strategy_laws::identity(&strategy(Params { lambda, alpha: Some(0.0), ..Params::default() }), &case)?;
        strategy_laws::identity(&strategy(dynamic(Some(vec![0.0; 2]))), &case)?;
    }

    /// More experts than one pass takes, too.
    #[test]
    fn the_sum_by_hand(case in case(11, 11), alpha in -2.0..3.0, lambda in prop::collection::vec(-1.0..1.0, 11)) {
        let strategy = strategy(Params { lambda: Some(lambda.clone()), alpha: Some(alpha), ..Params::default() });
        for (rows, (logits, trace)) in case.steps.iter().zip(case.fused(&strategy).unwrap()) {
            for id in 0..case.width() {
                let at = |row: usize| f64::from(rows[row][id]);
                let sum: f64 = (0..11).map(|task| lambda[task] * (at(1 + task) - at(12 + task))).sum();
                let exact = at(0) + alpha * sum;
                if exact.is_finite() {
                    let scale = rows.iter().map(|row| f64::from(row[id].abs())).fold(1.0, f64::max);
                    prop_assert!((f64::from(logits[id]) - exact).abs() <= 2e-5 * scale, "{} {exact}", logits[id]);
                }
            }
            prop_assert_eq!(trace[0], alpha);
        }
    }

    /// The order of the tasks has no meaning, and neither has a task cut in two halves.
    #[test]
    fn tasks_add_up(case in tuned(2), weights in [0.0..2.0, 0.0..2.0]) {
        let mut other = case.clone();
        other.session = session(3, 1, case.width());
        let [base, first, second, anti] = &case.steps[0][..] else { panic!("four rows") };
        other.steps = vec![[second, first, first, anti].into_iter().cloned().collect()];
        other.steps[0].insert(0, base.clone());
        let [one, two] = weights;
        for params in [|lambda| Params { lambda, ..Params::default() }, dynamic] {
            let (a, trace) = case.fused(&strategy(params(Some(vec![one, two])))).unwrap().remove(0);
            let (b, other_trace) = other.fused(&strategy(params(Some(vec![two, 0.25 * one, 0.75 * one])))).unwrap().remove(0);
            // A flat minimum has no sharp place; what a strength does is what must agree.
            prop_assert!((trace[3] - other_trace[3]).abs() <= 2e-5 * (1.0 + trace[3]));
            let apart = probabilities(&a).iter().zip(probabilities(&b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            prop_assert!(apart < 5e-3, "{trace:?} {other_trace:?}");
        }
    }

    /// If the large model is the small one, the fused one is the merged one, at any factors.
    #[test]
    fn a_base_that_is_the_anti_becomes_the_merged_expert(
        case in tuned(2),
        weights in [0.1..1.0, 0.1..1.0],
        objective in prop::sample::select(OBJECTIVES[1..].to_vec()),
    ) {
        let case = case.with_role_equal("base", "anti");
        let merged = Params { lambda: Some(weights.to_vec()), ..Params::default() };
        let solved = Params { objective: Some(objective), ..dynamic(Some(weights.to_vec())) };
        let (fixed, _) = case.fused(&strategy(merged)).unwrap().remove(0);
        let (solved, trace) = case.fused(&strategy(solved)).unwrap().remove(0);
        // The closed form is a ratio of two variances: directions of tens of nats carry its rounding into the row.
        let tolerance = if objective == Objective::VarianceRatio { 5e-5 } else { 1e-5 };
        for (id, (p, exact)) in probabilities(&solved).into_iter().zip(probabilities(&fixed)).enumerate() {
            prop_assert!((p - exact).abs() < tolerance, "{objective:?}, id {id}: {p} {exact}, {trace:?}");
        }
    }

    #[test]
    fn the_trace_says_what_happened(case in tuned(2), is_dynamic in any::<bool>()) {
        let params = if is_dynamic { dynamic(None) } else { Params::default() };
        let (logits, trace) = case.fused(&strategy(params)).unwrap().remove(0);
        let rows = &case.steps[0];
        #[expect(clippy::cast_possible_truncation, reason = "a row of f32")]
        let merged: Vec<f32> = (0..case.width())
            .map(|id| (0.5 * (f64::from(rows[1][id]) + f64::from(rows[2][id]))) as f32)
            .collect();
        let kls = |p: &[f32], q: &[f32]| kl_both(p, log_sum_exp(p), q, log_sum_exp(q));
        let ((f, r), (a, b)) = (kls(&logits, &rows[0]), kls(&merged, &rows[3]));
        for (seen, exact) in trace[1..5].iter().zip([f, r, a, b]) {
            prop_assert!((seen - exact).abs() <= 2e-5 * (1.0 + exact), "{trace:?} {exact}");
        }
    }
}

#[test]
fn bad_parameters_are_named() {
    let cases = [
        (json!({ "lambda": 0.5 }), "/lambda: invalid type: floating point `0.5`"),
        (json!({ "lambda": [0.5, "much"] }), "/lambda/1: invalid type: string \"much\""),
        (json!({ "lamda": [] }), "/lamda: unknown field `lamda`, expected one of `lambda`, `strength`, `alpha`"),
        (json!({ "strength": "strong" }), "/strength: unknown variant `strong`, expected `fixed` or `dynamic`"),
        (json!({ "objective": "paper" }), "/objective: strength fixed has no such parameter"),
        (json!({ "bounds": [0.0, 1.0] }), "/bounds: strength fixed has no such parameter"),
        (json!({ "strength": "dynamic", "alpha": 1.0 }), "/alpha: strength dynamic has no such parameter"),
        (json!({ "strength": "dynamic", "objective": "budget" }), "/objective: unknown variant `budget`"),
        (json!({ "strength": "dynamic", "bounds": [2.0, 1.0] }), "/bounds: 2 is not below 1"),
        (json!({ "strength": "dynamic", "bounds": [-1.0, 1.0] }), "/bounds/0: must be 0 or more"),
        (json!({ "strength": "dynamic", "bounds": [0.0, 101.0] }), "/bounds/1: must be at most 100, not 101"),
        (json!(null), "params: must be a table of names and values"),
    ];
    for (params, message) in cases {
        let error = TaskArithmetic::from_json(&params).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().starts_with(message), "{params}: {error}");
        assert!(error.help().is_some());
    }
    for bad in [f64::NAN, f64::INFINITY] {
        let errors = [
            (Params { alpha: Some(bad), ..Params::default() }, "/alpha"),
            (Params { lambda: Some(vec![0.0, bad]), ..Params::default() }, "/lambda/1"),
            (Params { bounds: Some([0.0, bad]), ..dynamic(None) }, "/bounds/1"),
        ];
        for (params, pointer) in errors {
            assert!(TaskArithmetic::new(params).unwrap_err().to_string().starts_with(pointer));
        }
    }
}

#[test]
fn sessions_that_do_not_fit_are_refused() {
    let start = |params: Params, roles: &[&str]| {
        let bindings = roles.iter().map(|role| RoleBinding { role: (*role).into(), source: (*role).into() });
        let session = SessionInfo::new(bindings, SharedVocabulary::new(4, []));
        strategy(params).start(&session).err().map(|e| (e.kind(), e.to_string()))
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
    let paired = ["base", "expert", "expert", "anti", "anti"];
    assert_eq!(start(Params::default(), &paired), None);
    let message = "anti: one source takes this role with strength dynamic, not 2".to_owned();
    assert_eq!(start(dynamic(None), &paired), Some((ErrorKind::Incompatible, message)));
    let message = "/lambda: 1 factors for 2 experts".to_owned();
    let lambda = Params { lambda: Some(vec![1.0]), ..Params::default() };
    assert_eq!(start(lambda, &["base", "expert", "expert", "anti"]), Some((ErrorKind::InvalidConfig, message)));
}

#[test]
fn the_schema_describes_the_parameters() {
    let strategy = strategy(Params::default());
    let schema: serde_json::Value = serde_json::from_str(&strategy.info().params_schema).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let properties = schema["properties"].as_object().unwrap();
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(names, ["alpha", "bounds", "lambda", "objective", "strength"]);
    assert!(properties.values().all(|p| p["description"].is_string()));
}

#[test]
fn laws_are_claimed_where_they_hold() {
    let claims = |params, law: &str| strategy(params).info().laws.iter().any(|claimed| claimed.to_string() == law);
    assert!(claims(Params::default(), "identity-at: alpha=0") && claims(Params::default(), "shift-invariant"));
    assert!(!claims(dynamic(None), "identity-at: alpha=0") && !claims(dynamic(None), "shift-invariant"));
}

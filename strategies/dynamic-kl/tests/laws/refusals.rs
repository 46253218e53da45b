//! What is refused, and in which words.

use logitfuse_core::{ErrorKind, FusionStrategy, RoleBinding, SessionInfo, SharedVocabulary};
use logitfuse_dynamic_kl::{DynamicKl, Experts, Goal, Params, PosteriorParams, Weights};
use serde_json::json;

#[test]
fn bad_parameters_are_named_with_their_range() {
    let cases = [
        (json!({ "objective": "best" }), "/objective: unknown variant `best`, expected one of `paper`, `crossed`"),
        (json!({ "solver": "newton" }), "/solver: unknown variant `newton`, expected `exact` or `grid`"),
        (json!({ "alpha": 1.0 }), "/alpha: unknown field `alpha`, expected one of `objective`, `solver`"),
        (json!({ "bounds": [0.0] }), "/bounds: invalid length 1"),
        (
            json!({ "bounds": "published" }),
            "/bounds: invalid value: string \"published\", expected [low, high] or \"paper\"",
        ),
        (json!({ "bounds": 2 }), "/bounds: invalid type: integer `2`, expected [low, high] or \"paper\""),
        (json!({ "bounds": [1.5, 0.5] }), "/bounds: 1.5 is not below 0.5"),
        (json!({ "bounds": [1.0, 1.0] }), "/bounds: 1 is not below 1"),
        (json!({ "bounds": [-1.0, 1.0] }), "/bounds/0: must be 0 or more"),
        (json!({ "bounds": [0.0, 101.0] }), "/bounds/1: must be at most 100, not 101"),
        (json!({ "grid_step": 0.1 }), "/grid_step: means something with solver grid only"),
        (json!({ "solver": "grid", "grid_step": 0.0 }), "/grid_step: must be above 0"),
        (
            json!({ "solver": "grid", "grid_step": 3.0, "bounds": "paper" }),
            "/grid_step: 3 does not cut [0, 2] into 1 to 1000 parts",
        ),
        (json!({ "solver": "grid", "grid_step": 1e-9 }), "/grid_step: 0.000000001 does not cut [0, 1]"),
        (json!({ "kl_temperature": 0.0 }), "/kl_temperature: must be above 0"),
        (json!({ "ema": 1.0 }), "/ema: must be 0 or more and below 1, not 1"),
        (json!({ "ema": -0.1 }), "/ema: must be 0 or more and below 1, not -0.1"),
        (json!({ "budget_nats": 0.5 }), "/budget_nats: means something with objective budget only"),
        (json!({ "sequence_budget_nats": 0.5 }), "/sequence_budget_nats: means something with objective budget only"),
        (json!({ "objective": "budget", "budget_nats": -0.5 }), "/budget_nats: must be 0 or more"),
        (json!({ "objective": "budget", "sequence_budget_nats": -1 }), "/sequence_budget_nats: must be 0 or more"),
        (json!({ "objective": "budget", "solver": "grid" }), "/solver: grid does not go with objective budget"),
        (json!({ "objective": "budget", "kl_temperature": 2.0 }), "/kl_temperature: must be 1 with objective budget"),
        (
            json!({ "objective": "budget", "experts": "one_expert" }),
            "/objective: budget does not go with experts one_expert",
        ),
        (
            json!({ "objective": "variance_ratio", "experts": "one_expert" }),
            "/objective: variance_ratio does not go with experts one_expert",
        ),
        (
            json!({ "objective": "forward", "experts": "joint_minnorm" }),
            "/objective: must be paper with experts joint_minnorm",
        ),
        (json!({ "ema": 0.5, "experts": "joint_minnorm" }), "/ema: must be 0 with experts joint_minnorm"),
        (json!({ "pool": "geometric", "experts": "one_expert" }), "/pool: means something with experts pool only"),
        (json!({ "weights": "kl", "experts": "one_expert" }), "/weights: means something with experts pool only"),
        (json!({ "weights": "best" }), "/weights: unknown variant `best`"),
        (json!({ "weights": "fixed" }), "/fixed_weights: missing"),
        (json!({ "fixed_weights": [1.0] }), "/fixed_weights: means something with weights fixed only"),
        (json!({ "weights": "fixed", "fixed_weights": [0.5, 0.6] }), "/fixed_weights: add up to 1.1, not 1"),
        (json!({ "weights": "fixed", "fixed_weights": [] }), "/fixed_weights: add up to"),
        (json!({ "weights": "fixed", "fixed_weights": [1.5, -0.5] }), "/fixed_weights/1: must be 0 or more"),
        (json!({ "weights": "fixed", "fixed_weights": [1.5, null] }), "/fixed_weights/1: invalid type: null"),
        (json!({ "weights": "kl", "posterior": {} }), "/posterior: means something with experts pool and weights"),
        (json!({ "posterior": { "eta": -1.0 } }), "/posterior/eta: must be 0 or more"),
        (json!({ "posterior": { "gamma": 0.0 } }), "/posterior/gamma: must be above 0 and at most 1"),
        (json!({ "posterior": { "gama": 1.0 } }), "/posterior/gama: unknown field"),
        (
            json!({ "posterior": { "no_expert_prior": 1.0 } }),
            "/posterior/no_expert_prior: must be 0 or more and below 1, not 1",
        ),
        (json!({ "posterior": { "evidence": "hearsay" } }), "/posterior/evidence: unknown variant `hearsay`"),
        (json!({ "weights": "kl", "fingerprint": {} }), "/fingerprint: means something with experts pool and weights"),
        (json!({ "posterior": {}, "fingerprint": {} }), "/fingerprint: means something with experts pool and weights"),
        (json!({ "fingerprint": { "prompts": 1 } }), "/fingerprint/prompts: must be 2 or more, not 1"),
        (json!({ "fingerprint": { "slack": -1.0 } }), "/fingerprint/slack: must be 0 or more"),
        (json!({ "fingerprint": { "slak": 1.0 } }), "/fingerprint/slak: unknown field"),
        (json!({ "entropy_temperature": 1.0 }), "/entropy_temperature: means something with weights entropy only"),
        (json!({ "weights": "entropy", "entropy_temperature": 0 }), "/entropy_temperature: must be above 0"),
        (json!([0.5]), "params: must be a table of names and values"),
    ];
    for (params, message) in cases {
        let error = DynamicKl::from_json(&params).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{params}");
        assert!(error.to_string().starts_with(message), "{params}: {error}");
        assert!(error.help().is_some(), "{params}");
    }
}

#[test]
fn numbers_that_json_cannot_hold_are_refused_too() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let posterior = |posterior| Params { posterior: Some(posterior), ..Params::default() };
        let budget = Params { objective: Goal::Budget, ..Params::default() };
        let errors = [
            (Params { bounds: [0.0, bad], ..Params::default() }, "/bounds/1"),
            (Params { bounds: [bad, 2.0], ..Params::default() }, "/bounds/0"),
            (Params { kl_temperature: bad, ..Params::default() }, "/kl_temperature"),
            (Params { ema: bad, ..Params::default() }, "/ema"),
            (Params { budget_nats: Some(bad), ..budget.clone() }, "/budget_nats"),
            (Params { sequence_budget_nats: Some(bad), ..budget }, "/sequence_budget_nats"),
            (posterior(PosteriorParams { eta: bad, ..PosteriorParams::default() }), "/posterior/eta"),
            (posterior(PosteriorParams { gamma: bad, ..PosteriorParams::default() }), "/posterior/gamma"),
            (
                posterior(PosteriorParams { no_expert_prior: bad, ..PosteriorParams::default() }),
                "/posterior/no_expert_prior",
            ),
        ];
        for (params, pointer) in errors {
            assert!(DynamicKl::new(params).unwrap_err().to_string().starts_with(pointer));
        }
    }
}

#[test]
fn sessions_that_do_not_fit_are_refused() {
    let start = |params: Params, roles: &[&str]| {
        let bindings = roles.iter().map(|role| RoleBinding { role: (*role).into(), source: (*role).into() });
        let session = SessionInfo::new(bindings, SharedVocabulary::new(4, []));
        DynamicKl::new(params).unwrap().start(&session).err().map(|e| (e.kind(), e.to_string()))
    };
    let cases: [(&[&str], &str); 6] = [
        (&["expert", "anti"], "base: one source takes this role, not 0"),
        (&["base", "base", "expert", "anti"], "base: one source takes this role, not 2"),
        (&["base", "anti"], "expert: no source takes this role"),
        (&["base", "expert"], "anti: 0 sources take this role beside 1 experts"),
        (&["base", "expert", "anti", "anti"], "anti: 2 sources take this role beside 1 experts"),
        (&["base", "expert", "expert", "expert", "anti", "anti"], "anti: 2 sources take this role beside 3 experts"),
    ];
    for (roles, message) in cases {
        assert_eq!(start(Params::default(), roles), Some((ErrorKind::Incompatible, message.to_owned())));
    }
    let weights = Params { weights: Some(Weights::Fixed), fixed_weights: Some(vec![0.25, 0.75]), ..Params::default() };
    assert_eq!(start(weights.clone(), &["base", "expert", "expert", "anti"]), None);
    let message = "/fixed_weights: 2 weights for 1 experts".to_owned();
    assert_eq!(start(weights, &["base", "expert", "anti"]), Some((ErrorKind::InvalidConfig, message)));
}

#[test]
fn the_schema_describes_the_parameters() {
    let strategy = DynamicKl::new(Params::default()).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&strategy.info().params_schema).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let properties = schema["properties"].as_object().unwrap();
    assert!(properties.values().all(|p| p["description"].is_string()), "{properties:?}");
    assert_eq!(properties["bounds"]["default"], json!([0.0, 1.0]));
    assert_eq!(properties["objective"]["default"], "paper");
    let posterior = schema["$defs"]["PosteriorParams"]["properties"].as_object().unwrap();
    assert!(posterior.values().all(|p| p["description"].is_string()));
    let defaults = serde_json::to_value(Params::default()).unwrap();
    assert_eq!(properties.keys().collect::<Vec<_>>(), defaults.as_object().unwrap().keys().collect::<Vec<_>>());
    assert_eq!(DynamicKl::from_json(&json!({ "experts": "one_expert" })).unwrap().params().experts, Experts::OneExpert);
}

#[test]
fn the_published_bounds_have_a_name() {
    let bounds = |params: &serde_json::Value| DynamicKl::from_json(params).unwrap().params().bounds;
    assert_eq!(bounds(&json!({})), [0.0, 1.0]);
    assert_eq!(bounds(&json!({ "bounds": "paper" })), Params::PAPER_BOUNDS);
    assert_eq!(bounds(&json!({ "bounds": [0.0, 2.0] })), bounds(&json!({ "bounds": "paper", "solver": "grid" })));
}

#[test]
fn every_parameter_set_that_the_documents_name_is_accepted() {
    for params in [
        json!({}),
        json!({ "solver": "grid" }),
        json!({ "solver": "grid", "grid_step": 0.05, "bounds": [0.0, 1.0] }),
        json!({ "objective": "budget", "budget_nats": 0.0, "sequence_budget_nats": 10 }),
        json!({ "weights": "top1", "posterior": { "no_expert_prior": 0.2, "tempering": "none" } }),
        json!({ "pool": "arithmetic", "weights": "entropy", "entropy_temperature": 0.5 }),
        json!({ "experts": "one_expert", "solver": "grid", "ema": 0.5 }),
        json!({ "experts": "joint_minnorm" }),
        json!({ "weights": "fingerprint", "fingerprint": { "prompts": 8, "slack": 1.5 } }),
        json!({ "fingerprint": {}, "bounds": [0.0, 1.0] }),
        json!({ "bounds": "paper", "objective": "budget" }),
        json!({ "posterior": { "evidence": "both" } }),
    ] {
        assert!(DynamicKl::from_json(&params).is_ok(), "{params}");
    }
}

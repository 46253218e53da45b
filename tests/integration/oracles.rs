//! The built-in strategies against one another: where one rule contains the other, both must say the same.

use std::sync::Arc;

use logitfuse_conformance::{Case, generators, oracles, strategy_laws};
use logitfuse_core::FusionStrategy;
use logitfuse_pipeline::{built_in, strategy};
use logitfuse_wrappers::{Gate, GateParams, Schedule, ScheduleParams, Shape};
use proptest::prelude::*;
use serde_json::{Value, json};

const THREE: [(&str, usize); 3] = [("base", 1), ("expert", 1), ("anti", 1)];
/// The same rows for strategies that fuse two.
const BASE_ANTI: [(&str, &str); 2] = [("base", "base"), ("anti", "anti")];

/// A built-in strategy, as an experiment would make it.
fn of(id: &str, params: &Value) -> Arc<dyn FusionStrategy> {
    strategy(id, params).unwrap()
}

fn proxy(alpha: f64) -> Arc<dyn FusionStrategy> {
    of("static-proxy", &json!({ "alpha": alpha }))
}

fn dynamic(params: &Value) -> Arc<dyn FusionStrategy> {
    of("dynamic-kl", params)
}

/// The rows of a case under the roles of a strategy: what it has no role for is left out, and a role that the case lacks
/// says what the base says.
fn cast(case: &Case, strategy: &dyn FusionStrategy) -> Case {
    let known = |role: &str| case.session.row_of(role).is_some();
    let names = strategy.info().roles.iter().map(|role| role.name.as_str());
    case.with_roles(&names.map(|role| (role, if known(role) { role } else { "base" })).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_switched_off_is_the_base(case in generators::case(&THREE)) {
        let off = [
            proxy(0.0),
            of("task-arithmetic", &json!({ "alpha": 0.0 })),
            of("in-context", &json!({ "alpha": 0.0 })),
            of("in-context", &json!({ "mode": "cfg", "gamma": 1.0 })),
            of("contrastive", &json!({ "beta": 0.0, "plausibility": 0.0 })),
            of("trimix", &json!({ "alpha": 1.0, "beta": 0.0 })),
            of("ensemble", &json!({ "weights": [1.0, 0.0] })),
            of("ensemble", &json!({ "mean": "arithmetic", "weights": [1.0, 0.0] })),
            dynamic(&json!({ "objective": "budget", "budget_nats": 0.0 })),
            of("none", &json!({})),
        ];
        for strategy in off {
            strategy_laws::identity(strategy.as_ref(), &cast(&case, strategy.as_ref()))?;
        }
    }

    #[test]
    fn one_task_vector_is_proxy_tuning(case in generators::case(&THREE), alpha in -2.0..3.0, lambda in -1.0..2.0) {
        let tasks = of("task-arithmetic", &json!({ "alpha": alpha, "lambda": [lambda] }));
        oracles::same_distribution((tasks.as_ref(), &case), (proxy(alpha * lambda).as_ref(), &case))?;
        let one = of("task-arithmetic", &json!({ "alpha": alpha }));
        oracles::same_distribution((one.as_ref(), &case), (proxy(alpha).as_ref(), &case))?;
    }

    #[test]
    fn a_contrast_of_prompts_is_a_task_vector(case in generators::case(&THREE), alpha in -1.0..3.0) {
        let two = case.with_roles(&BASE_ANTI);
        let cad = of("in-context", &json!({ "alpha": alpha }));
        let vector = case.with_roles(&[("base", "base"), ("expert", "base"), ("anti", "anti")]);
        let tasks = of("task-arithmetic", &json!({ "alpha": alpha }));
        oracles::same_distribution((cad.as_ref(), &two), (tasks.as_ref(), &vector))?;
        oracles::same_bits((cad.as_ref(), &two), (proxy(alpha).as_ref(), &vector))?;
        let learner = of("in-context", &json!({ "mode": "icl_expert", "alpha": alpha }));
        oracles::same_bits((learner.as_ref(), &case), (proxy(alpha).as_ref(), &case))?;
    }

    #[test]
    fn contrasts_of_two_rows_have_many_names(case in generators::case(&THREE), alpha in 0.01..2.0) {
        let two = case.with_roles(&BASE_ANTI);
        let cad = of("in-context", &json!({ "alpha": alpha }));
        let cfg = of("in-context", &json!({ "mode": "cfg", "gamma": 1.0 + alpha }));
        let contrastive = of("contrastive", &json!({ "beta": alpha, "plausibility": 0.0 }));
        oracles::same_distribution((cad.as_ref(), &two), (cfg.as_ref(), &two))?;
        oracles::same_distribution((cad.as_ref(), &two), (contrastive.as_ref(), &two))?;
        // A filter is the same filter everywhere.
        let [cad, contrastive] = [
            of("in-context", &json!({ "alpha": alpha, "plausibility": 0.1 })),
            of("contrastive", &json!({ "beta": alpha, "plausibility": 0.1 })),
        ];
        oracles::same_distribution((cad.as_ref(), &two), (contrastive.as_ref(), &two))?;
    }

    #[test]
    fn mixtures_contain_proxy_tuning(case in generators::case(&THREE), beta in -1.0..2.0) {
        let mixture = of("trimix", &json!({ "alpha": 1.0, "beta": beta }));
        oracles::same_bits((mixture.as_ref(), &case), (proxy(beta).as_ref(), &case))?;
    }

    #[test]
    fn a_geometric_mean_is_a_step_towards_the_other(case in generators::case(&THREE), weight in 0.0..1.0) {
        let mean = of("ensemble", &json!({ "weights": [1.0 - weight, weight] }));
        let towards = case.with_roles(&[("base", "base"), ("expert", "expert"), ("anti", "base")]);
        oracles::same_distribution((mean.as_ref(), &towards), (proxy(weight).as_ref(), &towards))?;
    }

    #[test]
    fn a_budget_without_end_is_the_largest_strength(case in generators::related_case(&THREE), high in 0.5..2.0) {
        let unbounded = dynamic(&json!({ "objective": "budget", "budget_nats": 1e300, "bounds": [0.0, high] }));
        oracles::same_distribution((unbounded.as_ref(), &case), (proxy(high).as_ref(), &case))?;
    }

    #[test]
    fn a_larger_budget_goes_no_less_far(case in generators::case(&THREE)) {
        let budgets = [0.0, 0.01, 0.1, 0.5, 2.0].map(|nats| dynamic(&json!({ "objective": "budget", "budget_nats": nats })));
        strategy_laws::monotone_kl(&budgets.each_ref().map(AsRef::as_ref), &case)?;
    }

    #[test]
    fn one_task_with_a_solved_strength_is_dynamic_fusion(case in generators::related_case(&THREE), which in 0..7_usize) {
        let objective = ["paper", "crossed", "forward", "reverse", "jeffreys", "sqrt", "variance_ratio"][which];
        let tasks = of("task-arithmetic", &json!({ "strength": "dynamic", "objective": objective }));
        let dynamic = dynamic(&json!({ "objective": objective }));
        oracles::same_distribution((tasks.as_ref(), &case), (dynamic.as_ref(), &case))?;
    }

    #[test]
    fn a_schedule_of_one_is_what_it_wraps(case in generators::case(&THREE)) {
        for info in built_in() {
            let inner = of(&info.id, &json!({}));
            let cast = cast(&case, inner.as_ref());
            let scheduled = Schedule::new(ScheduleParams::default(), inner.clone()).unwrap();
            oracles::same_bits((&scheduled, &cast), (inner.as_ref(), &cast))?;
        }
    }

    /// Every strategy as users compose it, with the memory of those that have one.
    #[test]
    fn the_contract_holds_in_a_gate_around_a_schedule(case in generators::case(&THREE), max_prob in 0.05..1.0, audit in any::<bool>()) {
        for info in built_in() {
            let warmup = ScheduleParams { shape: Shape::Cosine, steps: 2, ..ScheduleParams::default() };
            let scheduled = Arc::new(Schedule::new(warmup, of(&info.id, &json!({}))).unwrap());
            let params = GateParams { max_prob: Some(max_prob), audit, ..GateParams::default() };
            let gated = Gate::new(params, scheduled).unwrap();
            strategy_laws::contract(&gated, &cast(&case, &gated))?;
        }
    }
}

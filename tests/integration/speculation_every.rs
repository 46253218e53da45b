//! Drafts change no token, whatever the strategy: built in, wrapped, with memory, or in a plugin.

use std::sync::Arc;

use logitfuse_core::{FusionStrategy, TokenId};
use logitfuse_engine::{Decoder, Draft, DraftLength, Request, Role, Sampling, Speculation};
use logitfuse_pipeline::{StrategyConfig, built_in, configured};
use logitfuse_plugin_host::{OnError, PluginFile};
use serde_json::{Value, json};

use crate::{
    exactness::{adaptive, assert_distributed, exact, prompt, run, source},
    libraries::library,
};

type Strategy = Arc<dyn FusionStrategy>;

/// A strategy as an experiment's TOML would have it: parameters, schedule, gate.
fn wrapped(id: &str, params: &Value, schedule: Option<Value>, gate: Option<Value>) -> Strategy {
    let table = |value: Value| value.as_object().unwrap().clone();
    let (schedule, gate) = (schedule.map(table), gate.map(table));
    let id = Some(id.to_owned());
    configured(&StrategyConfig { id, params: table(params.clone()), schedule, gate, ..StrategyConfig::default() })
        .unwrap()
}

fn of(id: &str, params: &Value) -> Strategy {
    wrapped(id, params, None, None)
}

fn plugin(library_name: &str, id: &str, params: &Value) -> Strategy {
    let file = PluginFile::read(library(library_name)).unwrap();
    Arc::new(file.load().unwrap().strategy(id, params, OnError::Fail).unwrap())
}

/// Every built-in strategy as it comes, and what it does otherwise when it is told to.
fn every() -> Vec<(String, Strategy)> {
    let defaults = built_in().into_iter().map(|info| (info.id.clone(), of(&info.id, &json!({}))));
    let told = [
        ("static-proxy", json!({ "alpha": 1.4, "plausibility": 0.05 })),
        ("static-proxy", json!({ "top_p": 0.9 })),
        ("dynamic-kl", json!({ "solver": "grid", "ema": 0.6 })),
        ("dynamic-kl", json!({ "objective": "budget", "budget_nats": 0.3, "sequence_budget_nats": 2.0 })),
        ("dynamic-kl", json!({ "weights": "kl", "pool": "arithmetic" })),
        ("dynamic-kl", json!({ "experts": "one_expert" })),
        ("dynamic-kl", json!({ "experts": "joint_minnorm" })),
        ("in-context", json!({ "mode": "adacad" })),
        ("in-context", json!({ "mode": "cfg" })),
        ("in-context", json!({ "mode": "icl_expert" })),
        ("task-arithmetic", json!({ "strength": "dynamic" })),
        ("ensemble", json!({ "mean": "arithmetic" })),
    ];
    let told = told.map(|(id, params)| (format!("{id} {params}"), of(id, &params)));
    let schedule = || Some(json!({ "shape": "cosine", "steps": 9 }));
    let gate = || Some(json!({ "max_prob": 0.3 }));
    let wrappers = [
        ("schedule", wrapped("dynamic-kl", &json!({}), schedule(), None)),
        ("gate", wrapped("static-proxy", &json!({}), None, gate())),
        ("gate around schedule", wrapped("dynamic-kl", &json!({}), schedule(), gate())),
    ];
    let plugins = [
        ("plugin static-proxy", plugin("static-proxy", "static-proxy", &json!({ "alpha": 0.8 }))),
        ("plugin with memory", plugin("dynamic-kl", "dynamic-kl", &json!({ "ema": 0.5 }))),
    ];
    let named = wrappers.into_iter().chain(plugins).map(|(name, strategy)| (name.to_owned(), strategy));
    defaults.chain(told).chain(named).collect()
}

/// One source for each role but two experts where a strategy takes several, and a drafter that plays none.
fn engine(strategy: &Strategy, vocab: usize, speculation: Option<Speculation>) -> Decoder {
    let mut roles = Vec::new();
    for (source, spec) in strategy.info().roles.iter().enumerate() {
        roles.push(Role::new(&*spec.name, source));
        if spec.name == "expert" && spec.arity.max.is_none_or(|most| most > 1) {
            roles.push(Role::new(&*spec.name, 3));
        }
    }
    let builder = Decoder::builder(Arc::clone(strategy)).roles(roles).speculation(speculation);
    let own = [1.0, 1.5, 1.5, 2.0];
    let builder =
        (1..).zip(own).fold(builder, |builder, (n, own)| builder.source(source(&format!("{n}"), vocab, n, own)));
    builder.build().unwrap()
}

#[test]
fn greedy_text_is_the_same_for_every_strategy() {
    const VOCAB: usize = 41;
    const PROMPTS: TokenId = 200;
    for (name, strategy) in every() {
        let plain = &mut engine(&strategy, VOCAB, None);
        let bindings = plain.session().bindings.len();
        let penalty = Sampling { frequency_penalty: 0.3, repetition_penalty: 1.1, ..Sampling::default() };
        let request = |n: TokenId| {
            let sampling = if n.is_multiple_of(2) { Sampling::default() } else { penalty.clone() };
            Request::new(vec![prompt(n, 2 + n as usize % 7, VOCAB); bindings])
                .max_new_tokens(6 + n as usize % 12)
                .sampling(sampling)
                .trace()
        };
        let requests: Vec<Request> = (0..PROMPTS).map(request).collect();
        let (expected, _) = run(plain, &requests);
        let drafts = [(Draft::Binding(bindings - 1), DraftLength::Fixed(3)), (Draft::Source(3), adaptive())];
        for (draft, length) in drafts {
            let mut drafting = engine(&strategy, VOCAB, Some(Speculation { draft, length }));
            let (story, stood) = run(&mut drafting, &requests);
            assert!(story == expected, "{name}: {draft:?}");
            assert!(stood > 0, "{name}: {draft:?}: nothing that was drafted stood");
        }
    }
}

#[test]
fn sampled_text_has_the_exact_distribution_with_memory_and_in_a_plugin() {
    const VOCAB: usize = 4;
    // No repetition penalty: it knows zero, which a row of log-probabilities has elsewhere than the row that was fused.
    let shaped = Sampling {
        temperature: 0.8,
        top_p: 0.92,
        frequency_penalty: 0.3,
        presence_penalty: 0.4,
        ..Sampling::default()
    };
    let budget = json!({ "objective": "budget", "budget_nats": 0.3, "sequence_budget_nats": 0.8 });
    let cases = [
        ("budget of a sequence", of("dynamic-kl", &budget)),
        ("pool of experts", of("dynamic-kl", &json!({}))),
        ("gate", wrapped("static-proxy", &json!({}), None, Some(json!({ "max_prob": 0.5 })))),
        ("plugin with memory", plugin("dynamic-kl", "dynamic-kl", &json!({ "ema": 0.5 }))),
    ];
    for (name, strategy) in cases {
        let plain = &mut engine(&strategy, VOCAB, None);
        let prompts = vec![vec![2, 0, 3, 1]; plain.session().bindings.len()];
        let expected = exact(plain, &prompts, &shaped, &[], 3);
        let speculation = Speculation { draft: Draft::Binding(1), length: DraftLength::Fixed(2) };
        assert_distributed(
            &mut engine(&strategy, VOCAB, Some(speculation)),
            &prompts,
            &shaped,
            &[],
            &expected,
            8_000,
            name,
        );
    }
}

#[test]
fn a_hundred_thousand_draws_have_the_exact_distribution() {
    const VOCAB: usize = 12;
    let strategy = of("dynamic-kl", &json!({}));
    let sampling = Sampling { temperature: 0.9, min_p: 0.01, ..Sampling::default() };
    let plain = &mut engine(&strategy, VOCAB, None);
    let prompts = vec![vec![5, 1, 7]; plain.session().bindings.len()];
    let expected = exact(plain, &prompts, &sampling, &[], 2);
    let speculation = Speculation { draft: Draft::Source(3), length: DraftLength::Fixed(1) };
    let drafting = &mut engine(&strategy, VOCAB, Some(speculation));
    assert_distributed(drafting, &prompts, &sampling, &[], &expected, 100_000, "dynamic-kl");
}

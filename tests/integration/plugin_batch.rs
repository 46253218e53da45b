//! A plugin among other strategies in one batch: each says what it says alone, and one that fails ends its own text.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{FusionStrategy, TokenId};
use logitfuse_engine::{BaseOnly, Cancel, Decoder, Event, Fusion, Request, Role, Sampling, SourcePool};
use logitfuse_pipeline::strategy;
use logitfuse_plugin_host::{OnError, PluginFile};
use logitfuse_replay::SyntheticSource;
use serde_json::json;

use crate::libraries::library;

const VOCAB: usize = 71;

fn pool() -> SourcePool {
    let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), VOCAB, seed));
    SourcePool::builder().source(source(1)).source(source(2)).source(source(3)).build().unwrap()
}

fn plugin(name: &str, params: &serde_json::Value) -> Arc<dyn FusionStrategy> {
    let plugin = PluginFile::read(library(name)).unwrap().load().unwrap();
    Arc::new(plugin.strategy(name, params, OnError::Fail).unwrap())
}

/// A request of each strategy; those at odd places are sampled.
fn requests(pool: &SourcePool, strategies: Vec<Arc<dyn FusionStrategy>>) -> Vec<Request> {
    let request = |(n, strategy): (usize, Arc<dyn FusionStrategy>)| {
        let roles: Vec<Role> =
            strategy.info().roles.iter().enumerate().map(|(source, role)| Role::new(&*role.name, source)).collect();
        let prompt: Vec<TokenId> = (0..5).map(|i| TokenId::try_from((i * 7 + n * 5) % VOCAB).unwrap()).collect();
        let prompts = vec![prompt; roles.len()];
        let fusion = Fusion::new(pool, strategy, roles).unwrap();
        let temperature = if n.is_multiple_of(2) { 0.0 } else { 0.9 };
        let sampling = Sampling { temperature, seed: n as u64, ..Sampling::default() };
        Request::new(prompts).fusion(&fusion).max_new_tokens(20).sampling(sampling)
    };
    strategies.into_iter().enumerate().map(request).collect()
}

fn strategies() -> Vec<Arc<dyn FusionStrategy>> {
    vec![
        Arc::new(BaseOnly::new()),
        plugin("static-proxy", &json!({ "alpha": 0.7 })),
        strategy("dynamic-kl", &json!({})).unwrap(),
        plugin("misbehave", &json!({})),
    ]
}

type Texts = Vec<Vec<(TokenId, u64)>>;

fn run(requests: &[Request]) -> (Texts, Vec<(usize, String)>) {
    let (mut texts, mut failed) = (vec![Vec::new(); requests.len()], Vec::new());
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Token(t) => texts[t.request].push((t.token, t.log_prob.to_bits())),
            Event::Failed { request, error } => failed.push((request, error.to_string())),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let mut decoder = Decoder::new(requests[0].fusion.as_ref().unwrap());
    let mut each = requests.iter().cloned().map(Ok);
    let _ = decoder.generate_stream(&mut each, requests.len(), &Cancel::new(), &mut on_event);
    (texts, failed)
}

#[test]
fn one_failing_plugin_among_others_ends_its_own_text_only() {
    let alone: Texts = (0..4)
        .map(|n| {
            let pool = pool();
            run(&requests(&pool, strategies())[n..=n]).0.remove(0)
        })
        .collect();
    let pool = pool();
    assert_eq!(run(&requests(&pool, strategies())), (alone.clone(), Vec::new()));
    for mode in ["panic-guarded", "nan", "begin-fails"] {
        let mut all = strategies();
        all.push(plugin("misbehave", &json!({ "mode": mode })));
        let (mut texts, failed) = run(&requests(&pool, all));
        assert!(failed.len() == 1 && failed[0].0 == 4, "{mode}: {failed:?}");
        assert!(failed[0].1.contains("misbehave"), "{mode}: {failed:?}");
        texts.pop();
        assert_eq!(texts, alone, "{mode}");
    }
}

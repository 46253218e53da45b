//! Every bundled strategy, as a library through the host and built in: the same bits.

use std::{ops::ControlFlow, path::Path, process::Command, sync::Arc};

use logitfuse_core::numerics::{log_sum_exp, top_k};
use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, RoleRow, Rows, Step, StrategyInfo, TokenId,
};
use logitfuse_engine::{Cancel, Engine, Event, Request, Role, Sampling};
use logitfuse_pipeline::strategy;
use logitfuse_plugin_host::{OnError, PluginFile};
use logitfuse_replay::SyntheticSource;
use serde_json::{Value, json};

use crate::{
    plugins::library,
    support::{model, runtime, tiny},
};

const WIDTH: usize = 211;

/// Bundled library, strategy, parameters, and the roles to play with.
pub(crate) fn all() -> Vec<(&'static str, &'static str, Value, Vec<&'static str>)> {
    let proxy = vec!["base", "expert", "anti"];
    let several = vec!["base", "expert", "expert", "anti", "anti"];
    vec![
        ("static-proxy", "static-proxy", json!({}), proxy.clone()),
        ("static-proxy", "static-proxy", json!({ "alpha": 1.7, "weights": [0.3, 1.1], "top_p": 0.9 }), several.clone()),
        ("dynamic-kl", "dynamic-kl", json!({}), proxy.clone()),
        ("in-context", "in-context", json!({}), vec!["base", "anti"]),
        ("task-arithmetic", "task-arithmetic", json!({}), several),
        ("ensemble", "ensemble", json!({}), vec!["base", "expert", "expert"]),
        ("ensemble", "contrastive", json!({}), vec!["base", "anti"]),
        ("ensemble", "trimix", json!({}), proxy),
    ]
}

pub(crate) fn both(plugin: &str, id: &str, params: &Value) -> (Arc<dyn FusionStrategy>, Arc<dyn FusionStrategy>) {
    let file = PluginFile::read(library(plugin)).unwrap();
    let loaded = file.load().unwrap().strategy(id, params, OnError::Fail).unwrap();
    (strategy(id, params).unwrap(), Arc::new(loaded))
}

/// All but calibration, which the contract of plugins does not offer.
#[test]
fn a_plugin_says_of_itself_what_the_built_in_strategy_says() {
    for (plugin, id, params, _) in all() {
        let (built_in, loaded) = both(plugin, id, &params);
        let built_in = StrategyInfo { calibration: None, ..built_in.info().clone() };
        assert_eq!(format!("{built_in:?}"), format!("{:?}", loaded.info()), "{id} {params}");
    }
}

#[test]
fn a_plugin_refuses_what_the_built_in_strategy_refuses_with_the_same_words() {
    for (plugin, id, ..) in all() {
        let file = PluginFile::read(library(plugin)).unwrap().load().unwrap();
        // What the schema can say, the host refuses in its own words; this one only the strategy knows, if it knows it.
        let params = json!({ "no_such_parameter": 1 });
        let of_plugin = file.strategy(id, &params, OnError::Fail).map(drop).unwrap_err();
        let built_in = strategy(id, &params).map(drop).unwrap_err();
        assert_eq!(of_plugin.kind(), built_in.kind());
        assert!(of_plugin.to_string().starts_with("/no_such_parameter: "), "{of_plugin}");
    }
}

/// More than a thousand steps with commits, looks at what is not committed, rollbacks and forks.
#[test]
fn rows_and_traces_have_the_same_bits_over_a_thousand_steps() {
    for (plugin, id, params, roles) in all() {
        let (built_in, loaded) = both(plugin, id, &params);
        let mut session = Engine::builder(Arc::clone(&built_in)).roles(bindings(&roles));
        for source in sources(&roles) {
            session = session.source(source);
        }
        let session = session.build().unwrap().session().clone();
        let mut states = [built_in.start(&session).unwrap(), loaded.start(&session).unwrap()];
        let mut models = sources(&roles);
        let sequences: Vec<_> = models.iter_mut().map(|m| m.open().unwrap()).collect();
        let mut committed: Vec<TokenId> = Vec::new();
        let mut rows = vec![Rows::new(); models.len()];
        let mut log_probs = vec![0.0; models.len()];
        for step in 0..1_050_usize {
            for ((model, &sequence), rows) in models.iter_mut().zip(&sequences).zip(&mut rows) {
                model.truncate(sequence, 0).unwrap();
                let last: Vec<TokenId> = committed.iter().rev().take(4).copied().chain([7]).collect();
                model.forward(&[Step { sequence, tokens: &last, rows: 1 }], rows).unwrap();
            }
            let lent: Vec<RoleRow<'_>> =
                rows.iter().zip(&log_probs).map(|(r, p)| RoleRow::new(r.row(0), log_sum_exp(r.row(0)), *p)).collect();
            let columns = if step % 3 == 0 { 0 } else { built_in.info().trace.len() };
            let written = states.each_mut().map(|state| fuse(state.as_mut(), &lent, &committed, columns));
            assert!(written[0] == written[1], "{id} {params}: step {step}");
            let logits: Vec<f32> = written[0].0.iter().map(|bits| f32::from_bits(*bits)).collect();
            let best = top_k(&logits, 3);
            let token = best[step % best.len()].0;
            for (log_prob, row) in log_probs.iter_mut().zip(&lent) {
                *log_prob += f64::from(row.logits()[token as usize]) - row.log_normaliser;
            }
            committed.push(token);
            for state in &mut states {
                state.commit(&[token]).unwrap();
                if step % 50 == 49 {
                    // The token is taken back and given again, on a copy.
                    state.rollback(1).unwrap();
                    *state = state.fork().unwrap();
                    state.commit(&[token]).unwrap();
                }
            }
        }
    }
}

fn fuse(
    state: &mut dyn FusionState,
    rows: &[RoleRow<'_>],
    committed: &[TokenId],
    columns: usize,
) -> (Vec<u32>, Vec<u64>) {
    let (mut logits, mut trace) = (vec![f32::NAN; WIDTH], vec![f64::NAN; columns]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
    state.fuse(&FusionStep::new(rows, committed), &mut out).unwrap();
    (logits.iter().map(|x| x.to_bits()).collect(), trace.iter().map(|x| x.to_bits()).collect())
}

fn sources(roles: &[&str]) -> Vec<Box<dyn LogitSource>> {
    let source = |(i, role): (usize, &&str)| {
        let source = SyntheticSource::new(&format!("{role}-{i}"), WIDTH, 11 + i as u64).related_to(11, 0.7);
        Box::new(source) as Box<dyn LogitSource>
    };
    roles.iter().enumerate().map(source).collect()
}

fn bindings(roles: &[&str]) -> Vec<Role> {
    roles.iter().enumerate().map(|(i, role)| Role::new(*role, i)).collect()
}

/// Tokens with everything that is reported of them, through the engine.
#[test]
fn a_thousand_generated_tokens_are_the_same() {
    for (plugin, id, params, roles) in all() {
        let (built_in, loaded) = both(plugin, id, &params);
        let generate = |strategy: Arc<dyn FusionStrategy>| {
            let mut engine = Engine::builder(strategy).roles(bindings(&roles));
            for source in sources(&roles) {
                engine = engine.source(source);
            }
            reports(&mut engine.build().unwrap(), vec![vec![3, 1, 4]; roles.len()], 1_000)
        };
        let expected = generate(built_in);
        assert_eq!(expected.len(), 1_000, "{id}");
        assert!(expected == generate(loaded), "{id} {params}");
    }
}

/// Tokens drawn after prompts, each with the bits of its log-probability and of its trace.
pub(crate) fn reports(engine: &mut Engine, prompts: Vec<Vec<TokenId>>, tokens: usize) -> Vec<(TokenId, u64, Vec<u64>)> {
    let sampling = Sampling { temperature: 0.8, seed: 5, ..Sampling::default() };
    let mut request = Request::new(prompts).max_new_tokens(tokens).sampling(sampling).trace();
    request.ignore_end_of_sequence = true;
    let mut reports = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(token) = event {
            let trace = token.trace.iter().map(|x| x.to_bits()).collect();
            reports.push((token.token, token.log_prob.to_bits(), trace));
        }
        ControlFlow::Continue(())
    };
    engine.generate(&[request], &Cancel::new(), &mut on_event).unwrap();
    reports
}

/// Through the command, on real files: one and the same JSON, whether the strategy is built in or a plugin.
#[test]
fn a_real_decode_is_the_same() {
    let small = [tiny("gqa_fp32"), tiny("plain_fp32"), tiny("gqa_fp32")];
    let real = model("smollm2-int8");
    for (models, tokens, prompt) in [
        ([small[0].as_path(), &small[1], &small[2]], "200", "a b c"),
        ([real.as_path(), &real, &real], "60", "Why is the sky blue?"),
    ] {
        let built_in = decode("static-proxy", models, tokens, prompt);
        assert_eq!(built_in["strategy"], "static-proxy");
        assert_eq!(decode("plugin:static-proxy", models, tokens, prompt), built_in);
    }
}

fn decode(strategy: &str, models: [&Path; 3], tokens: &str, prompt: &str) -> Value {
    let roles = ["base", "expert", "anti"]
        .iter()
        .zip(models)
        .flat_map(|(role, model)| ["--role".to_owned(), format!("{role}={}", model.display())]);
    let output = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"))
        .args([
            "generate",
            "--format",
            "json",
            "--trace",
            "--alpha",
            "0.7",
            "-t",
            "0.9",
            "--ignore-eos",
            "--plugin-trust",
            "off",
        ])
        .args(["--strategy", strategy, "-n", tokens, prompt, "--plugin-dir"])
        .arg(library("static-proxy").parent().unwrap())
        .args(roles)
        .env("LOGITFUSE_ORT_LIB", runtime().library())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

//! Every bundled strategy, as a library and built in, through the engine and the command: the same bits. Step by step, without
//! an engine, `plugins/host/tests/parity.rs` compares them.

use std::{ops::ControlFlow, path::Path, process::Command, sync::Arc};

use logitfuse_core::{FusionStrategy, LogitSource, TokenId};
use logitfuse_engine::{CalibrationPrompts, Cancel, Decoder, Event, Request, Role, Sampling};
use logitfuse_pipeline::strategy;
use logitfuse_plugin_host::{OnError, PluginFile};
use logitfuse_replay::SyntheticSource;
use serde_json::Value;

use crate::{
    libraries::{bundled, library},
    support::{model, runtime, tiny},
};

const WIDTH: usize = 211;

pub(crate) fn both(plugin: &str, id: &str, params: &Value) -> (Arc<dyn FusionStrategy>, Arc<dyn FusionStrategy>) {
    let file = PluginFile::read(library(plugin)).unwrap();
    let loaded = file.load().unwrap().strategy(id, params, OnError::Fail).unwrap();
    (strategy(id, params).unwrap(), Arc::new(loaded))
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
    for (plugin, id, params, roles) in bundled() {
        let (built_in, loaded) = both(plugin, id, &params);
        let generate = |strategy: Arc<dyn FusionStrategy>| {
            let mut engine = Decoder::builder(strategy).roles(bindings(&roles));
            for source in sources(&roles) {
                engine = engine.source(source);
            }
            let mut engine = engine.build().unwrap();
            calibrate(&mut engine, &[vec![3, 5], vec![3, 6], vec![2, 7]]);
            reports(&mut engine, vec![vec![3, 1, 4]; roles.len()], 1_000)
        };
        let expected = generate(built_in);
        assert_eq!(expected.len(), 1_000, "{id}");
        assert!(expected == generate(loaded), "{id} {params}");
    }
}

/// Calibrates a strategy that cannot run without: each expert's prompts are these, one token longer for every expert before it.
pub(crate) fn calibrate(engine: &mut Decoder, prompts: &[Vec<TokenId>]) {
    let Some(spec) = engine.strategy().info().calibration.clone().filter(|spec| spec.required) else { return };
    let bindings = engine.session().bindings.len();
    let owners: Vec<usize> = engine.session().rows_of(&spec.role).collect();
    let of_owner = |(n, &binding): (usize, &usize)| {
        let prompt = |prompt: &Vec<TokenId>| vec![[prompt.as_slice(), &vec![8; n]].concat(); bindings];
        CalibrationPrompts { binding, prompts: prompts.iter().map(prompt).collect() }
    };
    let prompts: Vec<CalibrationPrompts> = owners.iter().enumerate().map(of_owner).collect();
    engine.calibrate(&prompts).unwrap();
}

/// Tokens drawn after prompts, each with the bits of its log-probability and of its trace.
pub(crate) fn reports(
    engine: &mut Decoder,
    prompts: Vec<Vec<TokenId>>,
    tokens: usize,
) -> Vec<(TokenId, u64, Vec<u64>)> {
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

/// `[sources.NAME] calibration` reaches a strategy of a plugin as it reaches the built-in one.
#[test]
fn calibration_prompts_of_an_experiment_reach_a_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = |name: &str, texts: &[&str]| {
        let lines = texts
            .iter()
            .fold(String::new(), |lines, text| lines + &serde_json::json!({ "prompt": text }).to_string() + "\n");
        std::fs::write(folder.path().join(name), lines).unwrap();
    };
    prompts("one.jsonl", &["a b", "a c", "b c"]);
    prompts("two.jsonl", &["c c c", "c b c", "c a c"]);
    let source =
        |name: &str, model: &str, more: &str| format!("[sources.{name}]\nmodel = '{}'\n{more}", tiny(model).display());
    let run = |strategy: &str, calibration: bool| {
        let file = |name: &str| if calibration { format!("calibration = \"{name}\"\n") } else { String::new() };
        let sources = [
            source("big", "gqa_fp32", ""),
            source("first", "plain_fp32", &file("one.jsonl")),
            source("second", "gqa_fp32", &file("two.jsonl")),
            source("before", "plain_fp32", ""),
        ];
        let toml = format!(
            "schema = 1\n[run]\nprompts = [\"a b\", \"c a c\"]\nmax_new_tokens = 8\n{}[strategy]\nuse = \"{strategy}\"\n\
             roles = {{ base = \"big\", expert = [\"first\", \"second\"], anti = \"before\" }}\n\
             params = {{ weights = \"fingerprint\" }}\n",
            sources.concat()
        );
        std::fs::write(folder.path().join("experiment.toml"), toml).unwrap();
        Command::new(assert_cmd::cargo::cargo_bin("logitfuse"))
            .args(["run", "-q", "experiment.toml", "--plugin-trust", "off", "--plugin-dir"])
            .arg(library("dynamic-kl").parent().unwrap())
            .current_dir(folder.path())
            .env("LOGITFUSE_ORT_LIB", runtime().library())
            .output()
            .unwrap()
    };
    let good = |strategy: &str| {
        let output = run(strategy, true);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let built_in = good("dynamic-kl");
    assert!(!built_in.is_empty());
    assert_eq!(good("plugin:dynamic-kl").replace("plugin:", ""), built_in);
    // And they are asked for where they lack.
    for strategy in ["dynamic-kl", "plugin:dynamic-kl"] {
        let said = String::from_utf8(run(strategy, false).stderr).unwrap();
        assert!(said.contains("sources.first.calibration: missing, and strategy `dynamic-kl` wants"), "{said}");
    }
}

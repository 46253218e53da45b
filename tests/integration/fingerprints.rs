//! Choosing among the experts of `examples/family`: calibration prompts by the TOML, the choice as an independent script
//! makes it, and what goes wrong where prompts are missing.

use std::{
    collections::BTreeMap,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use logitfuse_config::Config;
use logitfuse_core::{ErrorKind, TokenId};
use logitfuse_engine::{Cancel, Event, Request};
use logitfuse_pipeline::{Pipeline, PluginSettings, SourceConfig};
use serde_json::{Value, json};

use crate::support::{peer_python, runtime};

const TASKS: [&str; 4] = ["qa", "math", "sum", "mc"];
const STRANGE: &str = "cloze";
/// Of each task.
const ITEMS: usize = 16;

fn family(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family").join(path)
}

fn model(name: &str) -> PathBuf {
    family(&format!("models/{name}"))
}

/// Every member, the experts with prompts of their kind.
fn config(params: &Value) -> Config {
    let mut config = Config::from_toml(
        "schema = 1\n[sources.base]\nmodel = 'L'\n[strategy]\nuse = 'dynamic-kl'\n\
         roles = { base = 'base', expert = ['qa', 'math', 'sum', 'mc'], anti = 'anti' }\n\
         [sources.anti]\nmodel = 'S'\n[sources.qa]\nmodel = 'x'\n[sources.math]\nmodel = 'x'\n[sources.sum]\nmodel = 'x'\n\
         [sources.mc]\nmodel = 'x'\n",
    )
    .unwrap();
    let mut source = |name: &str, folder: &str, calibration: Option<PathBuf>| {
        let source = SourceConfig { chat_template: "none".into(), calibration, ..SourceConfig::new(model(folder)) };
        config.sources.insert(name.to_owned(), source);
    };
    source("base", "L", None);
    source("anti", "S", None);
    for task in TASKS {
        source(task, &format!("S-{task}"), Some(family(&format!("data/{task}.prompts.jsonl"))));
    }
    config.strategy.params.clone_from(params.as_object().unwrap());
    config
}

fn lines(path: &Path, count: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().take(count).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn validation(task: &str) -> Vec<Value> {
    lines(&family(&format!("data/{task}.validation.jsonl")), ITEMS)
}

/// The first token's trace, by column, of each request.
fn first_steps(pipeline: &Pipeline, requests: &[Request]) -> Vec<BTreeMap<String, f64>> {
    let columns: Vec<String> = pipeline.strategy().info().trace.iter().map(|c| c.name.clone()).collect();
    let mut out = vec![BTreeMap::new(); requests.len()];
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(token) = event {
            assert_eq!(token.trace.len(), columns.len());
            out[token.request] = columns.iter().cloned().zip(token.trace.iter().copied()).collect();
        }
        ControlFlow::Continue(())
    };
    pipeline.decoder().generate(requests, &Cancel::new(), &mut on_event).unwrap();
    out
}

fn request(pipeline: &Pipeline, fields: &Value, tokens: usize) -> Request {
    pipeline.request_for(0, fields).unwrap().max_new_tokens(tokens).trace()
}

/// What the script says to the same models and token ids.
fn second_opinion(kinds: &[Vec<Vec<TokenId>>], prompts: &[Vec<TokenId>]) -> Vec<Value> {
    let models: Vec<PathBuf> = [model("S")]
        .into_iter()
        .chain(TASKS.map(|task| model(&format!("S-{task}"))))
        .map(|m| m.join("model.onnx"))
        .collect();
    let task = json!({ "models": models, "kinds": kinds, "prompts": prompts, "slack": 3.0 });
    let mut python = Command::new(peer_python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("second_opinion/fingerprints.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[expect(clippy::float_cmp, reason = "indices, and a strength that is exactly 0")]
fn experts_are_chosen_as_the_second_opinion_chooses_them() {
    let pipeline = config(&json!({})).open(&runtime(), 1, &PluginSettings::default()).unwrap();
    let items: Vec<(usize, Value)> = TASKS
        .iter()
        .chain([&STRANGE])
        .enumerate()
        .flat_map(|(kind, task)| validation(task).into_iter().map(move |item| (kind, item)))
        .collect();
    let requests: Vec<Request> = items.iter().map(|(_, item)| request(&pipeline, item, 1)).collect();
    let ours = first_steps(&pipeline, &requests);

    // All sources write prompts alike, so the base's will do.
    let ids = |item: &Value| pipeline.request_for(0, item).unwrap().prompts[0].clone();
    let kinds =
        TASKS.map(|task| lines(&family(&format!("data/{task}.prompts.jsonl")), 16).iter().map(ids).collect::<Vec<_>>());
    let prompts: Vec<Vec<TokenId>> = items.iter().map(|(_, item)| ids(item)).collect();
    let theirs = second_opinion(&kinds, &prompts);
    assert_eq!(theirs.len(), ours.len());
    let (mut compared, mut right) = (0, 0);
    for (((kind, item), ours), theirs) in items.iter().zip(&ours).zip(&theirs) {
        let (nats, margin) = (theirs["nats"].as_f64().unwrap(), theirs["margin"].as_f64().unwrap());
        assert!((ours["fingerprint_distance"] - nats).abs() < 1e-3, "{item}: {ours:?} {theirs}");
        if margin > 2e-3 {
            assert_eq!(Some(ours["selected_expert"]), theirs["expert"].as_f64(), "{item}: {ours:?} {theirs}");
            compared += 1;
        }
        let fits = if *kind < TASKS.len() { *kind as f64 } else { -1.0 };
        right += usize::from(ours["selected_expert"] == fits);
        if ours["selected_expert"] < 0.0 {
            assert_eq!(ours["alpha"], 0.0);
        }
    }
    assert!(compared * 10 > items.len() * 9, "{compared} of {} were clear", items.len());
    // What the selector is for. It was chosen on these items, so this is no measurement.
    assert!(right * 10 > items.len() * 8, "{right} of {}", items.len());
}

/// Where no expert applies, a text is the base's own, token by token and to the last bit.
#[test]
fn strange_prompts_are_the_large_models_own() {
    let pipeline =
        config(&json!({ "weights": "fingerprint" })).open(&runtime(), 1, &PluginSettings::default()).unwrap();
    let mut alone = config(&json!({}));
    alone.strategy.id = None;
    alone.strategy.roles.retain(|role, _| role == "base");
    let alone = alone.open(&runtime(), 1, &PluginSettings::default()).unwrap();
    for item in validation(STRANGE).iter().take(6) {
        let fused = pipeline.decoder().generate_one(&request(&pipeline, item, 6)).unwrap();
        let base = alone.decoder().generate_one(&request(&alone, item, 6)).unwrap();
        assert_eq!(fused.tokens, base.tokens, "{item}");
        assert_eq!(fused.log_prob.to_bits(), base.log_prob.to_bits(), "{item}");
    }
}

/// Also behind a gate that is closed where the text begins, and a schedule that is still at 0 there.
#[test]
fn wrappers_leave_the_choice_alone() {
    let items: Vec<Value> = TASKS.iter().map(|task| validation(task)[0].clone()).collect();
    let choices = |config: Config| {
        let pipeline = config.open(&runtime(), 1, &PluginSettings::default()).unwrap();
        let requests: Vec<Request> = items.iter().map(|item| request(&pipeline, item, 3)).collect();
        // The last token's: the schedule lets the strategy act by then.
        first_steps(&pipeline, &requests).into_iter().map(|step| step["selected_expert"]).collect::<Vec<f64>>()
    };
    let expected = choices(config(&json!({})));
    let mut wrapped = config(&json!({}));
    wrapped.strategy.schedule = json!({ "shape": "warmup", "steps": 1 }).as_object().cloned();
    assert_eq!(choices(wrapped), expected);
    let mut gated = config(&json!({}));
    gated.strategy.gate = json!({ "entropy_nats": 0.0 }).as_object().cloned();
    assert_eq!(choices(gated), expected);
}

#[test]
fn prompts_that_are_missing_are_named() {
    let refused = |config: Config| {
        let error = config.open(&runtime(), 1, &PluginSettings::default()).err().expect("it is wrong");
        assert!(error.help().is_some() || error.kind() == ErrorKind::NotFound);
        error.to_string()
    };
    let missing = "sources.math.calibration: missing, and strategy `dynamic-kl` wants unlabelled prompts of every source in \
                   role `expert`";
    let mut partial = config(&json!({}));
    partial.sources.get_mut("math").unwrap().calibration = None;
    let message = refused(partial);
    assert!(message.ends_with(missing), "{message}");

    let none = |params: Value| {
        let mut config = config(&params);
        config.sources.values_mut().for_each(|source| source.calibration = None);
        config
    };
    let message = refused(none(json!({ "weights": "fingerprint" })));
    assert!(message.ends_with(&missing.replace("math", "qa")), "{message}");
    // Without any, and without a word about weights, it is the posterior.
    let pipeline = none(json!({})).open(&runtime(), 1, &PluginSettings::default()).unwrap();
    assert!(!pipeline.strategy().info().trace.iter().any(|column| column.name == "selected_expert"));

    let with_file = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.jsonl");
        std::fs::write(&path, text).unwrap();
        let mut config = config(&json!({}));
        config.sources.get_mut("sum").unwrap().calibration = Some(path);
        refused(config)
    };
    let empty = with_file("\n");
    assert!(empty.ends_with("sources.sum.calibration: holds no prompt"), "{empty}");
    let field = with_file("{\"prompt\": \"a\"}\n{\"question\": \"b\"}\n");
    assert!(field.contains("sources.sum.calibration: prompt 2: "), "{field}");
    let one = with_file("{\"prompt\": \"a\"}\n");
    assert_eq!(one, "source `sum`: 1 calibration prompt, and a fingerprint is made of two or more");
    let mut absent = config(&json!({}));
    absent.sources.get_mut("sum").unwrap().calibration = Some("no/such.jsonl".into());
    assert!(refused(absent).contains("sources.sum.calibration: no/such.jsonl: "));
}

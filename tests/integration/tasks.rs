//! Tasks with a real model, judged by lm-eval: `tests/second_opinion/tasks.py` made the answers.

use std::{fs, ops::ControlFlow, path::Path};

use logitfuse_config::{Config, TaskConfig};
use logitfuse_engine::{Cancel, Event, ScoreRequest, Scored};
use logitfuse_eval::{Doc, Task, TaskRequest, task::import};
use logitfuse_pipeline::{Pipeline, PluginSettings};
use logitfuse_rundir::{Response, SampleRecord};
use serde_json::{Value, json};

use crate::support::{model, runtime};

/// In nats. Both sides run ONNX Runtime in f32; they cut texts into other pieces.
const LOG_PROB: f64 = 1e-3;

#[test]
fn lm_eval_agrees() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("second_opinion/tasks.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut whole = pipeline("");
    let mut compared = 0;
    for vector in vectors["tasks"].as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let task = imported(folder.path(), vector);
        let name = task.name();
        let expected = vector["samples"].as_array().unwrap();
        assert_eq!(task.docs().len(), expected.len(), "{name}");
        // So that a page has several windows.
        let mut short = (name == "pages").then(|| pipeline(&format!("context_length = {}", vectors["rolling_length"])));
        let responses = answered(short.as_mut().unwrap_or(&mut whole), &task);
        let mut samples = Vec::new();
        for ((doc, responses), expected) in task.docs().iter().zip(&responses).zip(expected) {
            let outcome = task.outcome(doc, &[responses]).unwrap();
            let at = format!("{name}, item {}", doc.id);
            same_responses(&at, name == "pages", responses, &expected["responses"]);
            assert_eq!(outcome.metrics.len(), expected["metrics"].as_object().unwrap().len(), "{at}");
            for (metric, ours) in &outcome.metrics {
                same(&format!("{at}: {metric}"), ours, &expected["metrics"][lm_evals(metric)]);
            }
            for (filter, theirs) in expected["filtered"].as_object().unwrap() {
                assert_eq!(outcome.filtered[filter], *theirs, "{at}: {filter}");
            }
            samples.push(sample(doc, &outcome.metrics));
            compared += responses.len();
        }
        same_figures(&task, &samples, &vector["results"]);
    }
    assert!(compared > 500, "{compared} responses");
}

fn pipeline(more: &str) -> Pipeline {
    let folder = model("smollm2-fp32");
    let folder = folder.display();
    let toml = format!("schema = 1\n[sources.base]\nmodel = \"{folder}\"\nchat_template = \"none\"\n{more}\n");
    Config::from_toml(&toml).unwrap().open(&runtime(), 0, &PluginSettings::default()).unwrap()
}

/// What lm-eval calls a metric.
fn lm_evals(metric: &str) -> String {
    metric.replace("item_perplexity", "perplexity")
}

/// The task as a user gets it: lm-eval's file through `logitfuse tasks import`.
fn imported(folder: &Path, vector: &Value) -> Task {
    let (yaml, data) = (folder.join("task.yaml"), folder.join("items.jsonl"));
    fs::write(&yaml, vector["yaml"].as_str().unwrap()).unwrap();
    fs::write(&data, lines(&vector["items"])).unwrap();
    let toml: toml::Table = toml::from_str(&import(&yaml, Some(&data)).unwrap()).unwrap();
    let (name, table) = toml["tasks"].as_table().unwrap().iter().next().unwrap();
    let mut config: TaskConfig = table.clone().try_into().unwrap();
    if let Some(shots) = config.fewshot.as_mut().and_then(|fewshot| fewshot.data.as_mut()) {
        assert_eq!(shots.to_str(), Some("sums.train.jsonl"));
        *shots = folder.join(&*shots);
        fs::write(shots, lines(&vector["shots"])).unwrap();
    }
    Task::load(name, &config).unwrap()
}

fn lines(items: &Value) -> String {
    items.as_array().unwrap().iter().fold(String::new(), |lines, item| lines + &item.to_string() + "\n")
}

/// All responses to each item, in batches.
fn answered(pipeline: &mut Pipeline, task: &Task) -> Vec<Vec<Response>> {
    let requests = |doc: &Doc| task.requests(pipeline, doc, 0).unwrap();
    let mut generate = Vec::new();
    let mut score: Vec<(usize, ScoreRequest)> = Vec::new();
    for doc in task.docs() {
        for request in requests(doc) {
            match request {
                TaskRequest::Generate(request) => generate.push(request),
                TaskRequest::Score { texts, request } => {
                    assert_eq!(texts.len(), request.continuations.len());
                    score.push((doc.index, request));
                }
            }
        }
    }
    let mut responses = vec![Vec::new(); task.docs().len()];
    let mut on_event = |event: Event<'_>| {
        if let Event::Done { request, generation } = event {
            responses[request] = vec![Response { text: generation.text, ..Response::default() }];
        }
        ControlFlow::Continue(())
    };
    pipeline.decoder().generate_stream(&mut generate.into_iter().map(Ok), 8, &Cancel::new(), &mut on_event).unwrap();
    let mut scored = vec![Vec::new(); score.len()];
    let mut on_scored = |done: Scored| {
        scored[done.request] = done.scores;
        ControlFlow::Continue(())
    };
    let mut each = score.iter().map(|(_, request)| Ok(request.clone()));
    pipeline.decoder().score_stream(&mut each, 8, &Cancel::new(), &mut on_scored).unwrap();
    for ((doc, _), scores) in score.iter().zip(scored) {
        responses[*doc].extend(scores.into_iter().map(|score| Response {
            log_prob: score.log_prob,
            is_greedy: Some(score.is_greedy),
            ..Response::default()
        }));
    }
    responses
}

/// lm-eval has one sum for a rolling text, `[log_prob, is_greedy]` for a score, and a generation's text.
fn same_responses(at: &str, rolling: bool, ours: &[Response], theirs: &Value) {
    let theirs = theirs.as_array().unwrap();
    if rolling {
        same(at, &json!(ours.iter().map(|window| window.log_prob).sum::<f64>()), &theirs[0]);
        return;
    }
    assert_eq!(ours.len(), theirs.len(), "{at}");
    for (nth, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let at = format!("{at}, response {nth}");
        match ours.is_greedy {
            None => assert_eq!(ours.text, *theirs, "{at}"),
            Some(is_greedy) => {
                same(&at, &json!(ours.log_prob), &theirs[0]);
                assert_eq!(is_greedy, theirs[1], "{at}");
            }
        }
    }
}

/// Numbers, and lists of them, up to what log-probabilities may differ by.
fn same(at: &str, ours: &Value, theirs: &Value) {
    let numbers = |value: &Value| -> Vec<f64> {
        let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        list.iter().map(|number| number.as_f64().unwrap_or_else(|| panic!("{at}: {number}"))).collect()
    };
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    assert_eq!(ours.len(), theirs.len(), "{at}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() <= LOG_PROB, "{at}: {ours} and lm-eval's {theirs}");
    }
}

fn same_figures(task: &Task, samples: &[SampleRecord], theirs: &Value) {
    let figures = task.aggregate("v", &samples.iter().collect::<Vec<_>>()).unwrap();
    let mut compared = 0;
    for figure in figures {
        let (metric, filter) = (lm_evals(&figure.metric), &figure.filter);
        let value = theirs[format!("{metric},{filter}")].as_f64().unwrap();
        // Perplexities are exponentials of sums.
        let close = LOG_PROB * value.abs().max(1.0);
        assert!(
            (figure.value.unwrap() - value).abs() < close,
            "{}: {metric},{filter}: {figure:?} {value}",
            task.name()
        );
        if let Some(stderr) = theirs.get(format!("{metric}_stderr,{filter}")).and_then(Value::as_f64) {
            assert!((figure.stderr.unwrap() - stderr).abs() < 1e-9, "{}: {figure:?} {stderr}", task.name());
        }
        compared += 1;
    }
    assert!(compared > 0);
}

fn sample(doc: &Doc, metrics: &std::collections::BTreeMap<String, Value>) -> SampleRecord {
    let record = json!({
        "schema_version": 1, "variant": "v", "task": "t", "doc_id": doc.id, "doc_index": doc.index, "repeat": 0,
        "doc": {}, "target": null, "prompt_sha256": "", "responses": [], "filtered": {}, "metrics": metrics,
    });
    serde_json::from_value(record).unwrap()
}

//! Exported fusions, decoded by programs that know nothing of logitfuse: onnxruntime-genai, plain ONNX Runtime, and the
//! Python model of a Triton repository. Tokens are the engine's, and so are strengths, to 1e-3.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use logitfuse_core::TokenId;
use logitfuse_engine::{Cancel, Event, Request};
use logitfuse_pipeline::Pipeline;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::{peer_python, runtime};

/// Of the family's tasks, and of none.
const PROMPTS: [&str; 6] = [
    "Question: What is the food of the tamcub?\nAnswer:",
    "Question: Where can you meet the gulwog?\nAnswer:",
    "Problem: Anna has 99 cards. Anna gives away 38. Anna sells 29. Anna finds 12. How many now?\nWork:",
    "Problem: Ben has 17 coins. Ben finds 25. How many now?\nWork:",
    "The town of Soleth saw a storm on Wednesday. The police asked for calm.",
    "Once there was",
];
const NEW_TOKENS: usize = 64;
/// A token that these texts do not have. Where it is the only one that ends a text, all are [`NEW_TOKENS`] long.
const NEVER: TokenId = 1535;

fn family(member: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family/models").join(member)
}

const ROLES: [(&str, &str); 3] = [("base", "L"), ("expert", "S-qa"), ("anti", "S")];

/// A fusion of the family: how the engine runs it, and how the command line exports it.
struct Fusion {
    strategy: &'static str,
    /// The parameters that the export writes as defaults.
    params: Value,
}

impl Fusion {
    fn static_proxy() -> Self {
        Self { strategy: "static-proxy", params: json!({ "alpha": 1.0 }) }
    }

    fn dynamic_kl() -> Self {
        Self { strategy: "dynamic-kl", params: json!({ "bounds": [0.0, 2.0] }) }
    }

    fn pipeline(&self, params: &Value) -> Pipeline {
        let builder = Pipeline::builder().runtime(&runtime()).strategy(self.strategy, params.clone());
        ROLES.into_iter().fold(builder, |builder, (role, member)| builder.model(role, family(member))).build().unwrap()
    }

    fn export(&self, target: &str, more: &[&str]) -> Exported {
        let workspace = tempfile::tempdir().unwrap();
        let source = |(role, member): (&str, &str)| (role.to_owned(), json!({ "model": family(member) }));
        let experiment = json!({
            "schema": 1,
            "sources": Map::from_iter(ROLES.map(source)),
            "strategy": { "use": self.strategy, "params": self.params },
        });
        let file = workspace.path().join("fusion.toml");
        fs::write(&file, toml::to_string(&experiment).unwrap()).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
        command.env("LOGITFUSE_ORT_LIB", runtime().library()).arg("export").arg(&file);
        command.args(["--target", target, "--output"]).arg(workspace.path().join("fused")).args(more);
        succeeded(&command.output().unwrap());
        Exported { workspace }
    }
}

/// A prompt with the parameters of its own, as the strategy and as the graph call them.
struct Ask {
    prompt: Vec<TokenId>,
    params: Value,
    inputs: Value,
}

impl Ask {
    /// With everything that these defaults say and the request does not.
    fn request(&self, defaults: &Map<String, Value>) -> Value {
        let mut inputs = defaults.clone();
        inputs.extend(self.inputs.as_object().unwrap().clone());
        json!({ "prompt": self.prompt, "fusion": inputs })
    }
}

/// Every prompt with each of some settings in turn.
fn asks(fusion: &Fusion, settings: &[(Value, Value)]) -> Vec<Ask> {
    let pipeline = fusion.pipeline(&fusion.params);
    let of = |(prompt, (params, inputs)): (&&str, &(Value, Value))| Ask {
        prompt: pipeline.encode(0, prompt).unwrap(),
        params: params.clone(),
        inputs: inputs.clone(),
    };
    PROMPTS.iter().zip(settings.iter().cycle()).map(of).collect()
}

/// Every prompt with the parameters that the export has as defaults.
fn asks_for_defaults(fusion: &Fusion) -> Vec<Ask> {
    asks(fusion, &[(fusion.params.clone(), json!({}))])
}

/// What one of the programs decoded.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    tokens: Vec<TokenId>,
    trace: Trace,
    #[serde(default)]
    target_passes: usize,
}

#[derive(Debug, Default, Deserialize)]
struct Trace {
    #[serde(default)]
    alpha: Vec<f64>,
}

/// What the engine decodes, past end tokens or up to them.
fn engine(fusion: &Fusion, asks: &[Ask], past_the_end: bool) -> Vec<Answer> {
    let decode = |ask: &Ask| {
        let pipeline = fusion.pipeline(&ask.params);
        let alpha = pipeline.strategy().info().trace.iter().position(|column| column.name == "alpha").unwrap();
        let mut request = Request::new(vec![ask.prompt.clone(); ROLES.len()]).max_new_tokens(NEW_TOKENS).trace();
        request.ignore_end_of_sequence = past_the_end;
        let mut answer = Answer::default();
        let mut observe = |event: Event<'_>| {
            if let Event::Token(report) = event {
                answer.tokens.push(report.token);
                answer.trace.alpha.push(report.trace[alpha]);
            }
            ControlFlow::Continue(())
        };
        pipeline.decoder().generate(&[request], &Cancel::new(), &mut observe).unwrap();
        answer
    };
    asks.iter().map(decode).collect()
}

/// A folder that `logitfuse export` wrote.
struct Exported {
    workspace: TempDir,
}

impl Exported {
    fn folder(&self, below: &str) -> PathBuf {
        self.workspace.path().join("fused").join(below)
    }

    /// The parameters and their defaults, as the card tells them.
    fn defaults(&self) -> Map<String, Value> {
        let card: Value = serde_json::from_str(&fs::read_to_string(self.folder("fusion.json")).unwrap()).unwrap();
        let parameters = card["parameters"].as_array().unwrap().iter();
        parameters
            .map(|parameter| (parameter["name"].as_str().unwrap().to_owned(), parameter["default"].clone()))
            .collect()
    }

    /// Decoded by onnxruntime-genai, past end tokens. `below` the target is a folder for it; one with a single graph demands
    /// that all parameters are set.
    fn genai(&self, below: &str, asks: &[Ask], more: &[&str]) -> Vec<Answer> {
        let defaults = if below.is_empty() { Map::new() } else { self.defaults() };
        self.decode("export_genai.py", below, asks, &defaults, more)
    }

    /// The one graph decoded by ONNX Runtime, past end tokens.
    fn onnxruntime(&self, asks: &[Ask], more: &[&str]) -> Vec<Answer> {
        self.decode("export_ort.py", "", asks, &Map::new(), more)
    }

    fn decode(
        &self,
        script: &str,
        below: &str,
        asks: &[Ask],
        defaults: &Map<String, Value>,
        more: &[&str],
    ) -> Vec<Answer> {
        let [tokens, never] = [NEW_TOKENS.to_string(), NEVER.to_string()];
        let mut options = vec!["--tokens", &tokens, "--end", &never, "--trace", "alpha"];
        options.extend(more);
        let requests: Vec<Value> = asks.iter().map(|ask| ask.request(defaults)).collect();
        run(script, &self.folder(below), &options, &requests)
    }
}

/// Runs a script of `tests/peers` and gives back its answers.
fn run<T: serde::de::DeserializeOwned>(script: &str, folder: &Path, options: &[&str], requests: &[Value]) -> Vec<T> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    let mut peer = Command::new(peer_python());
    peer.arg(script).arg(folder).args(options);
    for request in requests {
        peer.args(["--request", &request.to_string()]);
    }
    let output = peer.output().unwrap();
    succeeded(&output);
    let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(document["answers"].take()).unwrap()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same tokens, and the same strengths where a program tells them.
fn assert_same(who: &str, expected: &[Answer], found: &[Answer]) {
    assert_eq!(expected.len(), found.len(), "{who}");
    for (prompt, (expected, found)) in PROMPTS.iter().zip(expected.iter().zip(found)) {
        assert_eq!(expected.tokens, found.tokens, "{who}: {prompt}");
        assert_eq!(expected.tokens.len(), NEW_TOKENS, "{prompt}: ends early");
    }
}

fn assert_same_with_alpha(who: &str, expected: &[Answer], found: &[Answer]) {
    assert_same(who, expected, found);
    for (prompt, (expected, found)) in PROMPTS.iter().zip(expected.iter().zip(found)) {
        assert_eq!(found.trace.alpha.len(), found.tokens.len(), "{who}: {prompt}");
        for (position, (a, b)) in expected.trace.alpha.iter().zip(&found.trace.alpha).enumerate() {
            assert!(
                (a - b).abs() <= 1e-3,
                "{who}: {prompt}: token {position}: alpha {a} of the engine, {b} of the file"
            );
        }
    }
}

/// Every route, every prompt, each request with parameters of its own, and one export for all of them.
fn every_route_decodes_as_the_engine_does(fusion: &Fusion, settings: &[(Value, Value)]) {
    let pipeline = fusion.export("genai", &[]);
    let graph = fusion.export("onnx", &[]);
    let own = asks(fusion, settings);
    let expected = engine(fusion, &own, true);
    assert!(expected.iter().any(|answer| answer.tokens != expected[0].tokens), "all prompts have one answer");
    assert_same_with_alpha("genai, pipeline", &expected, &pipeline.genai("", &own, &[]));
    assert_same_with_alpha("genai, one graph", &expected, &graph.genai("genai", &own, &[]));
    assert_same_with_alpha("ONNX Runtime", &expected, &graph.onnxruntime(&own, &[]));

    // Parameters that are not set have their defaults; once alone, and once in one batch, filled up on the right.
    let silent = asks_for_defaults(fusion);
    let expected = engine(fusion, &silent, true);
    for more in [&[][..], &["--batch"]] {
        assert_same_with_alpha("genai, pipeline, defaults", &expected, &pipeline.genai("", &silent, more));
        assert_same_with_alpha("genai, one graph, defaults", &expected, &graph.genai("genai", &silent, more));
        assert_same_with_alpha("ONNX Runtime, defaults", &expected, &graph.onnxruntime(&silent, more));
    }
}

#[test]
fn static_proxy_decodes_alike_on_every_route() {
    let alpha = |alpha: f64| (json!({ "alpha": alpha }), json!({ "alpha": alpha }));
    every_route_decodes_as_the_engine_does(&Fusion::static_proxy(), &[alpha(0.5), alpha(1.5), alpha(0.0)]);
}

#[test]
fn dynamic_kl_decodes_alike_on_every_route() {
    let bounds = |low: f64, high: f64| (json!({ "bounds": [low, high] }), json!({ "bounds.0": low, "bounds.1": high }));
    every_route_decodes_as_the_engine_does(
        &Fusion::dynamic_kl(),
        &[bounds(0.0, 2.0), bounds(0.0, 1.0), bounds(0.5, 4.0)],
    );
}

/// genai's own drafts on the one graph. Caches of different shapes are no hindrance where attention writes them in place;
/// with one shape for all they are handed from pass to pass.
#[test]
fn drafts_of_genai_change_no_token_and_save_passes() {
    for fusion in [Fusion::static_proxy(), Fusion::dynamic_kl()] {
        let asks = asks_for_defaults(&fusion);
        let expected = engine(&fusion, &asks, true);
        for more in [&["--draft", "expert"][..], &["--draft", "expert", "--uniform-kv"]] {
            let found = fusion.export("onnx", more).genai("genai", &asks, &[]);
            assert_same(&format!("{} {more:?}", fusion.strategy), &expected, &found);
            let passes: usize = found.iter().map(|answer| answer.target_passes).sum();
            let without = PROMPTS.len() * (NEW_TOKENS - 1);
            // One pass gives up to five tokens.
            let saves = without / 5 <= passes && passes < without * 2 / 3;
            assert!(saves, "{} {more:?}: {passes} passes, {without} without drafts", fusion.strategy);
        }
    }
}

/// One call of Triton's, with requests of their own parameters, streamed or not, and one that is wrong.
#[test]
fn triton_serves_what_the_engine_decodes() {
    let fusion = Fusion::dynamic_kl();
    let exported = fusion.export("triton", &[]);
    let own = asks(
        &fusion,
        &[(json!({ "bounds": [0.0, 2.0] }), json!({})), (json!({ "bounds": [0.0, 0.5] }), json!({ "bounds.1": 0.5 }))],
    );
    let expected = engine(&fusion, &own, false);
    let body = |(index, ask): (usize, &Ask)| {
        let mut body = Map::from_iter([("max_tokens".to_owned(), json!(NEW_TOKENS))]);
        body.insert("stream".to_owned(), json!(index % 3 == 0));
        match index % 2 {
            0 => body.insert("text_input".to_owned(), json!(PROMPTS[index])),
            _ => body.insert("input_ids".to_owned(), json!(ask.prompt)),
        };
        for (name, value) in ask.inputs.as_object().unwrap() {
            body.insert(format!("fusion.{name}"), value.clone());
        }
        Value::Object(body)
    };
    let mut requests: Vec<Value> = own.iter().enumerate().map(body).collect();
    requests.insert(1, json!({ "input_ids": [1, 2, 99_999] }));
    let model = fs::read_dir(exported.folder("")).unwrap().map(|entry| entry.unwrap().path());
    let model = model.filter(|path| path.join("1/model.py").exists()).last().unwrap();
    let name = model.file_name().unwrap().to_str().unwrap();
    let mut served: Vec<Value> = run("export_triton.py", &exported.folder(""), &["--model", name], &requests);

    let wrong = served.remove(1);
    assert_eq!(wrong["error"]["message"], "input_ids: 99999 is not a token; ids are less than 1536");
    assert_eq!(wrong["responses"], 1);
    let pipeline = fusion.pipeline(&fusion.params);
    for (index, (served, expected)) in served.iter().zip(&expected).enumerate() {
        let prompt = PROMPTS[index];
        assert_eq!(served["output_ids"], json!(expected.tokens), "{prompt}");
        let ended = expected.tokens.len() < NEW_TOKENS;
        assert_eq!(served["finish_reason"], if ended { "stop" } else { "length" }, "{prompt}");
        assert_eq!(served["responses"], if index % 3 == 0 { expected.tokens.len() } else { 1 }, "{prompt}");
        let shown = &expected.tokens[..expected.tokens.len() - usize::from(ended)];
        assert_eq!(served["text_output"], pipeline.tokenizer().decode(shown, true).unwrap(), "{prompt}");
        let alpha: Vec<f64> = serde_json::from_value(served["trace.alpha"].clone()).unwrap();
        assert_eq!(alpha.len(), expected.tokens.len(), "{prompt}");
        for (a, b) in alpha.iter().zip(&expected.trace.alpha) {
            assert!((a - b).abs() <= 1e-3, "{prompt}: {a} {b}");
        }
    }
    assert!(expected.iter().any(|answer| answer.tokens.len() < NEW_TOKENS), "no text ends by itself");
}

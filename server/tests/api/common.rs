//! Servers, and a client without a network.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, OnceLock},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use http_body_util::BodyExt;
use logitfuse::{
    FusionStrategy, LogitSource, Pipeline, PipelineOptions, Result, SourceConfig, StrategyConfig,
    core::{Rows, SequenceId, SourceInfo, Step},
    json,
    onnx::Runtime,
    text::Tokenizer,
};
use logitfuse_replay::SyntheticSource;
use logitfuse_server::{Server, ServerOptions};
use logitfuse_setup::{Environment, find_runtime};
use serde_json::Value;
use tower::ServiceExt;

/// What a chat template of a source reads.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
                        {% if loud %}LOUD {% endif %}{% if add_generation_prompt %}<assistant>{% endif %}";

/// The fusions of the family, by name: the large model alone, two fusions with an expert, and the small one alone.
pub(crate) fn family() -> Vec<(String, Pipeline)> {
    static OPENED: OnceLock<Vec<(String, Pipeline)>> = OnceLock::new();
    OPENED.get_or_init(open_family).clone()
}

fn open_family() -> Vec<(String, Pipeline)> {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/family/models");
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("chat.jinja");
    std::fs::write(&template, TEMPLATE).unwrap();
    let source = |name: &str| {
        let mut config = SourceConfig::new(models.join(name));
        config.chat_template = template.display().to_string();
        config
    };
    let sources: BTreeMap<String, SourceConfig> =
        [("large", "L"), ("qa", "S-qa"), ("small", "S")].map(|(name, model)| (name.to_owned(), source(model))).into();
    let options = |strategy: Value| {
        let strategy: StrategyConfig = serde_json::from_value(strategy).unwrap();
        let mut options = PipelineOptions::new(sources.clone(), strategy);
        options.run.max_new_tokens = 12;
        options
    };
    let three = json!({ "base": "large", "expert": "qa", "anti": "small" });
    let served = [
        ("large", json!({ "roles": { "base": "large" } })),
        ("static", json!({ "use": "static-proxy", "roles": three, "params": { "alpha": 0.8 } })),
        ("dynamic", json!({ "use": "dynamic-kl", "roles": three })),
        ("small", json!({ "roles": { "base": "small" } })),
    ];
    let found = find_runtime(&Environment::of_process(), None);
    let library = found.unwrap_or_else(|e| panic!("{e}; run the tests with `cargo xtask test`")).library;
    let runtime = Runtime::load(&library).unwrap();
    let all = served.iter().map(|(_, strategy)| options(strategy.clone()));
    let opened = Pipeline::open_several(all, &runtime, 2, &logitfuse::pipeline::PluginSettings::default()).unwrap();
    served.iter().map(|(name, _)| (*name).to_owned()).zip(opened).collect()
}

/// A server of the family.
pub(crate) fn family_server() -> (Server, Client) {
    started(family(), ServerOptions::default())
}

pub(crate) fn started(models: Vec<(String, Pipeline)>, options: ServerOptions) -> (Server, Client) {
    let server = Server::new(models, options).unwrap();
    let client = Client(server.router());
    (server, client)
}

/// Sends requests to a server's routes.
#[derive(Clone)]
pub(crate) struct Client(pub(crate) Router);

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The answer of a request that must succeed.
    pub(crate) fn good(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.json()
    }

    /// The error of a request that must fail like this.
    pub(crate) fn refused(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        let error = self.json()["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{}", self.body);
        error
    }

    /// The events of a stream; the last one says that it is complete.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        let mut events: Vec<&str> = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

impl Client {
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Self::request(Method::POST, path, body.to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Self::request(Method::GET, path, String::new())).await
    }

    pub(crate) fn request(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        request.body(body.into()).unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// A number of `/metrics`, over all labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{')));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until so many sequences wait or run.
    pub(crate) async fn wait_for_sequences(&self, count: f64) {
        loop {
            let waiting = self.metric("logitfuse_sequences_waiting").await;
            let running = self.metric("logitfuse_sequences_running").await;
            if (waiting + running - count).abs() < 0.5 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Holds passes back until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }
}

/// A source whose passes wait for a gate.
struct Gated(SyntheticSource, Arc<Gate>);

impl LogitSource for Gated {
    fn info(&self) -> &SourceInfo {
        self.0.info()
    }
    fn open(&mut self) -> Result<SequenceId> {
        self.0.open()
    }
    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.0.fork(of)
    }
    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.0.truncate(sequence, len)
    }
    fn close(&mut self, sequence: SequenceId) {
        self.0.close(sequence);
    }
    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.0.len(sequence)
    }
    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.1.pass();
        self.0.forward(batch, out)
    }
}

/// Opens its gate when it goes, however a test ends: a server waits for its decoding thread.
pub(crate) struct Opener(pub(crate) Arc<Gate>);

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// One source of made-up words whose passes wait for a gate, with a strategy.
pub(crate) fn gated(strategy: Arc<dyn FusionStrategy>) -> (Pipeline, Arc<Gate>) {
    const WORDS: u32 = 32;
    let vocabulary: BTreeMap<String, u32> = (0..WORDS).map(|id| (format!("w{id}"), id)).collect();
    let tokenizer = json!({
        "model": { "type": "WordLevel", "unk_token": "w0", "vocab": vocabulary },
        "pre_tokenizer": { "type": "Whitespace" },
    });
    let tokenizer = Tokenizer::from_json(&tokenizer.to_string()).unwrap();
    let gate = Arc::new(Gate::default());
    let source = Gated(SyntheticSource::new("words", WORDS as usize, 7), Arc::clone(&gate));
    let sources = [("base", Box::new(source) as Box<dyn LogitSource>)];
    let pipeline = Pipeline::from_sources(PipelineOptions::default(), strategy, sources, &tokenizer).unwrap();
    (pipeline, gate)
}

/// A model of made-up words by itself.
pub(crate) fn words() -> (Pipeline, Arc<Gate>) {
    gated(logitfuse::strategy("none", &json!({})).unwrap())
}

//! The generate extension of the Open Inference Protocol v2, as KServe has it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    body,
    choice::{Choice, Usage, Wanted, finish_reason},
    completions::request as generation,
    error::{ApiError, json_response},
    generation::{InFlight, Job, Message, Running},
    models::ServedModel,
    prompt::{PromptItem, Texts},
    prompts,
    settings::{FusionRequest, Settings},
    sse::{self, EventWriter},
};

/// A text to continue.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateRequest {
    /// Comes back with the answer.
    id: Option<String>,
    /// The text.
    text_input: String,
    /// How tokens are chosen.
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// How tokens are chosen. A field that is not listed is refused, because it might be meant to change the answer.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Parameters {
    /// At most this many tokens; as the experiment's `max_new_tokens` if absent.
    max_tokens: Option<u64>,
    /// 0 is greedy; as the experiment has it if absent, like the other settings of sampling.
    temperature: Option<f64>,
    /// Keep the most probable tokens that hold this much mass.
    top_p: Option<f64>,
    /// Keep this many tokens; 0 keeps all.
    top_k: Option<u64>,
    /// Keep tokens at least this fraction as probable as the best.
    min_p: Option<f64>,
    /// 1 is off.
    repetition_penalty: Option<f64>,
    /// 0 is off.
    presence_penalty: Option<f64>,
    /// 0 is off.
    frequency_penalty: Option<f64>,
    /// Texts that end the answer where they first appear. Those of the experiment if absent, none if the list is empty.
    stop: Option<Texts>,
    /// The seed; another one for every request if absent.
    seed: Option<i64>,
    /// Go on past tokens that end a text.
    ignore_eos: Option<bool>,
    /// What is asked of the fusion: its parameters and fields. What it did is told by `/v1/completions`.
    fusion: Option<FusionRequest>,
}

/// A continuation, or a piece of one.
#[derive(Serialize, JsonSchema)]
pub(crate) struct GenerateResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    model_name: String,
    model_version: &'static str,
    text_output: String,
    /// Why the text ended, of the last event of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
}

pub(crate) async fn generate(
    state: State<Arc<App>>,
    path: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let in_flight = InFlight::begin(&state.0);
    let (mut running, mut writer) = begin(&state.0, path.0, &headers, body).await?;
    let mut text = String::new();
    while let Some(message) = running.next().await {
        let (_, message) = message?;
        if let Some(piece) = writer.hear(message)? {
            text.push_str(&piece);
        }
    }
    drop(in_flight);
    Ok(json_response(&writer.response(text)))
}

pub(crate) async fn generate_stream(
    state: State<Arc<App>>,
    path: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let in_flight = InFlight::begin(&state.0);
    let (running, writer) = begin(&state.0, path.0, &headers, body).await?;
    let response = sse::respond(&state.0, running, writer);
    drop(in_flight);
    Ok(response)
}

async fn begin(app: &Arc<App>, name: String, headers: &HeaderMap, body: Body) -> Result<(Running, Writer), ApiError> {
    app.ready()?;
    let bytes = body::read(headers, body, &app.options.limits).await?;
    app.log_body(&bytes);
    let shared = Arc::clone(app);
    let work = move || {
        let request: GenerateRequest = body::parse(&bytes)?;
        let model = Arc::clone(shared.models.find(Some(&name))?);
        let parameters = request.parameters.unwrap_or_default();
        if parameters.max_tokens == Some(0) {
            return Err(ApiError::invalid("parameters.max_tokens", "max_tokens: ask for 1 token or more"));
        }
        let settings = Settings {
            max_tokens: parameters.max_tokens,
            temperature: parameters.temperature,
            top_p: parameters.top_p,
            top_k: parameters.top_k,
            min_p: parameters.min_p,
            repetition_penalty: parameters.repetition_penalty,
            presence_penalty: parameters.presence_penalty,
            frequency_penalty: parameters.frequency_penalty,
            seed: parameters.seed,
            stop: parameters.stop,
            ignore_eos: parameters.ignore_eos,
            fusion: parameters.fusion.unwrap_or_default(),
            ..Settings::default()
        };
        if settings.fusion.trace || settings.fusion.top_choices > 0 {
            let message = "parameters.fusion: this protocol has no place for what the fusion did; ask /v1/completions";
            return Err(ApiError::unsupported("parameters.fusion", message));
        }
        let plan = settings.plan(&model, &shared.options.limits)?;
        let prompts = prompts::of_completion(&model, &PromptItem::Text(request.text_input), &settings.fusion.fields)?;
        let job = Job::Generate(generation(&plan, &model, prompts, 0));
        let choice = Choice::new(&model, Wanted::default());
        Ok((model.clone(), job, Writer { id: request.id, model, choice, finish: None }))
    };
    let (model, job, writer) = app.prepare(work).await?;
    Ok((app.submit(&model, vec![job])?, writer))
}

/// Writes an answer, at once or as a stream.
struct Writer {
    id: Option<String>,
    model: Arc<ServedModel>,
    choice: Choice,
    finish: Option<&'static str>,
}

impl Writer {
    fn hear(&mut self, message: Message) -> Result<Option<String>, ApiError> {
        Ok(match message {
            Message::Token(report) => Some(self.choice.token(&report)?.text),
            Message::Finished(text) => Some(self.choice.finish(text)?.text),
            Message::Done(generation) => {
                let prompt = generation.timings.prefill_tokens.get(self.model.base_source).copied().unwrap_or(0);
                let reused = generation.timings.reused_tokens.get(self.model.base_source).copied().unwrap_or(0);
                Usage::new(prompt + reused, generation.tokens.len()).log(&self.model.name);
                self.finish = Some(finish_reason(&generation.finish));
                None
            }
            Message::Failed(error) => return Err(ApiError::of(&error)),
            Message::Scored(_) => None,
        })
    }

    fn response(&self, text_output: String) -> GenerateResponse {
        GenerateResponse {
            id: self.id.clone(),
            model_name: self.model.name.clone(),
            model_version: "1",
            text_output,
            finish_reason: self.finish,
        }
    }

    fn event(&self, text: String) -> String {
        serde_json::to_string(&self.response(text)).unwrap_or_default()
    }
}

impl EventWriter for Writer {
    fn begin(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn write(&mut self, _sequence: usize, message: Message) -> Result<Vec<String>, ApiError> {
        let text = self.hear(message)?.filter(|text| !text.is_empty());
        Ok(text.map(|text| self.event(text)).into_iter().collect())
    }

    fn end(&mut self) -> Vec<String> {
        vec![self.event(String::new())]
    }
}

/// What the protocol says of a model.
pub(crate) async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let model = app.models.find(Some(&name))?;
    let tensor = |name: &str| json!({ "name": name, "datatype": "BYTES", "shape": [1] });
    let told = Map::from_iter([
        ("name".to_owned(), json!(model.name)),
        ("versions".to_owned(), json!(["1"])),
        ("platform".to_owned(), json!("logitfuse")),
        ("inputs".to_owned(), json!([tensor("text_input")])),
        ("outputs".to_owned(), json!([tensor("text_output")])),
    ]);
    Ok(json_response(&Value::Object(told)))
}

/// Whether a model can be asked.
pub(crate) async fn model_ready(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let model = app.models.find(Some(&name))?;
    app.ready()?;
    Ok(json_response(&json!({ "name": model.name, "ready": true })))
}

/// What the protocol says of the server.
pub(crate) async fn server() -> Response {
    json_response(&json!({ "name": "logitfuse", "version": env!("CARGO_PKG_VERSION"), "extensions": ["generate"] }))
}

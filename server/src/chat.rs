//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use logitfuse::text::Message as Turn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    app::{App, unix_time},
    body,
    choice::{Choice, FusionReport, KnownToken, Piece, Usage, Wanted, finish_reason},
    completions::request as generation,
    error::{ApiError, json_response},
    generation::{InFlight, Job, Message},
    models::ServedModel,
    prompt::Texts,
    prompts::{self, Prompts},
    settings::{Biases, FusionRequest, Plan, Settings, StreamOptions},
    sse::{self, Delivery, EventWriter},
};

/// A request for the next turn of a conversation, as OpenAI's API has it. A field that is not listed is refused, because it
/// might be meant to change the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatRequest {
    /// The model's name; may be left out where there is one model.
    model: Option<String>,
    /// The conversation. Every source's own chat template writes it.
    messages: Vec<ChatMessage>,
    /// At most this many tokens a choice; as the experiment's `max_new_tokens` if absent.
    max_tokens: Option<u64>,
    /// As `max_tokens`.
    max_completion_tokens: Option<u64>,
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
    /// Added to logits, by token id.
    logit_bias: Option<Biases>,
    /// Choices. Choice `i` has the seed `seed + i`.
    n: Option<u64>,
    /// Whether every token comes with its log-probability.
    logprobs: Option<bool>,
    /// With `logprobs`, so many of the most probable tokens.
    top_logprobs: Option<u64>,
    /// Texts that end a choice where they first appear; they are no part of it. Those of the experiment if absent, none if
    /// the list is empty.
    stop: Option<Texts>,
    /// The seed of the first choice; another one for every request if absent.
    seed: Option<i64>,
    /// Go on past tokens that end a text.
    ignore_eos: Option<bool>,
    /// Whether tokens come as they are generated.
    stream: Option<bool>,
    /// What comes with a stream.
    stream_options: Option<StreamOptions>,
    /// Variables of the chat template, such as `enable_thinking`; one that it does not read is refused.
    chat_template_kwargs: Option<Map<String, Value>>,
    /// What is asked of the fusion.
    #[serde(default)]
    fusion: Option<FusionRequest>,
    /// `{"type": "text"}` alone.
    response_format: Option<ResponseFormat>,
    /// Not offered.
    tools: Option<Vec<Value>>,
    /// `none` alone.
    tool_choice: Option<Value>,
    /// `["text"]` alone.
    modalities: Option<Vec<String>>,
    /// Accepted, without effect: no tool is called.
    #[serde(rename = "parallel_tool_calls")]
    _parallel_tool_calls: Option<Value>,
    /// Accepted, without effect.
    #[serde(rename = "user")]
    _user: Option<Value>,
    /// Accepted, without effect.
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Option<Value>,
    /// Accepted, without effect: beginnings that prompts share are found by themselves.
    #[serde(rename = "prompt_cache_key")]
    _prompt_cache_key: Option<Value>,
    /// Accepted, without effect.
    #[serde(rename = "metadata")]
    _metadata: Option<Value>,
    /// Accepted, without effect.
    #[serde(rename = "store")]
    _store: Option<Value>,
    /// Accepted, without effect.
    #[serde(rename = "service_tier")]
    _service_tier: Option<Value>,
}

/// The form of an answer.
#[derive(Deserialize, JsonSchema)]
struct ResponseFormat {
    /// `text`.
    #[serde(rename = "type")]
    kind: String,
}

/// One turn.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChatMessage {
    /// `system`, `user`, `assistant`; `developer` is taken for `system`.
    role: String,
    /// A text, or parts of one.
    content: Option<Content>,
    /// Not offered: chat templates read the role alone.
    name: Option<String>,
    /// Not offered.
    tool_calls: Option<Vec<Value>>,
    /// Accepted where an answer is sent back, without effect.
    #[serde(rename = "refusal")]
    _refusal: Option<Value>,
    /// Accepted where an answer is sent back, without effect.
    #[serde(rename = "annotations")]
    _annotations: Option<Value>,
}

/// A text, or parts of one.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "the content is a text, or a list of {\"type\": \"text\", \"text\": …}")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a text.
#[derive(Deserialize, JsonSchema)]
struct Part {
    /// `text`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

/// An answer.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ChatResponse {
    id: String,
    /// `chat.completion`, or `chat.completion.chunk` in a stream.
    object: &'static str,
    /// When it was made, in seconds since 1970.
    created: u64,
    model: String,
    choices: Vec<ChatChoice>,
    /// In a stream, of its last event alone, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// A choice, or a piece of one.
#[derive(Serialize, JsonSchema)]
struct ChatChoice {
    index: usize,
    /// The whole turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<AnswerMessage>,
    /// In a stream, what is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<AnswerMessage>,
    logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`; null in a stream before the end.
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fusion: Option<FusionReport>,
}

/// The assistant's turn, or a piece of it.
#[derive(Serialize, JsonSchema)]
struct AnswerMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// The log-probability of every token.
#[derive(Serialize, JsonSchema)]
struct ChatLogprobs {
    content: Vec<ChatToken>,
}

/// A token with its log-probability under the fused distribution at temperature 1, in nats.
#[derive(Serialize, JsonSchema)]
struct ChatToken {
    token: String,
    logprob: f64,
    /// The token's bytes, which need not be whole characters.
    bytes: Vec<u8>,
    top_logprobs: Vec<TopToken>,
}

/// One of the most probable tokens.
#[derive(Serialize, JsonSchema)]
struct TopToken {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

/// A request that can be submitted.
struct Prepared {
    model: Arc<ServedModel>,
    plan: Plan,
    prompts: Prompts,
    logprobs: bool,
    delivery: Delivery,
}

pub(crate) async fn create(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    app.ready()?;
    let in_flight = InFlight::begin(&app);
    let bytes = body::read(&headers, body, &app.options.limits).await?;
    app.log_body(&bytes);
    let preparing = Arc::clone(&app);
    let prepared = app.prepare(move || prepare(&preparing, body::parse(&bytes)?)).await?;
    let response = answer(&app, prepared).await;
    drop(in_flight);
    response
}

fn prepare(app: &App, request: ChatRequest) -> Result<Prepared, ApiError> {
    refuse_what_is_not_offered(&request)?;
    let model = Arc::clone(app.models.find(request.model.as_deref())?);
    let limits = &app.options.limits;
    let max_tokens = match (request.max_completion_tokens, request.max_tokens) {
        (Some(one), Some(other)) if one != other => {
            let message = "max_tokens and max_completion_tokens differ; send one of them";
            return Err(ApiError::invalid("max_tokens", message));
        }
        (one, other) => one.or(other),
    };
    if max_tokens == Some(0) {
        return Err(ApiError::invalid("max_tokens", "max_tokens: 0 tokens are nothing to answer; ask for 1 or more"));
    }
    let logprobs = request.logprobs.unwrap_or(false);
    if request.top_logprobs.is_some_and(|count| count > 0) && !logprobs {
        return Err(ApiError::invalid("top_logprobs", "top_logprobs: set `logprobs` to true as well"));
    }
    if request.messages.is_empty() || request.messages.len() > limits.messages {
        let message = format!("messages: {} of them; send 1 to {}", request.messages.len(), limits.messages);
        return Err(ApiError::invalid("messages", message));
    }
    let turns =
        request.messages.iter().enumerate().map(|(i, message)| turn(i, message)).collect::<Result<Vec<_>, _>>()?;
    let settings = Settings {
        max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        repetition_penalty: request.repetition_penalty,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        logit_bias: request.logit_bias,
        seed: request.seed,
        stop: request.stop,
        ignore_eos: request.ignore_eos,
        n: request.n,
        top_logprobs: request.top_logprobs.unwrap_or(0),
        fusion: request.fusion.unwrap_or_default(),
    };
    let plan = settings.plan(&model, limits)?;
    let variables = request.chat_template_kwargs.unwrap_or_default();
    let fields = Value::Object(settings.fusion.fields);
    let prompts = model.pipeline.conversation(&turns, &variables, &fields).map_err(|error| {
        let param =
            if error.to_string().starts_with("chat_template_kwargs") { "chat_template_kwargs" } else { "messages" };
        ApiError::of(&error).about(param)
    })?;
    prompts::check(&model, &prompts, "messages")?;
    Ok(Prepared {
        plan,
        prompts,
        logprobs,
        delivery: Delivery::new(request.stream, request.stream_options.as_ref()),
        model,
    })
}

fn refuse_what_is_not_offered(request: &ChatRequest) -> Result<(), ApiError> {
    if request.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(ApiError::unsupported("tools", "tools: no tools are called here; leave them out"));
    }
    if request.tool_choice.as_ref().is_some_and(|choice| *choice != "none" && *choice != "auto") {
        return Err(ApiError::unsupported("tool_choice", "tool_choice: no tools are called here; leave it out"));
    }
    if request.response_format.as_ref().is_some_and(|format| format.kind != "text") {
        let message = "response_format: answers are text; leave it out, and say in the conversation what you want";
        return Err(ApiError::unsupported("response_format", message));
    }
    if request.modalities.as_ref().is_some_and(|modalities| modalities.iter().any(|one| one != "text")) {
        return Err(ApiError::unsupported("modalities", "modalities: answers are text; leave it out"));
    }
    Ok(())
}

/// A message as chat templates read it.
fn turn(i: usize, message: &ChatMessage) -> Result<Turn, ApiError> {
    let role = match message.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant") => role,
        _ => {
            let what = format!("messages[{i}].role: must be system, developer, user or assistant");
            return Err(ApiError::invalid(format!("messages[{i}].role"), what));
        }
    };
    if message.name.is_some() {
        let what = format!("messages[{i}].name: chat templates read the role alone; write the name into the content");
        return Err(ApiError::unsupported(&format!("messages[{i}].name"), what));
    }
    if message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty()) {
        let what = format!("messages[{i}].tool_calls: no tools are called here");
        return Err(ApiError::unsupported(&format!("messages[{i}].tool_calls"), what));
    }
    let content = match &message.content {
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => {
            if parts.iter().any(|part| part.kind != "text") {
                let what = format!("messages[{i}].content: these models read text alone");
                return Err(ApiError::unsupported(&format!("messages[{i}].content"), what));
            }
            parts.iter().map(|part| part.text.as_str()).collect()
        }
        None => {
            let what = format!("messages[{i}].content: missing");
            return Err(ApiError::invalid(format!("messages[{i}].content"), what));
        }
    };
    Ok(Turn::new(role, content))
}

async fn answer(app: &Arc<App>, prepared: Prepared) -> Result<Response, ApiError> {
    let Prepared { model, plan, prompts, logprobs, delivery } = prepared;
    let wanted = Wanted::new(&plan, logprobs);
    let prompt_tokens = prompts[model.base].len();
    let jobs = (0..plan.n).map(|choice| Job::Generate(generation(&plan, &model, prompts.clone(), choice))).collect();
    let choices = (0..plan.n).map(|_| Choice::new(&model, wanted)).collect();
    let mut running = app.submit(&model, jobs)?;
    let mut writer = Writer {
        id: format!("chatcmpl-{}", app.request_id()),
        created: unix_time(),
        model: Arc::clone(&model),
        wanted,
        choices,
        prompt_tokens,
        generated: 0,
        include_usage: delivery.includes_usage(),
    };
    if delivery.is_stream() {
        return Ok(sse::respond(app, running, writer));
    }
    let mut wholes: Vec<(Piece, Option<&'static str>)> = (0..plan.n).map(|_| (Piece::default(), None)).collect();
    while let Some(message) = running.next().await {
        let (sequence, message) = message?;
        match writer.hear(sequence, message)? {
            Heard::Piece(piece) => wholes[sequence].0.append(piece),
            Heard::End(finish) => wholes[sequence].1 = Some(finish),
            Heard::Nothing => {}
        }
    }
    let choices = wholes.into_iter().enumerate().map(|(index, (mut piece, finish))| {
        let content = Some(std::mem::take(&mut piece.text));
        let message = AnswerMessage { role: Some("assistant"), content };
        ChatChoice { message: Some(message), ..writer.choice(index, piece, finish) }
    });
    let choices = choices.collect();
    let usage = Usage::new(writer.prompt_tokens, writer.generated);
    usage.log(&model.name);
    Ok(json_response(&writer.response("chat.completion", choices, Some(usage))))
}

/// What a message is for a choice.
enum Heard {
    Piece(Piece),
    End(&'static str),
    Nothing,
}

/// Writes an answer, at once or as a stream.
struct Writer {
    id: String,
    created: u64,
    model: Arc<ServedModel>,
    wanted: Wanted,
    choices: Vec<Choice>,
    prompt_tokens: usize,
    generated: usize,
    include_usage: bool,
}

impl Writer {
    fn hear(&mut self, sequence: usize, message: Message) -> Result<Heard, ApiError> {
        let Some(choice) = self.choices.get_mut(sequence) else { return Ok(Heard::Nothing) };
        Ok(match message {
            Message::Token(report) => Heard::Piece(choice.token(&report)?),
            Message::Finished(text) => Heard::Piece(choice.finish(text)?),
            Message::Done(generation) => {
                self.generated += generation.tokens.len();
                Heard::End(finish_reason(&generation.finish))
            }
            Message::Failed(error) => return Err(ApiError::of(&error)),
            Message::Scored(_) => Heard::Nothing,
        })
    }

    /// A choice without its text.
    fn choice(&self, index: usize, piece: Piece, finish: Option<&'static str>) -> ChatChoice {
        let logprobs = self.wanted.logprobs.map(|_| {
            // What ends the turn is no part of its content.
            let content = piece.tokens.iter().filter(|(token, _)| !token.ends);
            ChatLogprobs { content: content.filter_map(|(token, _)| self.token(token)).collect() }
        });
        let fusion = self.wanted.fusion().then_some(FusionReport { tokens: piece.fusion });
        ChatChoice { index, message: None, delta: None, logprobs, finish_reason: finish, fusion }
    }

    fn token(&self, token: &KnownToken) -> Option<ChatToken> {
        let top = token.top.iter().map(|&(id, logprob)| {
            let (token, bytes) = self.model.token(id);
            TopToken { token, logprob, bytes }
        });
        let top_logprobs = top.collect();
        let (text, bytes) = self.model.token(token.id);
        Some(ChatToken { token: text, logprob: token.log_prob?, bytes, top_logprobs })
    }

    fn response(&self, object: &'static str, choices: Vec<ChatChoice>, usage: Option<Usage>) -> ChatResponse {
        ChatResponse {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.name.clone(),
            choices,
            usage,
        }
    }

    fn event(&self, choices: Vec<ChatChoice>, usage: Option<Usage>) -> String {
        serde_json::to_string(&self.response("chat.completion.chunk", choices, usage)).unwrap_or_default()
    }
}

impl EventWriter for Writer {
    fn begin(&mut self) -> Vec<String> {
        let first = |index| {
            let delta = AnswerMessage { role: Some("assistant"), content: Some(String::new()) };
            let choice = ChatChoice {
                index,
                message: None,
                delta: Some(delta),
                logprobs: None,
                finish_reason: None,
                fusion: None,
            };
            self.event(vec![choice], None)
        };
        (0..self.choices.len()).map(first).collect()
    }

    fn write(&mut self, sequence: usize, message: Message) -> Result<Vec<String>, ApiError> {
        let (mut piece, finish) = match self.hear(sequence, message)? {
            Heard::Piece(piece) if piece.is_empty() => return Ok(Vec::new()),
            Heard::Piece(piece) => (piece, None),
            Heard::End(finish) => (Piece::default(), Some(finish)),
            Heard::Nothing => return Ok(Vec::new()),
        };
        let content = finish.is_none().then(|| std::mem::take(&mut piece.text));
        let delta = Some(AnswerMessage { role: None, content });
        let choice = ChatChoice { delta, ..self.choice(sequence, piece, finish) };
        Ok(vec![self.event(vec![choice], None)])
    }

    fn end(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        let usage = Usage::new(self.prompt_tokens, self.generated);
        usage.log(&self.model.name);
        if self.include_usage {
            events.push(self.event(Vec::new(), Some(usage)));
        }
        events.push("[DONE]".to_owned());
        events
    }
}

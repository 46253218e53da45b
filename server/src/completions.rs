//! `POST /v1/completions`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use logitfuse::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::{App, unix_time},
    body,
    choice::{Choice, FusionReport, KnownToken, Piece, Usage, Wanted, finish_reason},
    echo,
    error::{ApiError, json_response},
    generation::{InFlight, Job, Message, Running},
    models::ServedModel,
    prompt::{PromptInput, Texts},
    prompts::{self, Prompts},
    settings::{Biases, FusionRequest, Plan, Settings, StreamOptions, bounded},
    sse::{self, Delivery, EventWriter},
};

/// A request for completions, as OpenAI's API has it. A field that is not listed is refused, because it might be meant to
/// change the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompletionRequest {
    /// The model's name; may be left out where there is one model.
    model: Option<String>,
    /// What to continue: a text, token ids, or a list of either.
    prompt: PromptInput,
    /// At most this many tokens a choice; as the experiment's `max_new_tokens` if absent. 0 with `echo` scores the prompt.
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
    /// Added to logits, by token id.
    logit_bias: Option<Biases>,
    /// Choices for each prompt. Choice `i` has the seed `seed + i`.
    n: Option<u64>,
    /// Must be absent or equal to `n`: nothing is generated to be thrown away.
    best_of: Option<u64>,
    /// Whether the prompt comes back before its completion.
    echo: Option<bool>,
    /// With every token its log-probability, and so many of the most probable tokens; none if absent.
    logprobs: Option<u64>,
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
    /// What is asked of the fusion.
    #[serde(default)]
    fusion: Option<FusionRequest>,
    /// Not offered.
    suffix: Option<String>,
    /// Accepted, without effect.
    #[serde(rename = "user")]
    _user: Option<Value>,
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

/// Completions.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CompletionResponse {
    id: String,
    /// `text_completion`.
    object: &'static str,
    /// When it was made, in seconds since 1970.
    created: u64,
    model: String,
    /// The choices of the first prompt, then those of the next; `index` counts through.
    choices: Vec<CompletionChoice>,
    /// In a stream, of its last event alone, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// A completion, or a piece of one.
#[derive(Serialize, JsonSchema)]
struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    /// `stop`, `length`; null in a stream before the end.
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fusion: Option<FusionReport>,
}

/// The log-probability of every token. The tokens joined are the text.
#[derive(Clone, Default, Serialize, JsonSchema)]
struct CompletionLogprobs {
    /// What each token adds to the text.
    tokens: Vec<String>,
    /// Under the fused distribution at temperature 1, in nats; null for the first token of a prompt.
    token_logprobs: Vec<Option<f64>>,
    /// The most probable tokens, and the one that is there, by text; of several that read alike the most probable one.
    top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Where each token begins in the text, in characters.
    text_offset: Vec<usize>,
}

/// A request that can be submitted.
struct Prepared {
    model: Arc<ServedModel>,
    plan: Plan,
    prompts: Vec<Prompts>,
    /// Of an echo, the tokens before each prompt's own.
    added: Vec<usize>,
    echo: bool,
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

fn prepare(app: &App, request: CompletionRequest) -> Result<Prepared, ApiError> {
    let model = Arc::clone(app.models.find(request.model.as_deref())?);
    if request.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported(
            "suffix",
            "suffix: these models continue texts and fill no gaps; leave it out",
        ));
    }
    if request.best_of.is_some_and(|best_of| best_of != request.n.unwrap_or(1)) {
        let message = "best_of: nothing is generated to be thrown away; ask for n choices and take the best";
        return Err(ApiError::unsupported("best_of", message));
    }
    let echo = request.echo.unwrap_or(false);
    if request.max_tokens == Some(0) && !echo {
        let message =
            "max_tokens: 0 tokens are nothing to answer; ask for 1 or more, or set `echo` to score the prompt";
        return Err(ApiError::invalid("max_tokens", message));
    }
    let limits = &app.options.limits;
    let items = request.prompt.0;
    if items.len() > limits.prompts {
        let message = format!("prompt: {} prompts; send {} at most at a time", items.len(), limits.prompts);
        return Err(ApiError::invalid("prompt", message));
    }
    if echo && request.fusion.as_ref().is_some_and(|fusion| !fusion.fields.is_empty()) {
        let message = "fusion.fields: sources that read different prompts have no one text to echo; leave `echo` out";
        return Err(ApiError::invalid("fusion.fields", message));
    }
    bounded("logprobs", request.logprobs, limits.top_logprobs)?;
    let settings = Settings {
        max_tokens: request.max_tokens,
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
        top_logprobs: request.logprobs.unwrap_or(0),
        fusion: request.fusion.unwrap_or_default(),
    };
    let plan = settings.plan(&model, limits)?;
    let of = |item| prompts::of_completion(&model, item, &settings.fusion.fields);
    let prompts = items.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let added = |(item, prompts): (_, &Prompts)| {
        if echo { prompts::added_before(&model, item, &prompts[model.base]) } else { Ok(0) }
    };
    let added = items.iter().zip(&prompts).map(added).collect::<Result<Vec<_>, _>>()?;
    Ok(Prepared {
        plan,
        prompts,
        added,
        echo,
        logprobs: request.logprobs.is_some(),
        delivery: Delivery::new(request.stream, request.stream_options.as_ref()),
        model,
    })
}

async fn answer(app: &Arc<App>, prepared: Prepared) -> Result<Response, ApiError> {
    let Prepared { model, plan, prompts, added, echo, logprobs, delivery } = prepared;
    let next = echo && logprobs && is_next_greedy(&plan);
    let mut scored =
        if echo && logprobs { echo::score(app, &model, &plan, &prompts, &added, next).await? } else { Vec::new() };
    let wanted = Wanted::new(&plan, logprobs);
    let prompt_tokens = prompts.iter().map(|prompts| prompts[model.base].len()).sum();
    let mut jobs = Vec::new();
    let mut choices = Vec::new();
    for (place, prompts) in prompts.iter().enumerate() {
        for choice in 0..plan.n {
            let begun = match scored.get_mut(place) {
                _ if !echo => None,
                // The last choice of a prompt takes it.
                Some(scored) if choice + 1 == plan.n => Some(std::mem::take(&mut scored.prompt)),
                Some(scored) => Some(scored.prompt.clone()),
                None => Some(echo::text(&model, prompts)?),
            };
            let mut written = Written::new(choices.len(), &model, wanted, begun);
            if next {
                if let Some((next, finish)) = scored.get_mut(place).and_then(|scored| scored.next.take()) {
                    written.whole.append(next);
                    written.finish = Some(finish);
                }
            } else if plan.max_tokens == 0 {
                written.finish = Some("length");
            } else {
                jobs.push(Job::Generate(request(&plan, &model, prompts.clone(), choice)));
            }
            choices.push(written);
        }
    }
    let generated = if next { choices.len() } else { 0 };
    let running = app.submit(&model, jobs)?;
    let mut writer = Writer {
        id: format!("cmpl-{}", app.request_id()),
        created: unix_time(),
        model: model.name.clone(),
        choices,
        prompt_tokens,
        generated,
        include_usage: delivery.includes_usage(),
    };
    if delivery.is_stream() {
        return Ok(sse::respond(app, running, writer));
    }
    collect(running, &mut writer).await?;
    Ok(json_response(&writer.whole()))
}

/// Whether the one token that is to be generated is the one that greedy decoding has, so that scoring tells it.
#[expect(clippy::float_cmp, reason = "the values that change nothing")]
fn is_next_greedy(plan: &Plan) -> bool {
    // Penalties of what was generated say nothing of the first token.
    let plain = plan.sampling.repetition_penalty == 1.0 && plan.sampling.logit_bias.is_empty();
    let told = !plan.trace && plan.top_choices == 0;
    plan.max_tokens == 1 && plan.n == 1 && plan.sampling.temperature == 0.0 && plain && told
}

/// The request of one choice.
pub(crate) fn request(plan: &Plan, model: &ServedModel, prompts: Prompts, choice: usize) -> Request {
    let mut request = Request::new(prompts)
        .max_new_tokens(plan.max_tokens)
        .sampling(plan.sampling_of(choice))
        .text(model.pipeline.detokenize(&plan.stop))
        .top_logprobs(plan.listed())
        .fusion(&plan.fusion);
    request.ignore_end_of_sequence = plan.ignore_eos;
    request.trace = plan.trace;
    request
}

async fn collect(mut running: Running, writer: &mut Writer) -> Result<(), ApiError> {
    while let Some(message) = running.next().await {
        let (sequence, message) = message?;
        let Some(piece) = writer.hear(sequence, message)? else { continue };
        writer.choices[piece.0].whole.append(piece.1);
    }
    Ok(())
}

/// A choice, as much of it as is there.
struct Written {
    index: usize,
    choice: Choice,
    /// What comes before anything is generated; then, of an answer that is no stream, all that came.
    whole: Piece,
    /// Characters of the text whose tokens were told.
    characters: usize,
    finish: Option<&'static str>,
    wanted: Wanted,
}

impl Written {
    fn new(index: usize, model: &Arc<ServedModel>, wanted: Wanted, begun: Option<Piece>) -> Self {
        let whole = begun.unwrap_or_default();
        Self { index, choice: Choice::new(model, wanted), whole, characters: 0, finish: None, wanted }
    }

    fn render(&mut self, piece: Piece, model: &ServedModel, finish: Option<&'static str>) -> CompletionChoice {
        let Piece { text, tokens, fusion } = piece;
        let logprobs = self.wanted.logprobs.map(|_| self.logprobs(tokens, model));
        let fusion = self.wanted.fusion().then_some(FusionReport { tokens: fusion });
        CompletionChoice { index: self.index, text, logprobs, finish_reason: finish, fusion }
    }

    fn logprobs(&mut self, tokens: Vec<(KnownToken, String)>, model: &ServedModel) -> CompletionLogprobs {
        let mut told = CompletionLogprobs::default();
        for (token, text) in tokens {
            told.top_logprobs.push(token.log_prob.map(|log_prob| by_text(&token, log_prob, model)));
            told.token_logprobs.push(token.log_prob);
            told.text_offset.push(self.characters);
            self.characters += text.chars().count();
            told.tokens.push(text);
        }
        told
    }
}

/// The most probable tokens and the one that is there, by text.
fn by_text(token: &KnownToken, log_prob: f64, model: &ServedModel) -> BTreeMap<String, f64> {
    let mut told = BTreeMap::new();
    for &(id, log_prob) in token.top.iter().chain([&(token.id, log_prob)]) {
        let known = told.entry(model.token(id).0).or_insert(log_prob);
        *known = log_prob.max(*known);
    }
    told
}

/// Writes an answer, at once or as a stream.
struct Writer {
    id: String,
    created: u64,
    model: String,
    choices: Vec<Written>,
    prompt_tokens: usize,
    generated: usize,
    include_usage: bool,
}

impl Writer {
    /// What a message adds to a choice.
    fn hear(&mut self, sequence: usize, message: Message) -> Result<Option<(usize, Piece)>, ApiError> {
        // Sequences are numbered as choices are: either all of them are submitted, or none.
        let Some(written) = self.choices.get_mut(sequence) else { return Ok(None) };
        let piece = match message {
            Message::Token(report) => written.choice.token(&report)?,
            Message::Finished(text) => written.choice.finish(text)?,
            Message::Done(generation) => {
                self.generated += generation.tokens.len();
                written.finish = Some(finish_reason(&generation.finish));
                return Ok(None);
            }
            Message::Failed(error) => return Err(ApiError::of(&error)),
            Message::Scored(_) => return Ok(None),
        };
        Ok(Some((sequence, piece)))
    }

    fn whole(&mut self) -> CompletionResponse {
        let mut choices = Vec::new();
        for written in &mut self.choices {
            let (piece, finish) = (std::mem::take(&mut written.whole), written.finish);
            let model = Arc::clone(written.choice.model());
            choices.push(written.render(piece, &model, finish));
        }
        let usage = Usage::new(self.prompt_tokens, self.generated);
        usage.log(&self.model);
        self.response(choices, Some(usage))
    }

    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }

    fn event(&mut self, index: usize, piece: Piece, finish: Option<&'static str>) -> String {
        let written = &mut self.choices[index];
        let model = Arc::clone(written.choice.model());
        let choice = written.render(piece, &model, finish);
        serde_json::to_string(&self.response(vec![choice], None)).unwrap_or_default()
    }
}

impl EventWriter for Writer {
    fn begin(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        for index in 0..self.choices.len() {
            let (piece, finish) = (std::mem::take(&mut self.choices[index].whole), self.choices[index].finish);
            if !piece.is_empty() || finish.is_some() {
                events.push(self.event(index, piece, finish));
            }
        }
        events
    }

    fn write(&mut self, sequence: usize, message: Message) -> Result<Vec<String>, ApiError> {
        let is_done = matches!(message, Message::Done(_));
        match self.hear(sequence, message)? {
            Some((index, piece)) if !piece.is_empty() => Ok(vec![self.event(index, piece, None)]),
            None if is_done => {
                let finish = self.choices[sequence].finish;
                Ok(vec![self.event(sequence, Piece::default(), finish)])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn end(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        let usage = Usage::new(self.prompt_tokens, self.generated);
        usage.log(&self.model);
        if self.include_usage {
            events.push(serde_json::to_string(&self.response(Vec::new(), Some(usage))).unwrap_or_default());
        }
        events.push("[DONE]".to_owned());
        events
    }
}

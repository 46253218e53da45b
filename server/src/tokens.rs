//! `POST /tokenize`, `POST /detokenize`, `GET /tokenizer_info`: the tokenizer that all sources share.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use logitfuse::TokenId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    app::App,
    body,
    error::{ApiError, json_response},
    generation::InFlight,
};

/// A text to turn into tokens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeRequest {
    /// The model's name; may be left out where there is one model.
    model: Option<String>,
    /// The text.
    prompt: Option<String>,
    /// As `prompt`.
    content: Option<String>,
    /// Whether the special tokens that the model expects around a text are added; they are if absent.
    add_special_tokens: Option<bool>,
    /// Whether each token's own text comes with it.
    return_token_strs: Option<bool>,
}

/// The tokens of a text.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TokenizeResponse {
    tokens: Vec<TokenId>,
    count: usize,
    /// Tokens that fit into the context, where that is known.
    max_model_len: Option<usize>,
    /// The text of each token by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
}

/// Tokens to turn into a text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DetokenizeRequest {
    /// The model's name; may be left out where there is one model.
    model: Option<String>,
    /// The tokens.
    tokens: Vec<TokenId>,
}

/// The text of tokens, control tokens included.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DetokenizeResponse {
    prompt: String,
}

pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let _in_flight = InFlight::begin(&app);
    let bytes = body::read(&headers, body, &app.options.limits).await?;
    app.log_body(&bytes);
    let shared = Arc::clone(&app);
    let work = move || {
        let request: TokenizeRequest = body::parse(&bytes)?;
        let model = any_model(&shared, request.model.as_deref())?;
        let text = match (request.prompt, request.content) {
            (Some(text), None) | (None, Some(text)) => text,
            (None, None) => return Err(ApiError::invalid("prompt", "prompt: missing; send the text to tokenize")),
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("content", "content: the text is in `prompt`, too; send one"));
            }
        };
        let tokens = model.pipeline.tokenizer().encode(&text, request.add_special_tokens.unwrap_or(true))?;
        let strings = |tokens: &[TokenId]| tokens.iter().map(|&id| model.token(id).0).collect();
        Ok(TokenizeResponse {
            count: tokens.len(),
            max_model_len: model.context_length(),
            token_strs: request.return_token_strs.unwrap_or(false).then(|| strings(&tokens)),
            tokens,
        })
    };
    Ok(json_response(&app.prepare(work).await?))
}

pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let _in_flight = InFlight::begin(&app);
    let bytes = body::read(&headers, body, &app.options.limits).await?;
    app.log_body(&bytes);
    let shared = Arc::clone(&app);
    let work = move || {
        let request: DetokenizeRequest = body::parse(&bytes)?;
        let tokenizer = any_model(&shared, request.model.as_deref())?.pipeline.tokenizer().clone();
        if let Some(id) = request.tokens.iter().find(|&&id| tokenizer.token(id).is_none()) {
            return Err(ApiError::invalid("tokens", format!("tokens: the tokenizer defines no token {id}")));
        }
        Ok(DetokenizeResponse { prompt: tokenizer.decode(&request.tokens, false)? })
    };
    Ok(json_response(&app.prepare(work).await?))
}

/// A model's tokenizer is that of all, so a request need not say which.
fn any_model<'a>(app: &'a App, name: Option<&str>) -> Result<&'a Arc<crate::models::ServedModel>, ApiError> {
    let first = app.models.all().first().and_then(|first| name.is_none().then_some(first));
    first.map_or_else(|| app.models.find(name), Ok)
}

/// What evaluation tools without a tokenizer of their own ask for.
pub(crate) async fn info(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let model = any_model(&app, None)?;
    let special = model.pipeline.tokenizer().special_tokens();
    let mut told: serde_json::Map<String, Value> =
        special.iter().map(|(name, token)| (name.to_owned(), json!(token))).collect();
    told.insert("fingerprint".to_owned(), json!(model.pipeline.tokenizer().fingerprint()));
    told.insert("vocab_size".to_owned(), json!(model.pipeline.session().vocabulary.width()));
    Ok(json_response(&told))
}

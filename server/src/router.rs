//! Routes, and what holds for all of them: names of requests, hosts, keys, the log.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Path, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::{
    app::App,
    auth::check_host,
    chat, completions,
    error::{ApiError, json_response},
    inference, openapi, page, tokens,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Routes that anyone may ask who can reach the address: probes, and the page, which knows nothing by itself.
const OPEN: [&str; 9] = [
    "/health/live",
    "/health/ready",
    "/health",
    "/v2/health/live",
    "/v2/health/ready",
    "/",
    "/assets/{file}",
    "/favicon.ico",
    "/v2",
];

pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/assets/{file}", get(page::asset))
        .route("/favicon.ico", get(page::icon))
        .route("/v1/completions", post(completions::create))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        // Evaluation tools look for these beside `/v1/completions`.
        .route("/v1/tokenize", post(tokens::tokenize))
        .route("/v1/detokenize", post(tokens::detokenize))
        .route("/v1/tokenizer_info", get(tokens::info))
        .route("/health", get(ready))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/v2", get(inference::server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(inference::model))
        .route("/v2/models/{model}/ready", get(inference::model_ready))
        .route("/v2/models/{model}/generate", post(inference::generate))
        .route("/v2/models/{model}/generate_stream", post(inference::generate_stream))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(Arc::clone(app), admit))
        .with_state(Arc::clone(app))
}

/// Gives every request a name, asks for its key, and notes how it was answered.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request.headers().get(&REQUEST_ID).and_then(sound_id).unwrap_or_else(|| app.request_id());
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let span = tracing::info_span!("request", id, method = %method, route);
    let mut response = async {
        let response = match check(&app, &request, &route) {
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        };
        let status = response.status().as_u16();
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if is_probe(&route, &method) {
            tracing::debug!(status, milliseconds, "answered");
        } else {
            tracing::info!(status, milliseconds, "answered");
        }
        response
    }
    .instrument(span)
    .await;
    app.metrics.answered(&route, response.status().as_u16());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn check(app: &App, request: &Request, route: &str) -> Result<(), ApiError> {
    if app.options.address.ip().is_loopback() {
        check_host(request.headers(), &app.options.allowed_hosts)?;
    }
    if OPEN.contains(&route) { Ok(()) } else { app.options.keys.admit(request.headers()) }
}

/// What asks every few seconds would fill the log.
fn is_probe(route: &str, method: &Method) -> bool {
    *method == Method::GET && (route.contains("/health") || route == "/metrics")
}

/// A name that a client or a proxy gave, if it can stand in a log.
fn sound_id(value: &HeaderValue) -> Option<String> {
    let id = value.to_str().ok()?;
    let sound =
        !id.is_empty() && id.len() <= 128 && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-:".contains(c));
    sound.then(|| id.to_owned())
}

async fn no_such_route() -> ApiError {
    ApiError::status_only(StatusCode::NOT_FOUND, "not_found", "there is no such route; /openapi.json lists them")
}

async fn no_such_method() -> ApiError {
    let message = "the route does not take this method; /openapi.json lists what it takes";
    ApiError::status_only(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let data: Vec<Value> = app.models.all().iter().map(|model| model.card(app.started, &app.sources)).collect();
    json_response(&json!({ "object": "list", "data": data }))
}

async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(json_response(&app.models.find(Some(&name))?.card(app.started, &app.sources)))
}

/// Whether the process should go on: it should not without its decoding thread.
async fn live(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    if app.decoding.load(std::sync::atomic::Ordering::SeqCst) {
        Ok(json_response(&json!({ "status": "live", "live": true })))
    } else {
        Err(ApiError::stopped())
    }
}

/// Whether requests should be sent here.
async fn ready(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.ready()?;
    Ok(json_response(&json!({ "status": "ready", "ready": true })))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text()).into_response()
}

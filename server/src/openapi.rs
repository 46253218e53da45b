//! `GET /openapi.json`: the routes, with the schemas of the types that read and write them.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    chat::{ChatRequest, ChatResponse},
    completions::{CompletionRequest, CompletionResponse},
    error::ErrorEnvelope,
    inference::{GenerateRequest, GenerateResponse},
    tokens::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse},
};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| build().to_string());

pub(crate) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

fn build() -> Value {
    const JSON: &str = "application/json";
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    let mut add = |path: &str, method: &str, operation: Value| {
        paths.insert(path.to_owned(), json!({ method: operation }));
    };
    let completions = posted::<CompletionRequest, CompletionResponse>(&mut generator, "Continue texts", true);
    add("/v1/completions", "post", completions);
    let chat = posted::<ChatRequest, ChatResponse>(&mut generator, "Answer a conversation", true);
    add("/v1/chat/completions", "post", chat);
    add("/tokenize", "post", posted::<TokenizeRequest, TokenizeResponse>(&mut generator, "Tokens of a text", false));
    add(
        "/detokenize",
        "post",
        posted::<DetokenizeRequest, DetokenizeResponse>(&mut generator, "Text of tokens", false),
    );
    let with_model = |mut operation: Value| {
        operation["parameters"] =
            json!([{ "name": "model", "in": "path", "required": true, "schema": { "type": "string" } }]);
        operation
    };
    let generate = posted::<GenerateRequest, GenerateResponse>(&mut generator, "Continue a text", false);
    add("/v2/models/{model}/generate", "post", with_model(generate));
    let mut stream = posted::<GenerateRequest, GenerateResponse>(&mut generator, "Continue a text, as a stream", true);
    if let Some(content) = stream["responses"]["200"]["content"].as_object_mut() {
        content.remove("application/json");
    }
    add("/v2/models/{model}/generate_stream", "post", with_model(stream));
    let errors = errors(&mut generator);
    let got = |summary: &str, kind: &str, open: bool| {
        let mut responses = errors.clone();
        responses["200"] = json!({ "description": summary, "content": { kind: {} } });
        let mut operation = json!({ "summary": summary, "responses": responses });
        if open {
            operation["security"] = json!([]);
        }
        operation
    };
    add("/v1/models", "get", got("The models, with their strategies, parameters and sources", JSON, false));
    add("/v1/models/{model}", "get", with_model(got("One model", JSON, false)));
    add("/tokenizer_info", "get", got("Special tokens", JSON, false));
    add("/metrics", "get", got("Metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", false));
    add("/openapi.json", "get", got("This document", JSON, false));
    add("/v2", "get", got("The server, as the Open Inference Protocol has it", JSON, true));
    add("/v2/models/{model}", "get", with_model(got("One model, as the Open Inference Protocol has it", JSON, false)));
    add("/v2/models/{model}/ready", "get", with_model(got("Whether a model can be asked", JSON, false)));
    for path in ["/health/live", "/v2/health/live"] {
        add(path, "get", got("Whether the process should go on", JSON, true));
    }
    for path in ["/health", "/health/ready", "/v2/health/ready"] {
        add(path, "get", got("Whether requests should be sent here", JSON, true));
    }
    add("/", "get", got("The page", "text/html; charset=utf-8", true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "logitfuse",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Fusions of language models behind the interfaces of OpenAI and of the Open Inference Protocol v2.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "security": [{ "key": [] }],
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "Where the server has API keys." },
            },
        },
    })
}

/// A route that takes a body. `streams` tells that the answer may come as events.
fn posted<Q: JsonSchema, A: JsonSchema>(generator: &mut SchemaGenerator, summary: &str, streams: bool) -> Value {
    let (request, response) = (generator.subschema_for::<Q>(), generator.subschema_for::<A>());
    let mut content = json!({ "application/json": { "schema": response } });
    if streams {
        // No schema: one would be of each event, and those differ from route to route.
        content["text/event-stream; charset=utf-8"] = json!({});
    }
    let mut responses = errors(generator);
    responses["200"] = json!({ "description": "The answer", "content": content });
    json!({
        "summary": summary,
        "requestBody": { "required": true, "content": { "application/json": { "schema": request } } },
        "responses": responses,
    })
}

/// What every route may say instead of an answer.
fn errors(generator: &mut SchemaGenerator) -> Value {
    let schema = generator.subschema_for::<ErrorEnvelope>();
    let error = |what: &str| json!({ "description": what, "content": { "application/json": { "schema": schema } } });
    let all = [
        ("400", "The request is wrong"),
        ("401", "There is no API key, or not one of this server's"),
        ("403", "The name in `Host` is not this server's"),
        ("404", "There is no such route or model"),
        ("405", "The route does not take this method"),
        ("408", "The body did not arrive in time"),
        ("413", "The body is too large"),
        ("415", "The body's type is not application/json"),
        ("429", "As many requests are waiting as may wait; `Retry-After` says when to try again"),
        ("500", "The models, the strategy or a plugin failed"),
        ("503", "The server is shutting down"),
        ("504", "The answer took too long"),
    ];
    all.into_iter().map(|(status, what)| (status.to_owned(), error(what))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of the document, wherever it stands.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = build();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{}", found.len());
        for reference in found {
            let target = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(target.is_some_and(Value::is_object), "{reference}");
        }
    }
}

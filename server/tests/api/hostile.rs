//! Whatever is sent, the answer is an answer or an error in the one form, and none that is the server's fault.

use std::sync::OnceLock;

use axum::http::Method;
use logitfuse::json;
use logitfuse_server::{Server, ServerOptions};
use proptest::prelude::*;
use serde_json::Value;

use crate::common::{Client, started, words};

struct Fixture {
    runtime: tokio::runtime::Runtime,
    _server: Server,
    client: Client,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let (pipeline, gate) = words();
        gate.open();
        let mut options = ServerOptions::default();
        options.limits.max_tokens = 6;
        let (server, client) = started(vec![("words".to_owned(), pipeline)], options);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Fixture { runtime, _server: server, client }
    })
}

const ROUTES: [&str; 7] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/tokenize",
    "/detokenize",
    "/v2/models/words/generate",
    "/v2/models/words/generate_stream",
    "/v2/models/none/generate",
];

const FIELDS: [&str; 34] = [
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "n",
    "best_of",
    "echo",
    "logprobs",
    "top_logprobs",
    "stop",
    "seed",
    "ignore_eos",
    "stream",
    "stream_options",
    "fusion",
    "suffix",
    "tools",
    "response_format",
    "chat_template_kwargs",
    "tokens",
    "content",
    "add_special_tokens",
    "text_input",
    "parameters",
    "unheard_of",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u64..40).prop_map(Value::from),
        (-3.0..3.0).prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        "(w[0-9]{1,2} ?){0,5}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("words")),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 24, 6, |inner| {
        let keys = prop_oneof![
            prop::sample::select(vec![
                "role",
                "content",
                "type",
                "text",
                "parameters",
                "trace",
                "top_choices",
                "fields",
                "include_usage",
                "alpha",
                "1",
                "31",
            ])
            .prop_map(str::to_owned),
            "[a-z0-9]{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// A sound request of a route, which a test then spoils.
fn sound(route: &str) -> Value {
    match route {
        "/v1/completions" => json!({ "prompt": "w1 w2 w3", "max_tokens": 4 }),
        "/v1/chat/completions" => json!({ "messages": [{ "role": "user", "content": "w1" }], "max_tokens": 4 }),
        "/tokenize" => json!({ "prompt": "w1 w2" }),
        "/detokenize" => json!({ "tokens": [1, 2] }),
        _ => json!({ "text_input": "w1 w2", "parameters": { "max_tokens": 4 } }),
    }
}

fn check(route: &str, body: impl Into<axum::body::Body>, shown: &str) {
    let Fixture { runtime, client, .. } = fixture();
    let answer = runtime.block_on(client.send(Client::request(Method::POST, route, body)));
    let status = answer.status.as_u16();
    assert!(status < 500, "{route} {shown}: {status} {}", answer.body);
    if status != 200 {
        let error = answer.json()["error"].clone();
        assert!(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{route} {shown}: {}",
            answer.body
        );
    } else if answer.body.starts_with("data: ") {
        assert!(!answer.body.contains("server_error"), "{route} {shown}: {}", answer.body);
    } else {
        assert!(answer.json().is_object());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spoiled_requests_are_answered_or_refused(
        route in prop::sample::select(&ROUTES[..]),
        changes in prop::collection::vec((prop::sample::select(&FIELDS[..]), value()), 1..4),
    ) {
        let mut request = sound(route);
        for (field, value) in changes {
            request[field] = value;
        }
        check(route, request.to_string(), &request.to_string());
    }

    #[test]
    fn any_bytes_are_refused(route in prop::sample::select(&ROUTES[..]), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let shown = format!("{bytes:?}");
        check(route, bytes, &shown);
    }
}

#[test]
fn deep_and_repeated_json_is_refused() {
    let deep = format!("{{\"prompt\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let twice = r#"{"prompt": "w1", "prompt": "w2"}"#.to_owned();
    let biased = r#"{"prompt": "w1", "max_tokens": 1, "logit_bias": {"1": 1, "1": 2}}"#.to_owned();
    let infinite = r#"{"prompt": "w1", "temperature": 1e999}"#.to_owned();
    for body in [deep, twice, biased, infinite] {
        let Fixture { runtime, client, .. } = fixture();
        let shown = body[..60.min(body.len())].to_owned();
        let answer = runtime.block_on(client.send(Client::request(Method::POST, "/v1/completions", body)));
        assert_eq!(answer.status, 400, "{shown}");
    }
}

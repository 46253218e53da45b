//! `/v1/chat/completions`.

use logitfuse::json;
use serde_json::Value;

use crate::common::family_server;

fn conversation(content: &Value) -> Value {
    json!({ "model": "static", "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": content }],
            "max_tokens": 10 })
}

/// The same conversation as a text to continue.
async fn as_completion(client: &crate::common::Client, text: &str) -> Value {
    // A chat template has written what special tokens there are.
    let tokens = client.post("/tokenize", &json!({ "prompt": text, "add_special_tokens": false })).await.good();
    let request = json!({ "model": "static", "prompt": tokens["tokens"], "max_tokens": 10, "logprobs": 2 });
    client.post("/v1/completions", &request).await.good()["choices"][0].clone()
}

#[tokio::test]
async fn a_conversation_is_what_the_chat_template_writes() {
    let (_server, client) = family_server();
    let expected = as_completion(&client, "<system>Be brief.\n<user>Hi there\n<assistant>").await;
    let parts = json!([{ "type": "text", "text": "Hi " }, { "type": "text", "text": "there" }]);
    for content in [json!("Hi there"), parts] {
        let answer = client.post("/v1/chat/completions", &conversation(&content)).await.good();
        assert_eq!(answer["object"], "chat.completion");
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["message"]["role"], &choice["message"]["content"]),
            (&json!("assistant"), &expected["text"])
        );
        assert_eq!(choice["finish_reason"], expected["finish_reason"]);
        assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 5);
    }
    let mut loud = conversation(&json!("Hi there"));
    loud["chat_template_kwargs"] = json!({ "loud": true });
    let answer = client.post("/v1/chat/completions", &loud).await.good();
    let expected = as_completion(&client, "<system>Be brief.\n<user>Hi there\nLOUD <assistant>").await;
    assert_eq!(answer["choices"][0]["message"]["content"], expected["text"]);
}

#[tokio::test]
async fn log_probabilities_come_with_bytes_that_join_to_the_content() {
    let (_server, client) = family_server();
    let expected = as_completion(&client, "<system>Be brief.\n<user>Hi there\n<assistant>").await;
    let mut request = conversation(&json!("Hi there"));
    request["logprobs"] = json!(true);
    request["top_logprobs"] = json!(2);
    let answer = client.post("/v1/chat/completions", &request).await.good();
    let choice = &answer["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|b| u8::try_from(b.as_u64().unwrap()).unwrap()))
        .collect();
    assert_eq!(choice["message"]["content"], String::from_utf8(bytes).unwrap());
    let values: Vec<&Value> = content.iter().map(|token| &token["logprob"]).collect();
    let legacy = expected["logprobs"]["token_logprobs"].as_array().unwrap();
    assert!(!values.is_empty() && values.iter().zip(legacy).all(|(one, other)| *one == other));
    assert!(content.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));

    request["stream"] = json!(true);
    request["stream_options"] = json!({ "include_usage": true });
    let mut events = client.post("/v1/chat/completions", &request).await.events();
    assert_eq!(events.pop().unwrap()["usage"], answer["usage"]);
    assert_eq!(events[0]["object"], "chat.completion.chunk");
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let deltas = events.iter().map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    assert_eq!(choice["message"]["content"], deltas.collect::<String>());
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(choice["logprobs"]["content"], json!(streamed));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], choice["finish_reason"]);
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    let (_server, client) = family_server();
    for (field, value, param) in [
        ("tools", json!([{ "type": "function" }]), "tools"),
        ("tool_choice", json!("required"), "tool_choice"),
        ("response_format", json!({ "type": "json_object" }), "response_format"),
        ("modalities", json!(["audio"]), "modalities"),
        ("chat_template_kwargs", json!({ "quiet": true }), "chat_template_kwargs"),
        ("chat_template_kwargs", json!({ "messages": [] }), "chat_template_kwargs"),
        ("top_logprobs", json!(3), "top_logprobs"),
        ("max_completion_tokens", json!(3), "max_tokens"),
        ("messages", json!([]), "messages"),
        ("messages", json!([{ "role": "tool", "content": "x" }]), "messages[0].role"),
        ("messages", json!([{ "role": "user" }]), "messages[0].content"),
        ("messages", json!([{ "role": "user", "content": [{ "type": "image_url" }] }]), "messages[0].content"),
        ("messages", json!([{ "role": "user", "content": "x", "name": "me" }]), "messages[0].name"),
        ("functions", json!([]), "functions"),
    ] {
        let mut request = conversation(&json!("Hi"));
        request[field] = value;
        let error = client.post("/v1/chat/completions", &request).await.refused(400);
        assert_eq!(error["param"], param, "{field}: {error}");
    }
    let mut fits = conversation(&json!("Hi"));
    fits["tools"] = json!([]);
    fits["tool_choice"] = json!("none");
    fits["response_format"] = json!({ "type": "text" });
    fits["max_completion_tokens"] = json!(10);
    client.post("/v1/chat/completions", &fits).await.good();
}

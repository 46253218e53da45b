//! Every other route, keys, hosts, and what is no route.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::Method;
use logitfuse::json;
use logitfuse_server::{ApiKeys, Server, ServerOptions};

use crate::common::{Client, family, family_server, started};

const KEY: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn models_tell_what_they_are_and_no_path() {
    let (_server, client) = family_server();
    let answer = client.get("/v1/models").await.good();
    let models = answer["data"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((names, &answer["object"]), (vec!["large", "static", "dynamic", "small"], &json!("list")));
    let fused = &models[1]["fusion"];
    assert_eq!((&fused["strategy"], &fused["parameters"]), (&json!("static-proxy"), &json!({ "alpha": 0.8 })));
    assert_eq!(fused["roles"], json!({ "base": "large", "expert": "qa", "anti": "small" }));
    assert_eq!(fused["parameters_schema"]["type"], "object");
    assert!(
        fused["sources"]["qa"].is_object()
            && models[2]["fusion"]["trace"].as_array().unwrap().contains(&json!("alpha"))
    );
    assert_eq!(models[0]["object"], "model");
    assert!(!answer.to_string().contains("examples/family"), "{answer}");
    assert_eq!(client.get("/v1/models/static").await.good(), models[1]);
    assert_eq!(client.get("/v1/models/none").await.refused(404)["code"], "model_not_found");
}

#[tokio::test]
async fn tokens_come_back_as_the_text() {
    let (_server, client) = family_server();
    let text = "The food of the tamcub is fruit.";
    let ask = json!({ "prompt": text, "add_special_tokens": false, "return_token_strs": true });
    let tokens = client.post("/tokenize", &ask).await.good();
    assert_eq!(tokens["count"], tokens["tokens"].as_array().unwrap().len());
    let strings = tokens["token_strs"].as_array().unwrap().iter().map(|token| token.as_str().unwrap());
    assert_eq!(strings.collect::<String>(), text);
    let back = client.post("/detokenize", &json!({ "model": "small", "tokens": tokens["tokens"] })).await.good();
    assert_eq!(back["prompt"], text);
    let plain = json!({ "content": text, "add_special_tokens": false });
    assert_eq!(client.post("/tokenize", &plain).await.good()["tokens"], tokens["tokens"]);
    client.post("/tokenize", &json!({})).await.refused(400);
    client.post("/detokenize", &json!({ "tokens": [4_000_000_000_u32] })).await.refused(400);
    assert_eq!(client.get("/tokenizer_info").await.good()["eos_token"], "<|end|>");
}

#[tokio::test]
async fn the_open_inference_protocol_says_what_completions_say() {
    let (_server, client) = family_server();
    let prompt = "Question: What is the food of the tamcub?\nAnswer:";
    let parameters = json!({ "max_tokens": 8, "temperature": 0.7, "seed": 9, "stop": ["\n"] });
    let mut plain = parameters.clone();
    plain["model"] = json!("dynamic");
    plain["prompt"] = json!(prompt);
    let expected = client.post("/v1/completions", &plain).await.good()["choices"][0].clone();
    let request = json!({ "id": "7", "text_input": prompt, "parameters": parameters });
    let answer = client.post("/v2/models/dynamic/generate", &request).await.good();
    assert_eq!(
        (&answer["text_output"], &answer["model_name"], &answer["id"]),
        (&expected["text"], &json!("dynamic"), &json!("7"))
    );
    let stream = client.post("/v2/models/dynamic/generate_stream", &request).await;
    let events: Vec<serde_json::Value> =
        stream.body.split("\n\n").filter_map(|e| serde_json::from_str(e.strip_prefix("data: ")?).ok()).collect();
    let text: String = events.iter().map(|event| event["text_output"].as_str().unwrap()).collect();
    assert_eq!(
        (&expected["text"], &events.last().unwrap()["finish_reason"]),
        (&json!(text), &expected["finish_reason"])
    );
    client.post("/v2/models/none/generate", &request).await.refused(404);
    let unknown = json!({ "text_input": prompt, "parameters": { "beams": 2 } });
    assert_eq!(client.post("/v2/models/large/generate", &unknown).await.refused(400)["param"], "parameters.beams");
    assert_eq!(client.get("/v2/models/large").await.good()["name"], "large");
    assert_eq!(client.get("/v2/models/large/ready").await.good()["ready"], true);
    assert_eq!(client.get("/v2").await.good()["name"], "logitfuse");
}

#[tokio::test]
async fn probes_metrics_the_page_and_the_document_are_there() {
    let (_server, client) = family_server();
    for path in ["/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"] {
        client.get(path).await.good();
    }
    let request = json!({ "model": "static", "prompt": "The ", "max_tokens": 4, "ignore_eos": true });
    client.post("/v1/completions", &request).await.good();
    assert!((client.metric("logitfuse_generated_tokens_total").await - 4.0).abs() < 0.5);
    assert!((client.metric("logitfuse_time_to_first_token_seconds_count").await - 1.0).abs() < 0.5);
    assert!((client.metric("logitfuse_inter_token_latency_seconds_count").await - 3.0).abs() < 0.5);
    assert!(client.metric("logitfuse_source_seconds_total").await > 0.0);
    let metrics = client.get("/metrics").await.body;
    assert!(metrics.contains(r#"logitfuse_requests_total{route="/v1/completions",status="200"} 1"#), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));

    let page = client.get("/").await;
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html") && page.body.contains("<html"));
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(client.get("/assets/app.js").await.status, 200);
    client.get("/assets/..%2f..%2fCargo.toml").await.refused(404);

    let document = client.get("/openapi.json").await.good();
    assert_eq!(document["openapi"], "3.1.0");
    // What the document lists is there, whatever it answers.
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = client.send(Client::request(method, &path.replace("{model}", "large"), "{}")).await;
            assert!(![404, 405, 500].contains(&answer.status.as_u16()), "{path} {}", answer.body);
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_one_form() {
    let (_server, client) = family_server();
    assert_eq!(client.get("/v1/nothing").await.refused(404)["code"], "not_found");
    assert_eq!(client.get("/v1/completions").await.refused(405)["code"], "method_not_allowed");
    for body in ["", "{", "[1]", "null", "\"x\"", "{\"prompt\": \"a\"} more", "{\"prompt\": \"\\ud800\"}"] {
        let answer = client.send(Client::request(Method::POST, "/v1/completions", body)).await;
        answer.refused(400);
    }
    let mut typed = Client::request(Method::POST, "/v1/completions", "{}");
    typed.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    client.send(typed).await.refused(415);
    let large = format!("{{\"prompt\": \"{}\"}}", "x".repeat(5 << 20));
    client.send(Client::request(Method::POST, "/v1/completions", large)).await.refused(413);
}

#[tokio::test]
async fn a_name_that_a_client_gives_its_request_comes_back_if_it_is_sound() {
    let (_server, client) = family_server();
    for (given, kept) in [("my-request.1", true), ("no spaces here", false), ("", false)] {
        let mut request = Client::request(Method::GET, "/health", "");
        request.headers_mut().insert("x-request-id", given.parse().unwrap());
        let answer = client.send(request).await;
        assert_eq!(answer.headers["x-request-id"] == given, kept, "{given}");
    }
}

#[tokio::test]
async fn keys_gate_everything_but_probes_and_the_page() {
    let mut options = ServerOptions::default();
    options.keys = ApiKeys::from_text(KEY).unwrap();
    let (_server, client) = started(family(), options);
    for (path, open) in [
        ("/health/live", true),
        ("/health/ready", true),
        ("/v2/health/live", true),
        ("/", true),
        ("/assets/style.css", true),
        ("/v1/models", false),
        ("/metrics", false),
        ("/openapi.json", false),
        ("/tokenizer_info", false),
        ("/v2/models/large", false),
        ("/nothing", false),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status == 200, open, "{path}");
        if !open {
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert_eq!(answer.refused(401)["code"], "invalid_api_key");
        }
    }
    let request = json!({ "model": "large", "prompt": "a", "max_tokens": 1 });
    client.post("/v1/completions", &request).await.refused(401);
    let mut keyed = Client::request(Method::POST, "/v1/completions", request.to_string());
    keyed.headers_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
    client.send(keyed).await.good();
}

#[tokio::test]
async fn a_loopback_server_answers_to_its_own_names_alone() {
    let (_server, client) = family_server();
    for (host, allowed) in [("localhost:8080", true), ("127.0.0.1", true), ("evil.example", false)] {
        let mut request = Client::request(Method::GET, "/v1/models", "");
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(client.send(request).await.status == 200, allowed, "{host}");
    }
}

#[test]
fn strangers_are_not_let_in_without_keys() {
    let mut options = ServerOptions::default();
    options.address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let error = Server::new(family(), options.clone()).unwrap_err();
    assert!(error.help().unwrap().contains("--api-key-file"), "{error}");
    options.keys = ApiKeys::from_text(KEY).unwrap();
    Server::new(family(), options).unwrap();
    let mut twice = family();
    twice[1].0 = "large".to_owned();
    assert!(Server::new(twice, ServerOptions::default()).is_err());
    assert!(Server::new(Vec::new(), ServerOptions::default()).is_err());
}

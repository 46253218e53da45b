//! Too many requests, clients that go away or are slow, and a server that ends.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use axum::http::Method;
use logitfuse::json;
use logitfuse_server::ServerOptions;
use tower::ServiceExt;

use crate::common::{Client, Opener, started, words};

fn small() -> ServerOptions {
    let mut options = ServerOptions::default();
    (options.max_batch, options.queue) = (1, 1);
    options.address.set_port(0);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let (pipeline, gate) = words();
    let (_server, client) = started(vec![("words".to_owned(), pipeline)], small());
    let opener = Opener(gate);
    let request = json!({ "prompt": "w1 w2", "max_tokens": 3, "seed": 1, "temperature": 1.0, "ignore_eos": true });
    let accepted: Vec<_> = (0..2)
        .map(|_| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { client.post("/v1/completions", &request).await })
        })
        .collect();
    client.wait_for_sequences(2.0).await;
    for stream in [false, true] {
        let mut refused = request.clone();
        refused["stream"] = json!(stream);
        let answer = client.post("/v1/completions", &refused).await;
        assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        assert_eq!(answer.refused(429)["code"], "queue_full");
    }
    // More than ever fits is wrong, however long one waits.
    let mut never = request.clone();
    never["n"] = json!(3);
    client.post("/v1/completions", &never).await.refused(400);
    drop(opener);
    let mut texts = Vec::new();
    for answer in accepted {
        texts.push(answer.await.unwrap().good()["choices"][0]["text"].clone());
    }
    assert_eq!(texts[0], texts[1]);
    client.post("/v1/completions", &request).await.good();
    client.wait_for_sequences(0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cancels_its_request() {
    for stream in [false, true] {
        let (pipeline, gate) = words();
        let (_server, client) = started(vec![("words".to_owned(), pipeline)], small());
        let opener = Opener(gate);
        let request = json!({ "prompt": "w1", "max_tokens": 4096, "ignore_eos": true, "stream": stream });
        if stream {
            let request = Client::request(Method::POST, "/v1/completions", request.to_string());
            let response = client.0.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200);
            client.wait_for_sequences(1.0).await;
            drop(response);
        } else {
            let (asking, request) = (client.clone(), request.clone());
            let asked = tokio::spawn(async move { asking.post("/v1/completions", &request).await });
            client.wait_for_sequences(1.0).await;
            asked.abort();
            assert!(asked.await.unwrap_err().is_cancelled());
        }
        drop(opener);
        client.wait_for_sequences(0.0).await;
        assert!(client.metric("logitfuse_generated_tokens_total").await < 4096.0);
        client.post("/v1/completions", &json!({ "prompt": "w1", "max_tokens": 1 })).await.good();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_too_long_is_given_up() {
    let (pipeline, gate) = words();
    let mut options = small();
    options.limits.request_timeout = Duration::from_millis(50);
    let (_server, client) = started(vec![("words".to_owned(), pipeline)], options);
    let opener = Opener(gate);
    let mut request = json!({ "prompt": "w1", "max_tokens": 8 });
    assert_eq!(client.post("/v1/completions", &request).await.refused(504)["code"], "request_timeout");
    request["stream"] = json!(true);
    assert!(client.post("/v1/completions", &request).await.body.contains("request_timeout"));
    drop(opener);
    client.wait_for_sequences(0.0).await;
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    // A test that waits for ever says nothing.
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

fn post(address: std::net::SocketAddr, body: &str) -> TcpStream {
    let mut stream = connect(address);
    let head =
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_answers_what_it_accepted() {
    let (pipeline, gate) = words();
    let (server, client) = started(vec![("words".to_owned(), pipeline)], small());
    let (handle, listener) = (server.handle(), server.bind().unwrap());
    let address = listener.local_addr().unwrap();
    let running = std::thread::spawn(move || server.run(listener));
    let opener = Opener(gate);
    let body = r#"{"prompt": "w1 w2", "max_tokens": 4, "ignore_eos": true}"#;
    let whole = post(address, body);
    let streamed = post(address, &body.replace("\"max", "\"stream\": true, \"max"));
    client.wait_for_sequences(2.0).await;
    handle.drain();
    let refused = answer(post(address, body));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("shutting_down"), "{refused}");
    client.get("/health/ready").await.refused(503);
    client.get("/health/live").await.good();
    drop(opener);
    let (whole, streamed) = (answer(whole), answer(streamed));
    assert!(whole.starts_with("HTTP/1.1 200") && whole.contains("\"completion_tokens\":4"), "{whole}");
    assert!(streamed.contains("data: [DONE]"), "{streamed}");
    running.join().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn slow_and_large_bodies_are_cut_off() {
    let (pipeline, gate) = words();
    let _opener = Opener(gate);
    let mut options = small();
    options.limits.body_timeout = Duration::from_millis(100);
    options.limits.header_timeout = Duration::from_millis(100);
    options.limits.body_bytes = 1000;
    let (server, _) = started(vec![("words".to_owned(), pipeline)], options);
    let (handle, listener) = (server.handle(), server.bind().unwrap());
    let address = listener.local_addr().unwrap();
    let running = std::thread::spawn(move || server.run(listener));

    let mut slow_body = connect(address);
    write!(slow_body, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{").unwrap();
    assert!(answer(slow_body).starts_with("HTTP/1.1 408"));
    let mut slow_head = connect(address);
    write!(slow_head, "GET /health HTTP/1.1\r\nHost: loc").unwrap();
    let answered = answer(slow_head);
    assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 408"), "{answered}");
    // Without a length, what comes is counted.
    let mut endless = connect(address);
    write!(endless, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    write!(endless, "400\r\n{}\r\n", " ".repeat(0x400)).unwrap();
    assert!(answer(endless).starts_with("HTTP/1.1 413"));
    assert!(answer(post(address, &" ".repeat(2000))).starts_with("HTTP/1.1 413"));
    handle.drain();
    running.join().unwrap().unwrap();
}

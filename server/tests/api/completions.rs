//! `/v1/completions`: shapes, seeds, streams.

use logitfuse::{Pipeline, Sampling, json};
use serde_json::Value;

use crate::common::{family, family_server};

const PROMPTS: [&str; 3] = ["Question: What is the food of the tamcub?\nAnswer:", "The ", "Once there was"];

/// What the engine gives for a prompt by itself.
fn offline(pipeline: &Pipeline, prompt: &str, sampling: &Sampling, tokens: usize) -> (String, Vec<u32>) {
    let prompts = vec![pipeline.tokenizer().encode(prompt, true).unwrap(); pipeline.roles().len()];
    let request = logitfuse::Request::new(prompts)
        .max_new_tokens(tokens)
        .sampling(sampling.clone())
        .text(pipeline.detokenize(&[]));
    let generation = pipeline.decoder().generate_one(&request).unwrap();
    (generation.text, generation.tokens)
}

fn sampled(seed: u64) -> Sampling {
    Sampling { temperature: 0.9, top_p: 0.95, seed, ..Sampling::default() }
}

#[tokio::test]
async fn an_answer_has_the_form_that_clients_read() {
    let (_server, client) = family_server();
    let answer =
        client.post("/v1/completions", &json!({ "model": "large", "prompt": PROMPTS, "max_tokens": 5, "n": 2 })).await;
    assert!(answer.headers["x-request-id"].to_str().unwrap().len() > 8);
    let answer = answer.good();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("text_completion"), &json!("large")));
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-") && answer["created"].as_u64().unwrap() > 1_500_000_000);
    let choices = answer["choices"].as_array().unwrap();
    let indices: Vec<u64> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    for choice in choices {
        assert!(choice["text"].is_string() && choice["logprobs"].is_null() && choice.get("fusion").is_none());
        assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
    }
    // Greedy choices of one prompt are alike.
    assert_eq!(choices[0]["text"], choices[1]["text"]);
    let tokenizer = family()[0].1.tokenizer().clone();
    let expected: usize = PROMPTS.iter().map(|prompt| tokenizer.encode(prompt, true).unwrap().len()).sum();
    let usage = &answer["usage"];
    assert_eq!(usage["prompt_tokens"], expected);
    assert_eq!(
        usage["total_tokens"].as_u64(),
        usage["completion_tokens"].as_u64().map(|generated| generated + expected as u64)
    );
}

#[tokio::test]
async fn several_fusions_in_one_batch_say_what_each_says_offline() {
    let (_server, client) = family_server();
    let mut asked = tokio::task::JoinSet::new();
    for (name, pipeline) in family() {
        for (seed, prompt) in (40..).zip(PROMPTS) {
            let (client, name, pipeline) = (client.clone(), name.clone(), pipeline.clone());
            asked.spawn(async move {
                let request = json!({
                    "model": name, "prompt": prompt, "max_tokens": 12, "temperature": 0.9, "top_p": 0.95, "seed": seed,
                });
                let answer = client.post("/v1/completions", &request).await.good();
                (pipeline, prompt, seed, answer["choices"][0]["text"].as_str().unwrap().to_owned())
            });
        }
    }
    let answers = asked.join_all().await;
    assert_eq!(answers.len(), 12);
    for (pipeline, prompt, seed, text) in answers {
        assert_eq!(text, offline(&pipeline, prompt, &sampled(seed), 12).0);
    }
}

#[tokio::test]
async fn choice_i_has_the_seed_plus_i_and_streams_as_it_comes_at_once() {
    let (_server, client) = family_server();
    let (_, pipeline) = family().swap_remove(1);
    let mut request = json!({
        "model": "static", "prompt": [PROMPTS[1], PROMPTS[2]], "n": 3, "max_tokens": 10, "temperature": 0.9, "top_p": 0.95,
        "seed": 5, "logprobs": 2,
    });
    let whole = client.post("/v1/completions", &request).await.good();
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let expected = offline(&pipeline, PROMPTS[1 + index / 3], &sampled(5 + index as u64 % 3), 10);
        assert_eq!(choice["text"], expected.0);
        assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), expected.1.len());
    }
    request["stream"] = json!(true);
    request["stream_options"] = json!({ "include_usage": true });
    let answer = client.post("/v1/completions", &request).await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let mut events = answer.events();
    let usage = events.pop().unwrap();
    assert_eq!((&usage["usage"], &usage["choices"]), (&whole["usage"], &json!([])));
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let pieces: Vec<&Value> =
            events.iter().map(|event| &event["choices"][0]).filter(|c| c["index"] == index).collect();
        let joined = |get: &dyn Fn(&Value) -> &Value| -> Vec<Value> {
            pieces.iter().flat_map(|piece| get(piece).as_array().unwrap().clone()).collect()
        };
        let text: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
        assert_eq!(choice["text"], text);
        for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(choice["logprobs"][key], json!(joined(&|piece| &piece["logprobs"][key])), "{key}");
        }
        let ends: Vec<&Value> =
            pieces.iter().map(|piece| &piece["finish_reason"]).filter(|end| !end.is_null()).collect();
        assert_eq!(ends, [&choice["finish_reason"]]);
    }
}

#[tokio::test]
async fn without_a_seed_two_answers_differ() {
    let (_server, client) = family_server();
    let request = json!({ "model": "large", "prompt": "The ", "max_tokens": 30, "temperature": 2.0, "n": 1 });
    let first = client.post("/v1/completions", &request).await.good();
    let second = client.post("/v1/completions", &request).await.good();
    assert_ne!(first["choices"][0]["text"], second["choices"][0]["text"]);
}

#[tokio::test]
async fn a_stop_string_and_what_follows_it_are_no_part_of_the_text() {
    let (_server, client) = family_server();
    let ask =
        |stop: Value| json!({ "model": "large", "prompt": PROMPTS[0], "max_tokens": 24, "logprobs": 0, "stop": stop });
    let free = client.post("/v1/completions", &ask(Value::Null)).await.good();
    let text = free["choices"][0]["text"].as_str().unwrap();
    // Cut in the middle of a word, most likely of a token.
    let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
    let stop: String = text[middle..].chars().take(3).collect();
    for form in [json!(stop), json!([stop, "never said"])] {
        let stopped = client.post("/v1/completions", &ask(form)).await.good();
        let choice = &stopped["choices"][0];
        assert_eq!(choice["text"], text.split(&stop).next().unwrap());
        assert_eq!(choice["finish_reason"], "stop");
        let tokens: String =
            choice["logprobs"]["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!(choice["text"], tokens);
    }
}

#[tokio::test]
async fn a_bias_and_penalties_reach_the_engine() {
    let (_server, client) = family_server();
    let (_, pipeline) = family().swap_remove(0);
    let (_, tokens) = offline(&pipeline, "The ", &Sampling::default(), 1);
    let bias: serde_json::Map<String, Value> = [(tokens[0].to_string(), json!(-100))].into_iter().collect();
    let request = json!({ "model": "large", "prompt": "The ", "max_tokens": 6, "temperature": 0, "logit_bias": bias,
                          "frequency_penalty": 1.5, "presence_penalty": 0.5 });
    let answer = client.post("/v1/completions", &request).await.good();
    let sampling = Sampling {
        logit_bias: vec![(tokens[0], -100.0)],
        frequency_penalty: 1.5,
        presence_penalty: 0.5,
        ..Sampling::default()
    };
    assert_eq!(answer["choices"][0]["text"], offline(&pipeline, "The ", &sampling, 6).0);
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    let (_server, client) = family_server();
    for (field, value, param) in [
        ("best_of", json!(4), "best_of"),
        ("suffix", json!("end"), "suffix"),
        ("grammar", json!("x"), "grammar"),
        ("n", json!(0), "n"),
        ("n", json!(1000), "n"),
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!(1_000_000), "max_tokens"),
        ("max_tokens", json!(-1), "max_tokens"),
        ("logprobs", json!(1000), "logprobs"),
        ("temperature", json!(-0.5), "temperature"),
        ("top_p", json!(0), "top_p"),
        ("logit_bias", json!({ "x": 1 }), "logit_bias"),
        ("logit_bias", json!({ "99999999": 1 }), "logit_bias"),
        ("stop", json!(vec!["a"; 50]), "stop"),
        ("stop", json!(""), "stop"),
        ("prompt", json!([]), "prompt"),
        ("prompt", json!([[1], "a"]), "prompt[1]"),
        ("prompt", json!([9_999_999]), "prompt"),
        ("prompt", json!(vec![5; 4000]), "prompt"),
        ("stream_options", json!({ "x": 1 }), "stream_options.x"),
    ] {
        let mut request = json!({ "model": "large", "prompt": "a", "max_tokens": 2 });
        request[field] = value;
        let error = client.post("/v1/completions", &request).await.refused(400);
        assert_eq!(error["param"], param, "{field}: {error}");
    }
    let error = client.post("/v1/completions", &json!({ "model": "huge", "prompt": "a" })).await.refused(404);
    assert_eq!(error["code"], "model_not_found");
    client.post("/v1/completions", &json!({ "prompt": "a" })).await.refused(400);
    let fits = json!({ "model": "large", "prompt": "a", "max_tokens": 2, "best_of": 1, "suffix": null, "user": "me" });
    client.post("/v1/completions", &fits).await.good();
}

//! Echo with log-probabilities: what evaluations score by.

use logitfuse::json;
use serde_json::Value;

use crate::common::{Client, family, family_server};

const TEXT: &str = "Question: What is the food of the tamcub?\nAnswer: The answer is fruit.";

fn numbers(choice: &Value) -> Vec<Option<f64>> {
    choice["logprobs"]["token_logprobs"].as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// Checks what holds of every echo with log-probabilities, and gives back how many tokens it has.
fn check(choice: &Value, top: usize) -> usize {
    let logprobs = &choice["logprobs"];
    let list = |key: &str| logprobs[key].as_array().unwrap().clone();
    let tokens: Vec<String> = list("tokens").iter().map(|token| token.as_str().unwrap().to_owned()).collect();
    assert_eq!(choice["text"], tokens.concat());
    let mut characters = 0;
    for (token, offset) in tokens.iter().zip(list("text_offset")) {
        assert_eq!(offset, characters);
        characters += token.chars().count();
    }
    let values = numbers(choice);
    let tops = list("top_logprobs");
    assert_eq!((values.len(), tops.len(), list("text_offset").len()), (tokens.len(), tokens.len(), tokens.len()));
    assert!(values[0].is_none() && tops[0].is_null());
    for (value, top_of) in values.iter().zip(&tops).skip(1) {
        let value = value.expect("every token but the first has a log-probability");
        assert!(value <= 0.0 && value.is_finite());
        let most: Vec<f64> = top_of.as_object().unwrap().values().map(|v| v.as_f64().unwrap()).collect();
        assert!((1..=top + 1).contains(&most.len()), "{top_of}");
        // A token that is the best one has the very number of the best one.
        assert!(most.iter().any(|other| other.to_bits() == value.to_bits()), "{value} {top_of}");
    }
    tokens.len()
}

async fn ask(client: &Client, model: &str, prompt: &Value, max_tokens: u64, top: usize) -> Value {
    let request = json!({ "model": model, "prompt": prompt, "temperature": 0, "max_tokens": max_tokens, "logprobs": top,
                          "seed": 1234, "echo": true });
    client.post("/v1/completions", &request).await.good()
}

#[tokio::test]
async fn every_token_has_one_log_probability_and_the_engines() {
    let (_server, client) = family_server();
    for (name, pipeline) in family() {
        let ids = pipeline.tokenizer().encode(TEXT, true).unwrap();
        // A token that the tokenizer puts before a text is none of the text's.
        let added = ids.len() - pipeline.tokenizer().encode(TEXT, false).unwrap().len();
        let first = vec![vec![ids[0]]; pipeline.roles().len()];
        let request = logitfuse::ScoreRequest::new(first, [ids[1..].to_vec()]);
        let expected = pipeline.decoder().score(&request, &logitfuse::Cancel::new()).unwrap().remove(0);
        for prompt in [json!(TEXT), json!(ids), json!([ids, [ids[0]]])] {
            let added = if prompt.is_string() { added } else { 0 };
            let length = ids.len() - added;
            for (max_tokens, most) in [(0, 0), (1, 1), (3, 3)] {
                let answer = ask(&client, &name, &prompt, max_tokens, 1).await;
                let choice = &answer["choices"][0];
                let count = check(choice, 1);
                assert!((length..=length + most).contains(&count), "{name} {count}");
                if max_tokens == 1 {
                    // One position more than the prompt has, whatever is there.
                    assert_eq!(count, length + 1);
                }
                let values = numbers(choice);
                let sum: f64 = values[1..length].iter().map(|value| value.unwrap()).sum();
                let expected: f64 = expected.tokens[added..].iter().map(|token| token.log_prob).sum();
                assert!((sum - expected).abs() < 1e-9, "{name}: {sum} {expected}");
                if let Some(alone) = answer["choices"].get(1) {
                    assert_eq!(numbers(alone).len(), 1 + if max_tokens == 1 { 1 } else { check(alone, 1) - 1 });
                }
            }
        }
    }
}

#[tokio::test]
async fn the_token_that_comes_with_a_score_is_the_one_that_is_generated() {
    let (_server, client) = family_server();
    // The last of these prompts ends where the model ends its text.
    for prompt in ["The ", "Question: What is the food of the tamcub?\nAnswer:", TEXT, "fruit.\n"] {
        let scored = ask(&client, "dynamic", &json!(prompt), 1, 2).await;
        let plain = json!({ "model": "dynamic", "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 2 });
        let generated = client.post("/v1/completions", &plain).await.good();
        let (scored, generated) = (&scored["choices"][0], &generated["choices"][0]);
        let echoed = scored["text"].as_str().unwrap();
        assert_eq!(echoed, format!("{prompt}{}", generated["text"].as_str().unwrap()));
        assert_eq!(scored["finish_reason"], generated["finish_reason"]);
        assert_eq!(generated["logprobs"]["tokens"].as_array().unwrap().len(), 1);
        let last = |choice: &Value| numbers(choice).pop().unwrap().unwrap();
        assert!((last(scored) - last(generated)).abs() < 1e-4);
    }
}

#[tokio::test]
async fn an_echo_without_log_probabilities_is_the_text() {
    let (_server, client) = family_server();
    let request = json!({ "model": "large", "prompt": [TEXT, "The "], "max_tokens": 0, "echo": true });
    let answer = client.post("/v1/completions", &request).await.good();
    assert_eq!((&answer["choices"][0]["text"], &answer["choices"][1]["text"]), (&json!(TEXT), &json!("The ")));
    assert!(answer["choices"][0]["logprobs"].is_null());
    assert_eq!(answer["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn every_choice_of_a_prompt_has_its_echo_and_streams_it_first() {
    let (_server, client) = family_server();
    let request = json!({ "model": "static", "prompt": ["The ", "Once "], "max_tokens": 4, "temperature": 1.0, "seed": 3,
                          "n": 2, "echo": true, "logprobs": 3, "stream": true });
    let events = client.post("/v1/completions", &request).await.events();
    for index in 0..4 {
        let mut pieces = events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
        let first = pieces.next().unwrap();
        assert_eq!(first["text"], ["The ", "Once "][index / 2]);
        assert!(check(first, 3) >= 1);
        assert!(
            pieces.all(|piece| piece["logprobs"]["token_logprobs"].as_array().unwrap().iter().all(Value::is_number))
        );
    }
}

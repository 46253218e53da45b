//! What may be asked of the fusion itself.

use std::sync::Arc;

use logitfuse::{
    FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, Result, RoleSpec, SessionInfo, StrategyInfo, json,
};
use logitfuse_server::ServerOptions;
use serde_json::Value;

use crate::common::{Client, Opener, family, family_server, gated, started};

const PROMPT: &str = "Question: What is the food of the tamcub?\nAnswer:";

async fn ask(client: &Client, model: &str, fusion: &Value) -> Value {
    let request =
        json!({ "model": model, "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "logprobs": 0, "fusion": fusion });
    client.post("/v1/completions", &request).await.good()["choices"][0].clone()
}

#[tokio::test]
async fn parameters_of_a_request_are_those_of_its_strategy() {
    let (_server, client) = family_server();
    let (_, pipeline) = family().swap_remove(1);
    for alpha in [0.0, 0.3, 1.7] {
        let choice = ask(&client, "static", &json!({ "parameters": { "alpha": alpha } })).await;
        let fusion =
            pipeline.fusion_with(logitfuse::strategy("static-proxy", &json!({ "alpha": alpha })).unwrap()).unwrap();
        let mut request = pipeline.request(PROMPT).unwrap().max_new_tokens(6).fusion(&fusion);
        request.prompts = vec![pipeline.tokenizer().encode(PROMPT, true).unwrap(); 3];
        let expected = pipeline.decoder().generate_one(&request).unwrap();
        assert_eq!(choice["text"], expected.text, "{alpha}");
        let sum: f64 =
            choice["logprobs"]["token_logprobs"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).sum();
        assert!((sum - expected.log_prob).abs() < 1e-9, "{alpha}");
    }
    // The model's own parameters are as they were: alpha is 0.8 there, and 0 is the base alone.
    let own = ask(&client, "static", &json!({})).await;
    let same = ask(&client, "static", &json!({ "parameters": { "alpha": 0.8 } })).await;
    assert_eq!(own["logprobs"], same["logprobs"]);
    let none = ask(&client, "static", &json!({ "parameters": { "alpha": 0.0 } })).await;
    assert_eq!(none["logprobs"], ask(&client, "large", &json!({})).await["logprobs"]);
    assert_ne!(none["logprobs"], own["logprobs"]);
}

#[tokio::test]
async fn a_parameter_that_is_wrong_is_named_by_its_pointer() {
    let (_server, client) = family_server();
    for (model, fusion, param) in [
        ("static", json!({ "parameters": { "alpha": "much" } }), "fusion.parameters/alpha"),
        ("static", json!({ "parameters": { "strength": 1 } }), "fusion.parameters"),
        ("large", json!({ "parameters": { "alpha": 1 } }), "fusion.parameters/alpha"),
        ("static", json!({ "top_choices": 1000 }), "fusion.top_choices"),
        ("static", json!({ "strategy": "plugin:evil" }), "fusion.strategy"),
        ("static", json!({ "roles": { "base": "/etc/passwd" } }), "fusion.roles"),
    ] {
        let request = json!({ "model": model, "prompt": PROMPT, "fusion": fusion });
        let error = client.post("/v1/completions", &request).await.refused(400);
        assert!(error["param"].as_str().unwrap().starts_with(param), "{error}");
        assert!(!error["message"].as_str().unwrap().contains(".rs"), "{error}");
    }
}

#[tokio::test]
async fn every_token_tells_what_the_fusion_did() {
    let (_server, client) = family_server();
    let choice = ask(&client, "dynamic", &json!({ "trace": true, "top_choices": 3 })).await;
    let tokens = choice["fusion"]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), choice["logprobs"]["tokens"].as_array().unwrap().len());
    for (token, logprob) in tokens.iter().zip(choice["logprobs"]["token_logprobs"].as_array().unwrap()) {
        assert_eq!(&token["logprob"], logprob);
        assert!(token["id"].is_u64() && token["token"].is_string());
        assert!(token["trace"]["alpha"].as_f64().unwrap().is_finite());
        let sources = token["sources"].as_object().unwrap();
        assert_eq!(sources.keys().collect::<Vec<_>>(), ["anti", "base", "expert"]);
        for choices in sources.values() {
            let values: Vec<f64> = choices.as_array().unwrap().iter().map(|c| c["logprob"].as_f64().unwrap()).collect();
            assert!(values.len() == 3 && values.is_sorted_by(|a, b| a >= b), "{choices}");
        }
    }
    let traced = ask(&client, "dynamic", &json!({ "trace": true })).await;
    assert!(traced["fusion"]["tokens"][0].get("sources").is_none());
    assert!(ask(&client, "dynamic", &json!({})).await.get("fusion").is_none());
    assert!(client.metric("logitfuse_alpha_count").await >= 6.0);

    let request = json!({ "model": "dynamic", "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "stream": true,
                          "fusion": { "trace": true, "top_choices": 3 } });
    let events = client.post("/v1/completions", &request).await.events();
    let streamed: Vec<Value> =
        events.iter().flat_map(|event| event["choices"][0]["fusion"]["tokens"].as_array().unwrap().clone()).collect();
    assert_eq!(&streamed, tokens);
}

#[tokio::test]
async fn fields_fill_the_sources_own_templates() {
    let (_server, client) = family_server();
    let fields =
        json!({ "model": "large", "prompt": "Hi", "max_tokens": 4, "fusion": { "fields": { "topic": "food" } } });
    let with = client.post("/v1/completions", &fields).await.good();
    // The family's test template is a chat template, which the fields' prompt goes through.
    let chat = json!({ "model": "large", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 4 });
    let chat = client.post("/v1/chat/completions", &chat).await.good();
    assert_eq!(with["choices"][0]["text"], chat["choices"][0]["message"]["content"]);
    assert_eq!(with["usage"], chat["usage"]);
    for (field, value) in [("prompt", json!([1, 2])), ("echo", json!(true))] {
        let mut request = fields.clone();
        request[field] = value;
        client.post("/v1/completions", &request).await.refused(400);
    }
}

/// Fails at the third token of a text.
struct Failing(StrategyInfo);

#[derive(Clone)]
struct FailingState;

impl FusionStrategy for Failing {
    fn info(&self) -> &StrategyInfo {
        &self.0
    }
    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(FailingState))
    }
}

impl Memoryless for FailingState {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        if step.committed.len() == 2 {
            out.logits.fill(f32::NAN);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_strategy_that_fails_fails_its_own_requests_alone() {
    let (pipeline, gate) = gated(Arc::new(Failing(StrategyInfo::new("failing", [RoleSpec::one("base")]))));
    gate.open();
    let _opener = Opener(gate);
    let (_server, client) = started(vec![("words".to_owned(), pipeline)], ServerOptions::default());
    let ask = |tokens: u64| json!({ "prompt": "w1 w2", "max_tokens": tokens, "ignore_eos": true });
    let (short, long) = (ask(2), ask(8));
    let (one, two, three) = tokio::join!(
        client.post("/v1/completions", &short),
        client.post("/v1/completions", &long),
        client.post("/v1/completions", &short)
    );
    assert_eq!(one.good()["choices"], three.good()["choices"]);
    assert_eq!(two.refused(500)["code"], "strategy_failed");
    let mut stream = long.clone();
    stream["stream"] = json!(true);
    let answer = client.post("/v1/completions", &stream).await;
    let last = answer.body.trim_end().rsplit("data: ").next().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["error"]["code"], "strategy_failed");
    client.post("/v1/completions", &short).await.good();
    client.get("/health/live").await.good();
}

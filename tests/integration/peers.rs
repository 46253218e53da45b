//! A real model, and what others make of the same files: token ids of greedy decoding, log-probabilities of given texts.
//!
//! The peers are onnxruntime-genai and plain ONNX Runtime in Python, through `tests/peers/reference.py`, with the same
//! library version that our side loads.

use std::{path::Path, process::Command, sync::Arc};

use logitfuse_core::TokenId;
use logitfuse_engine::{BaseOnly, Cancel, Decoder, Request, Role, ScoreRequest};
use logitfuse_onnx::{KvChoice, ModelFolder, OnnxOptions, OnnxSource};
use logitfuse_text::Tokenizer;
use serde_json::Value;

use crate::support::{model, peer_python, runtime};

const PROMPTS: [&str; 5] = [
    "The capital of France is",
    "Once upon a time, in a village at the foot of a mountain, there lived",
    "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n",
    "<|im_start|>user\nName three colours of the rainbow.<|im_end|>\n<|im_start|>assistant\n",
    "2, 4, 8, 16,",
];
const NEW_TOKENS: usize = 64;

#[test]
fn greedy_decoding_equals_genai() {
    greedy_decoding_equals("genai-greedy", "smollm2-int8", KvChoice::Auto);
}

#[test]
fn greedy_decoding_equals_plain_onnxruntime() {
    greedy_decoding_equals("ort-greedy", "smollm2-int8", KvChoice::Auto);
}

/// The cache handed from call to call instead of shared: the policy of every graph without `GroupQueryAttention`.
#[test]
fn greedy_decoding_with_a_moved_cache_equals_plain_onnxruntime() {
    greedy_decoding_equals("ort-greedy", "smollm2-int8", KvChoice::PassThrough);
}

/// In one batch, as a server would: company changes nothing.
#[test]
fn greedy_decoding_in_a_batch_equals_genai() {
    let folder = model("smollm2-int8");
    let prompts = prompts(&folder);
    let requests: Vec<Request> = prompts.iter().map(|prompt| request(prompt)).collect();
    let mut engine = engine(&folder, KvChoice::Auto);
    let generations = engine.generate(&requests, &Cancel::new(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    let ours: Vec<Vec<TokenId>> = generations.into_iter().map(|generation| generation.tokens).collect();
    assert_same_tokens(&ours, &peer_tokens("genai-greedy", &folder, &prompts));
}

#[test]
fn scores_equal_the_log_probabilities_of_one_pass_in_plain_onnxruntime() {
    let folder = model("smollm2-fp32");
    let texts = prompts(&folder);
    let peer = ask("ort-logprobs", &folder, "--ids", &texts, &[]);
    let expected: Vec<Vec<f64>> = serde_json::from_value(peer["log_probs"].clone()).unwrap();
    let mut engine = engine(&folder, KvChoice::Auto);
    for (text, expected) in texts.iter().zip(&expected) {
        // The peer scores every token but the first, so the first is all of our prompt.
        let (prompt, continuation) = text.split_at(1);
        let request = ScoreRequest::new([prompt.to_vec()], [continuation.to_vec()]);
        let score = engine.score(&request, &Cancel::new()).unwrap().remove(0);
        assert_eq!(score.tokens.len(), expected.len());
        for (token, &expected) in score.tokens.iter().zip(expected) {
            approx::assert_abs_diff_eq!(token.log_prob, expected, epsilon = 1e-4);
        }
        approx::assert_abs_diff_eq!(score.log_prob, expected.iter().sum::<f64>(), epsilon = 1e-3);
    }
}

fn greedy_decoding_equals(command: &str, name: &str, kv: KvChoice) {
    let folder = model(name);
    let prompts = prompts(&folder);
    let mut engine = engine(&folder, kv);
    let ours: Vec<Vec<TokenId>> =
        prompts.iter().map(|prompt| engine.generate_one(&request(prompt)).unwrap().tokens).collect();
    assert_same_tokens(&ours, &peer_tokens(command, &folder, &prompts));
}

fn assert_same_tokens(ours: &[Vec<TokenId>], theirs: &[Vec<TokenId>]) {
    assert_eq!(ours, theirs);
    // Two empty answers would be equal too.
    assert!(ours.iter().map(Vec::len).sum::<usize>() > 2 * NEW_TOKENS, "{ours:?}");
}

fn engine(folder: &Path, kv: KvChoice) -> Decoder {
    let options = OnnxOptions { kv, ..OnnxOptions::default() };
    let source = OnnxSource::open(&runtime(), &ModelFolder::open(folder, None).unwrap(), &options).unwrap();
    let builder = Decoder::builder(Arc::new(BaseOnly::new())).source(Box::new(source));
    builder.roles([Role::new("base", 0)]).build().unwrap()
}

fn request(prompt: &[TokenId]) -> Request {
    Request::new([prompt.to_vec()]).max_new_tokens(NEW_TOKENS)
}

fn prompts(folder: &Path) -> Vec<Vec<TokenId>> {
    let tokenizer = Tokenizer::load(folder).unwrap();
    PROMPTS.iter().map(|prompt| tokenizer.encode(prompt, false).unwrap()).collect()
}

fn peer_tokens(command: &str, folder: &Path, prompts: &[Vec<TokenId>]) -> Vec<Vec<TokenId>> {
    let peer = ask(command, folder, "--prompt-ids", prompts, &["--tokens", &NEW_TOKENS.to_string()]);
    serde_json::from_value(peer["tokens"].clone()).unwrap()
}

/// Runs the peer with one `option` per list of ids and gives back the JSON that it prints.
fn ask(command: &str, folder: &Path, option: &str, lists: &[Vec<TokenId>], others: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/reference.py");
    let mut peer = Command::new(peer_python());
    peer.arg(script).arg(command).arg(folder).args(others);
    for ids in lists {
        let words: Vec<String> = ids.iter().map(ToString::to_string).collect();
        peer.args([option, &words.join(" ")]);
    }
    let output = peer.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

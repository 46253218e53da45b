//! What ends a text: stop strings that are or hold control tokens, ids of the configuration, the tokenizer's `eos_token`.

use std::fs;

use logitfuse_config::TaskConfig;
use logitfuse_eval::{Task, TaskRequest};
use logitfuse_pipeline::{Pipeline, PipelineOptions, RunConfig, strategy};
use logitfuse_replay::ScriptedSource;
use logitfuse_text::Tokenizer;
use serde_json::json;

/// Letters, a line break, and three control tokens.
const TOKENS: [&str; 8] = ["a", "b", "c", "Ċ", "<|im_start|>", "<|im_end|>", "<|stop|>", "?"];

/// A model that says these tokens whatever it is asked, then `?` for ever.
fn pipeline(said: &'static str, eos_token: Option<&str>, end: Option<u32>) -> Pipeline {
    let folder = tempfile::tempdir().unwrap();
    let ids = |token: &str| TOKENS.iter().position(|known| *known == token).unwrap();
    let added: Vec<_> = TOKENS[4..7]
        .iter()
        .map(|token| {
            json!({"id": ids(token), "content": token, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false})
        })
        .collect();
    let vocab: serde_json::Map<_, _> = TOKENS.iter().map(|token| ((*token).to_owned(), ids(token).into())).collect();
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({"added_tokens": added, "pre_tokenizer": level, "decoder": level,
                           "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = json!({ "eos_token": eos_token });
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::load(folder.path()).unwrap();

    let tokens = tokenizer.encode(said, false).unwrap();
    let source = ScriptedSource::from_fn("said", TOKENS.len(), move |prefix| {
        let next = tokens.get(prefix.len() - 1).copied().unwrap_or(7);
        (0..8).map(|id| if id == next { 9.0 } else { 0.0 }).collect()
    });
    let source = source.end_of_sequence(end);
    let mut options = PipelineOptions::default();
    options.run.max_new_tokens = 12;
    let strategy = strategy("none", &json!({})).unwrap();
    Pipeline::from_sources(options, strategy, [("base", Box::new(source) as _)], &tokenizer).unwrap()
}

#[test]
fn stop_strings_see_control_tokens_and_texts_do_not() {
    const SAID: &str = "ab<|im_end|>\nc<|im_start|>a<|im_end|>b";
    for (stop, text) in [
        (vec!["<|im_end|>"], "ab"),
        (vec!["b<|im_end|>\n"], "a"),
        (vec!["<|im_end|>\nc"], "ab"),
        (vec!["c<|im_start|>"], "ab\n"),
        (vec!["<|im_start|>a<|im_end|>"], "ab\nc"),
        (vec!["nothing", "a<|im"], "ab\nc"),
        (vec!["ab\nc"], "ab\ncab???"),
        (vec![], "ab\ncab???"),
    ] {
        let pipeline = pipeline(SAID, None, None);
        let run = RunConfig { stop: stop.iter().map(ToString::to_string).collect(), ..pipeline.run().clone() };
        let said = pipeline.with_run(run).generate("a").unwrap();
        assert_eq!(said.text, text, "{stop:?}");
        let reason = if text.ends_with('?') { "length" } else { "stop" };
        assert_eq!(said.finish.name(), reason);
    }
}

/// What a task's first item is answered with.
fn answered(pipeline: &Pipeline, change: impl FnOnce(&mut TaskConfig)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("items.jsonl");
    fs::write(&data, r#"{"prompt": "a", "gold": "ab"}"#).unwrap();
    let mut config = TaskConfig::new(&data);
    config.target = Some("gold".to_owned());
    config.max_new_tokens = Some(12);
    change(&mut config);
    let task = Task::load("t", &config).unwrap();
    let TaskRequest::Generate(request) = task.requests(pipeline, &task.docs()[0], 0).unwrap().remove(0) else {
        panic!("the task generates");
    };
    pipeline.decoder().generate_one(&request).unwrap().text
}

#[test]
fn tasks_end_where_lm_eval_ends() {
    const SAID: &str = "ab<|im_end|>c";
    let stop = |stops: &[&str]| {
        let stops = stops.iter().map(ToString::to_string).collect();
        move |config: &mut TaskConfig| config.stop = Some(stops)
    };
    let named = pipeline(SAID, Some("<|im_end|>"), Some(6));
    assert_eq!(answered(&named, stop(&[])), "ab");
    assert_eq!(answered(&named, |_| {}), "ab");
    assert_eq!(answered(&named, stop(&["b<"])), "a");
    // Not where the task's experiment asks to go on.
    let on = named.with_run(RunConfig { ignore_end_of_sequence: true, ..named.run().clone() });
    assert_eq!(answered(&on, stop(&[])), "abc????????");
    // Nothing names it.
    let unnamed = pipeline(SAID, None, Some(6));
    assert_eq!(answered(&unnamed, stop(&[])), "abc????????");
    assert_eq!(answered(&unnamed, stop(&["<|im_end|>"])), "ab");
}

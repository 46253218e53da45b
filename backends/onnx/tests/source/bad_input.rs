//! What can be wrong with a model folder, a runtime or a request: each is refused by name, with a line that helps.

use std::{fs, path::Path};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, SequenceId, Step, TokenId};
use logitfuse_onnx::{KvChoice, ModelFolder, OnnxOptions, OnnxSource, Provider, Runtime};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::{runtime, tiny};

fn open(path: &Path, options: &OnnxOptions) -> Result<OnnxSource> {
    OnnxSource::open(&runtime(), &ModelFolder::open(path, None)?, options)
}

/// Checks an error's kind, that its one line holds all of `words`, and that its help line holds `help`.
fn assert_error(error: &Error, kind: ErrorKind, words: &[&str], help: &str) {
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    let missing = words.iter().find(|word| !message.contains(**word));
    assert_eq!(missing, None, "{message}");
    assert!(error.help().is_some_and(|line| line.contains(help)), "{message}: {:?}", error.help());
}

fn assert_refused(path: &Path, kind: ErrorKind, words: &[&str], help: &str) {
    assert_error(&open(path, &OnnxOptions::default()).unwrap_err(), kind, words, help);
}

/// Appends tokens; the last one's row is wanted.
fn step(sequence: SequenceId, tokens: &[TokenId]) -> Step<'_> {
    Step { sequence, tokens, rows: 1 }
}

fn broken(name: &str) -> std::path::PathBuf {
    tiny("broken").join(name)
}

/// A copy of a tiny model's files, to damage.
fn copy_of(name: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny(name)).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

fn edit_json(folder: &TempDir, file: &str, edit: impl FnOnce(&mut Value)) {
    let path = folder.path().join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_missing_folder() {
    assert_refused(
        Path::new("no/such/model"),
        ErrorKind::NotFound,
        &["no/such/model", "no such model folder"],
        "folder",
    );
}

#[test]
fn a_folder_without_a_model() {
    let empty = tempfile::tempdir().unwrap();
    assert_refused(empty.path(), ErrorKind::NotFound, &["holds no ONNX model"], "export");
    assert_refused(&broken("empty"), ErrorKind::NotFound, &["empty", "holds no ONNX model"], "export");
}

#[test]
fn a_truncated_graph() {
    assert_refused(&broken("truncated"), ErrorKind::InvalidData, &["model.onnx: not a whole ONNX file"], "again");
}

/// Wherever a download broke off.
#[test]
fn a_graph_cut_anywhere() {
    let folder = copy_of("gqa_fp32");
    let file = folder.path().join("model.onnx");
    let whole = fs::read(&file).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 97).chain([whole.len() - 1]) {
        fs::write(&file, &whole[..cut]).unwrap();
        let error = open(folder.path(), &OnnxOptions::default()).unwrap_err();
        assert_error(&error, ErrorKind::InvalidData, &["model.onnx"], "");
    }
}

#[test]
fn a_file_that_is_no_onnx() {
    let folder = copy_of("gqa_fp32");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 270598522\n";
    for content in ["", pointer, "<!DOCTYPE html><html>Not found</html>", "\u{0}\u{0}\u{0}"] {
        fs::write(folder.path().join("model.onnx"), content).unwrap();
        assert_refused(folder.path(), ErrorKind::InvalidData, &["model.onnx: not a whole ONNX file"], "again");
    }
}

#[test]
fn a_graph_that_is_no_decoder() {
    let words = ["model.onnx: not a text decoder", "`input_ids`", "a, b"];
    assert_refused(&broken("not_a_decoder"), ErrorKind::InvalidData, &words, "text generation");
}

#[test]
fn an_input_that_nobody_can_fill() {
    let words = ["model.onnx", "input `token_type_ids`"];
    assert_refused(&broken("unknown_input"), ErrorKind::Unsupported, &words, "supported are");
}

#[test]
fn external_data_that_is_missing() {
    let words = ["model.onnx", "`model.onnx.data` is missing"];
    assert_refused(&broken("missing_external"), ErrorKind::NotFound, &words, "fetch `model.onnx.data`");
}

#[test]
fn external_data_that_is_cut() {
    let words = ["model.onnx", "`model.onnx.data` has", "bytes"];
    assert_refused(&broken("short_external"), ErrorKind::InvalidData, &words, "again");
}

#[test]
fn a_configuration_that_is_no_json() {
    let words = ["genai_config.json: not valid JSON", "line"];
    assert_refused(&broken("corrupt_config"), ErrorKind::InvalidData, &words, "again");
}

#[test]
fn configuration_values_of_the_wrong_kind() {
    let wrong: [(&str, &str, Value, &str); 5] = [
        ("/model/eos_token_id", "genai_config.json", "two".into(), "`eos_token_id` is \"two\""),
        ("/model/eos_token_id", "genai_config.json", (-1).into(), "`eos_token_id` is -1"),
        ("/model/context_length", "genai_config.json", 0.5.into(), "`context_length` is 0.5"),
        ("/model/decoder/head_size", "genai_config.json", "16".into(), "`head_size` is \"16\""),
        ("/model/context_length", "genai_config.json", (-128).into(), "`context_length` is -128"),
    ];
    for (pointer, file, value, words) in wrong {
        let folder = copy_of("gqa_symbolic_head");
        edit_json(&folder, file, |config| *config.pointer_mut(pointer).unwrap() = value);
        assert_refused(folder.path(), ErrorKind::InvalidData, &[file, words], "correct");
    }
}

#[test]
fn a_configuration_of_another_shape_is_no_panic() {
    for text in ["[]", "null", "3", "{}", r#"{"model": 3}"#, r#"{"model": {"decoder": []}}"#] {
        let folder = copy_of("gqa_fp32");
        fs::write(folder.path().join("genai_config.json"), text).unwrap();
        // Configurations are hints, and this graph states everything.
        let source = open(folder.path(), &OnnxOptions::default()).unwrap();
        assert_eq!(source.info().logit_width, 97);
    }
}

#[test]
fn a_configuration_that_names_a_missing_file() {
    let folder = copy_of("gqa_fp32");
    edit_json(&folder, "genai_config.json", |config| config["model"]["decoder"]["filename"] = "other.onnx".into());
    assert_refused(folder.path(), ErrorKind::NotFound, &["genai_config.json", "`other.onnx`"], "other.onnx");
}

/// The graph has the last word: it is asked where the configuration is silent, and believed where it is wrong.
#[test]
fn a_head_size_that_is_nowhere_or_wrong() {
    let outcome = |path: &Path| {
        let mut source = open(path, &OnnxOptions::default()).unwrap();
        let id = source.open().unwrap();
        let mut rows = Rows::new();
        source.forward(&[step(id, &[1, 2, 3])], &mut rows).unwrap();
        source.forward(&[step(id, &[4])], &mut rows).unwrap();
        (source.info().kv_bytes_per_token, rows.row(0).to_vec())
    };
    let expected = outcome(&tiny("gqa_symbolic_head"));
    for head_size in [Value::Null, 32.into(), 8.into()] {
        let folder = copy_of("gqa_symbolic_head");
        edit_json(&folder, "genai_config.json", |config| config["model"]["decoder"]["head_size"] = head_size);
        assert_eq!(outcome(folder.path()), expected);
    }
}

#[test]
fn a_variant_that_is_not_there() {
    let error = ModelFolder::open(&tiny("hf_variants"), Some("q2")).unwrap_err();
    assert_error(&error, ErrorKind::NotFound, &["hf_variants", "no variant `q2`"], "fp16, int8, q4");
}

#[test]
fn several_files_of_unusual_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first.onnx", "second.onnx"] {
        fs::copy(tiny("gqa_fp32").join("model.onnx"), folder.path().join(name)).unwrap();
    }
    assert_refused(folder.path(), ErrorKind::InvalidConfig, &["several ONNX files"], "first, second");
    let chosen = ModelFolder::open(folder.path(), Some("second")).unwrap();
    assert!(chosen.onnx().ends_with("second.onnx"));
}

#[test]
fn a_shared_cache_where_the_graph_cannot() {
    let options = OnnxOptions { kv: KvChoice::InPlace, ..OnnxOptions::default() };
    let error = open(&tiny("plain_fp32"), &options).unwrap_err();
    let words = ["model.onnx", "cannot be a shared buffer", "GroupQueryAttention"];
    assert_error(&error, ErrorKind::Unsupported, &words, "auto");
}

#[test]
fn a_provider_that_nobody_knows() {
    let error = "cudda".parse::<Provider>().unwrap_err();
    assert_error(&error, ErrorKind::InvalidConfig, &["cudda: no such execution provider"], "cpu, cuda, tensorrt");
}

/// A library for the CPU says so; a GPU library on a machine without a GPU names what it could not load.
#[test]
fn providers_that_do_not_work_are_reported_and_never_replaced_silently() {
    let all: Vec<Provider> = ["qnn", "openvino", "cpu"].map(|name| name.parse().unwrap()).into();
    let without_cpu = OnnxOptions { providers: all[..2].to_vec(), ..OnnxOptions::default() };
    let error = open(&tiny("gqa_fp32"), &without_cpu).unwrap_err();
    assert_error(&error, ErrorKind::Unsupported, &["no execution provider works", "qnn: ", "openvino: "], "cpu");

    let source = open(&tiny("gqa_fp32"), &OnnxOptions { providers: all, ..OnnxOptions::default() }).unwrap();
    let report = source.report();
    assert_eq!(report.provider, "cpu");
    let refused: Vec<&str> = report.refused.iter().map(|refused| refused.provider.as_str()).collect();
    assert_eq!(refused, ["qnn", "openvino"]);
    assert!(report.refused.iter().all(|refused| !refused.reason.is_empty() && !refused.reason.contains('\n')));
}

/// Ids beyond the embedding: the whole batch is refused and every sequence is as it was.
#[test]
fn a_token_that_the_model_does_not_have() {
    for name in ["gqa_fp32", "plain_fp32", "plain_no_cache", "plain_int32_ids", "gqa_int8"] {
        let mut source = open(&tiny(name), &OnnxOptions::default()).unwrap();
        let (a, b) = (source.open().unwrap(), source.open().unwrap());
        let mut rows = Rows::new();
        source.forward(&[step(a, &[1, 2, 3]), step(b, &[4, 5])], &mut rows).unwrap();
        for unknown in [97, 4_000_000_000_u32] {
            let error = source.forward(&[step(a, &[6]), step(b, &[unknown])], &mut rows).unwrap_err();
            assert_error(&error, ErrorKind::InvalidConfig, &[name, &unknown.to_string()], "");
            assert_eq!((source.len(a), source.len(b)), (Some(3), Some(2)), "{name}");
        }
        source.forward(&[step(a, &[6])], &mut rows).unwrap();
        let after = rows.row(0).to_vec();
        let fresh = source.open().unwrap();
        source.forward(&[step(fresh, &[1, 2, 3])], &mut rows).unwrap();
        source.forward(&[step(fresh, &[6])], &mut rows).unwrap();
        assert_eq!(after, rows.row(0), "{name}");
    }
}

#[test]
fn a_runtime_that_is_none() {
    let loaded = runtime();
    assert_eq!(Runtime::load(loaded.library()).unwrap().library(), loaded.library());
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libonnxruntime.so");
    let error = Runtime::load(&text).unwrap_err();
    assert_error(&error, ErrorKind::NotFound, &["libonnxruntime.so"], "logitfuse runtime install");
    // What is loaded stays; another one in the same process is refused, whatever it is.
    fs::write(&text, "not a library").unwrap();
    let error = Runtime::load(&text).unwrap_err();
    assert_error(&error, ErrorKind::Unsupported, &["libonnxruntime.so", "has loaded"], "another process");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed in a graph file, looking at it gives an answer or an error with help, never a panic. Most
    /// of a real graph's bytes are weights, so half of the changes go to the small graph that is all structure.
    #[test]
    fn damaged_graphs_never_panic(
        small in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let original = if small { broken("not_a_decoder") } else { tiny("genai_external") };
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = fs::read(original.join("model.onnx")).unwrap();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        fs::write(folder.path().join("model.onnx"), bytes).unwrap();
        if let Err(error) = ModelFolder::open(folder.path(), None) {
            prop_assert!(error.help().is_some() && !error.to_string().contains('\n'), "{error}");
        }
    }
}

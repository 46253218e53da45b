//! Graphs of shapes that no text has, and files that were made to do harm: each is refused by name from the file alone,
//! before ONNX Runtime reads a weight.

use std::{fs, process::Command};

use logitfuse_core::ErrorKind;
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource};
use tempfile::TempDir;

use crate::{
    by_hand::{self, FLOAT, Fixed, INT64, Named, Size, Tensor, external, number, tensor},
    runtime,
};

const BATCH: Size = Named("batch");
const TOKENS: Size = Named("tokens");
const PAST: Size = Named("past");
const TOTAL: Size = Named("total");

/// Ids, mask, positions, a key and logits, as they should be.
fn usual() -> (Vec<Tensor>, Vec<Tensor>) {
    let inputs = vec![
        tensor("input_ids", INT64, &[BATCH, TOKENS]),
        tensor("attention_mask", INT64, &[BATCH, TOTAL]),
        tensor("position_ids", INT64, &[BATCH, TOKENS]),
        tensor("past_key_values.0.key", FLOAT, &[BATCH, Fixed(2), PAST, Fixed(4)]),
    ];
    let outputs = vec![
        tensor("logits", FLOAT, &[BATCH, TOKENS, Fixed(100)]),
        tensor("present.0.key", FLOAT, &[BATCH, Fixed(2), TOTAL, Fixed(4)]),
    ];
    (inputs, outputs)
}

/// A tensor's name with another shape.
type Change<'a> = (&'static str, &'a [Size]);

/// The usual graph with some tensors of other shapes; what is not there is added to the inputs.
fn changed(changes: &[Change<'_>]) -> TempDir {
    let (mut inputs, mut outputs) = usual();
    for (name, dims) in changes {
        match inputs.iter_mut().chain(&mut outputs).find(|tensor| tensor.name == *name) {
            Some(tensor) => tensor.dims = dims.to_vec(),
            None if name.starts_with("present") => outputs.push(tensor(name, FLOAT, dims)),
            None => inputs.push(tensor(name, FLOAT, dims)),
        }
    }
    by_hand::folder(&inputs, &outputs, &[])
}

/// Checks the error that looking at the file gives, and that opening the model gives the same.
fn assert_refused(folder: &TempDir, kind: ErrorKind, words: &str, help: &str) {
    let found = ModelFolder::open(folder.path(), None).unwrap();
    let error = found.check().unwrap_err();
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert!(message.contains("model.onnx: ") && message.contains(words) && !message.contains("Got"), "{message}");
    assert!(error.help().is_some_and(|line| line.contains(help)), "{message}: {:?}", error.help());
    let opened = OnnxSource::open(&runtime(), &found, &OnnxOptions::default());
    assert_eq!(opened.unwrap_err().to_string(), message);
}

#[test]
fn the_usual_graph_is_not_refused() {
    ModelFolder::open(changed(&[]).path(), None).unwrap().check().unwrap();
    // A batch of one is what is asked for where sequences run one by one.
    let one: &[Size] = &[Fixed(1), TOKENS];
    ModelFolder::open(changed(&[("input_ids", one), ("position_ids", one)]).path(), None).unwrap().check().unwrap();
}

#[test]
fn fixed_shapes() {
    let state = |name, dims: &'static [Size]| vec![(name, dims)];
    let joint = |past: &'static [Size]| vec![("past_0", past), ("present_0", past)];
    let cases: Vec<(Vec<Change<'_>>, &str, &str)> = vec![
        (
            state("input_ids", &[BATCH, Fixed(1)]),
            "input `input_ids i64[batch, 1]` takes one token at a time",
            "dynamic",
        ),
        (state("input_ids", &[BATCH, Fixed(16)]), "input `input_ids i64[batch, 16]` takes 16 tokens always", "dynamic"),
        (state("input_ids", &[Fixed(4), TOKENS]), "`input_ids i64[4, tokens]` takes 4 texts always", "dynamic"),
        (
            state("input_ids", &[TOKENS]),
            "input `input_ids i64[tokens]` is not of shape [batch, tokens]",
            "a row a text",
        ),
        (state("attention_mask", &[BATCH, Fixed(128)]), "takes 128 tokens always", "dynamic"),
        (state("attention_mask", &[BATCH, Fixed(1), TOKENS, TOTAL]), "is not of shape [batch, tokens]", "a row a text"),
        (
            state("position_ids", &[Fixed(3), BATCH, TOKENS]),
            "wants several positions of a token",
            "the text decoder alone",
        ),
        (state("position_ids", &[TOKENS]), "is not of shape [batch, tokens]", "a row a text"),
        (
            state("logits", &[BATCH, Fixed(16), Fixed(100)]),
            "output `logits f32[batch, 16, 100]` has 16 rows",
            "dynamic",
        ),
        (
            state("past_key_values.0.key", &[BATCH, Fixed(2), Fixed(64), Fixed(4)]),
            "input `past_key_values.0.key f32[batch, 2, 64, 4]` holds 64 tokens always: a static cache",
            "grows with the text",
        ),
        (
            state("present.0.key", &[BATCH, Fixed(2), Fixed(64), Fixed(4)]),
            "output `present.0.key f32[batch, 2, 64, 4]` holds 64 tokens always",
            "grows with the text",
        ),
        (
            state("past_key_values.0.key", &[Fixed(8), Fixed(2), PAST, Fixed(4)]),
            "`past_key_values.0.key f32[8, 2, past, 4]` takes 8 texts always",
            "dynamic",
        ),
        (joint(&[Fixed(3), BATCH, Fixed(2), PAST, Fixed(4)]), "holds 3 tensors, not a key and a value", "apart"),
    ];
    for (changes, words, help) in cases {
        assert_refused(&changed(&changes), ErrorKind::Unsupported, words, help);
    }
}

#[test]
fn recurrent_states() {
    for (past, present) in [
        ("past_ssm.0", "present_ssm.0"),
        ("past.0.conv_state", "present.0.conv_state"),
        ("past_recurrent_state.3", "present_recurrent_state.3"),
    ] {
        for dims in [&[BATCH, Fixed(2), Fixed(4), Fixed(8)][..], &[BATCH, Named("heads"), Named("n"), Fixed(8)]] {
            let folder = changed(&[(past, dims), (present, dims)]);
            assert_refused(&folder, ErrorKind::Unsupported, "is a recurrent state", "a cache of keys and values");
        }
    }
    // By its shape alone, whatever its name.
    let dims: &[Size] = &[BATCH, Fixed(2), Fixed(4), Fixed(8)];
    let folder = changed(&[("past_memory.0", dims), ("present_memory.0", dims)]);
    assert_refused(&folder, ErrorKind::Unsupported, "a recurrent state", "grows with the text");
}

#[test]
fn sizes_beyond_all_bounds() {
    let width = |n| changed(&[("logits", &[BATCH, TOKENS, Fixed(n)])]);
    for n in [0, (1 << 20) + 1, (1 << 31) - 1, 1 << 40, i64::MAX as u64] {
        assert_refused(&width(n), ErrorKind::InvalidData, &format!("rows of logits have {n} entries"), "vocabulary");
    }
    for dims in [
        &[BATCH, Fixed(1 << 40), PAST, Fixed(1 << 40)][..],
        &[BATCH, Fixed(1 << 20), PAST, Fixed(1 << 20)],
        &[BATCH, Fixed(i64::MAX as u64), PAST, Fixed(4)],
    ] {
        let folder = changed(&[("past_key_values.0.key", dims), ("present.0.key", dims)]);
        assert_refused(&folder, ErrorKind::InvalidData, "would take more than 256 MB", "head_dim");
    }
    // A configuration that says what the graph leaves open.
    let dims: &[Size] = &[BATCH, Named("heads"), PAST, Named("head")];
    let folder = changed(&[("past_key_values.0.key", dims), ("present.0.key", dims)]);
    let config = r#"{"num_key_value_heads": 1152921504606846976, "head_dim": 1152921504606846976}"#;
    fs::write(folder.path().join("config.json"), config).unwrap();
    assert_refused(&folder, ErrorKind::InvalidData, "would take more than 256 MB", "num_key_value_heads");
}

#[test]
fn tensors_of_a_million_dimensions() {
    let (inputs, outputs) = usual();
    let packed = by_hand::bytes(5, &by_hand::bytes(1, &vec![1; 1 << 20]));
    let singly = by_hand::bytes(5, &number(1, 1).repeat(1 << 16));
    let many = by_hand::bytes(1, &by_hand::bytes(1, b"x").repeat(1 << 17));
    for (parts, what) in [(packed, "dimensions"), (singly, "dimensions"), (many, "of a node")] {
        let error = ModelFolder::open(by_hand::folder(&inputs, &outputs, &parts).path(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("not a whole ONNX file: more than") && error.to_string().contains(what));
    }
}

/// A folder whose weights lie where `location` says.
fn with_weights(location: &str, more: &[(&str, &str)]) -> TempDir {
    let (inputs, outputs) = usual();
    let entries: Vec<(&str, &str)> = [("location", location)].into_iter().chain(more.iter().copied()).collect();
    by_hand::folder(&inputs, &outputs, &external(&entries))
}

fn assert_weights_refused(folder: &TempDir, kind: ErrorKind, words: &str) {
    let error = ModelFolder::open(folder.path(), None).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains("model.onnx: ") && error.to_string().contains(words), "{error}");
    assert!(error.help().is_some());
}

#[test]
fn external_data_outside_of_the_folder() {
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    let absolute = elsewhere.path().to_str().unwrap().to_owned();
    for location in ["../secret.bin", "sub/../../secret.bin", "/dev/zero", "/etc/passwd", &absolute] {
        let folder = with_weights(location, &[("length", "0")]);
        assert_weights_refused(&folder, ErrorKind::InvalidData, "lies outside of the model's folder");
    }
}

#[test]
fn external_data_that_are_no_files() {
    assert_weights_refused(&with_weights(".", &[]), ErrorKind::InvalidData, "are no regular file");
    assert_weights_refused(&with_weights("a\0b", &[]), ErrorKind::NotFound, "is missing");
    let folder = with_weights("weights", &[("offset", "9223372036854775808")]);
    fs::write(folder.path().join("weights"), [0; 64]).unwrap();
    assert_weights_refused(&folder, ErrorKind::InvalidData, "has 64 of 9223372036854775824 bytes");
    let folder = with_weights("weights", &[("offset", "18446744073709551615"), ("length", "2")]);
    assert_weights_refused(&folder, ErrorKind::InvalidData, "a length overflows");
}

#[cfg(unix)]
fn make_pipe(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_opened() {
    let folder = with_weights("weights", &[]);
    make_pipe(&folder.path().join("weights"));
    assert_weights_refused(&folder, ErrorKind::InvalidData, "are no regular file");

    let folder = with_weights("weights", &[]);
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("weights")).unwrap();
    assert_weights_refused(&folder, ErrorKind::InvalidData, "are no regular file");

    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    make_pipe(&model);
    let error = ModelFolder::open(&model, None).unwrap_err();
    assert!(error.to_string().contains("model.onnx: not a whole ONNX file: is no regular file"), "{error}");

    for name in ["config.json", "generation_config.json", "genai_config.json"] {
        let folder = changed(&[]);
        make_pipe(&folder.path().join(name));
        let error = ModelFolder::open(folder.path(), None).unwrap_err();
        assert!(error.to_string().ends_with(&format!("{name}: is no regular file")), "{error}");
    }
}

/// Caches of downloads keep large files elsewhere and link to them.
#[cfg(unix)]
#[test]
fn external_data_behind_a_link_are_read() {
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), [0; 64]).unwrap();
    let folder = with_weights("weights", &[("length", "64")]);
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("weights")).unwrap();
    assert!(ModelFolder::open(folder.path(), None).is_ok());
}

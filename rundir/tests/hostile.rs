//! Damaged and hostile run directories: each is an error, at once and in little memory.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::{Identity, Manifest, Run, RunDir, SCHEMA_VERSION, Scope, compare, merge, missing, sha256};
use serde_json::{Value, json};
use tempfile::TempDir;

const RESOLVED: &str = "schema = 1\n";

fn manifest() -> Value {
    json!({
        "schema_version": 1,
        "identity": { "config_sha256": sha256(RESOLVED.as_bytes()), "logitfuse": "0.1.0", "onnxruntime": "1.23.0", "files": [] },
        "scope": { "limit": null, "shard": null },
        "cells": [{ "variant": "v", "task": "t", "items": 2, "repeats": 1 }],
        "machine": {},
    })
}

fn sample(index: usize) -> Value {
    json!({
        "schema_version": 1, "variant": "v", "task": "t", "doc_id": index.to_string(), "doc_index": index, "repeat": 0,
        "doc": {}, "target": "x", "prompt_sha256": "p",
        "responses": [{
            "text": "a", "tokens": [1], "log_prob": -0.5,
            "trace": [{
                "token": 1, "text": "a", "log_prob": -0.5, "top_logprobs": [], "trace": { "alpha": 1.0 },
                "roles": [{ "role": "base", "source": "L", "log_prob": -1.0, "top_logprobs": [] }],
            }],
        }],
        "filtered": { "none": "a" }, "metrics": { "exact_match,none": 1.0 },
    })
}

fn timing(index: usize) -> Value {
    json!({
        "key": format!("v/t/{index}/0"), "tokens": 1, "prefill_seconds": 0.5, "decode_seconds": 0.25, "fuse_seconds": 0.0,
        "sample_seconds": 0.0, "sources": [], "drafted": 0, "accepted": 0,
    })
}

/// A sound directory of two samples.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lines = |of: fn(usize) -> Value| format!("{}\n{}\n", of(0), of(1));
    fs::write(dir.path().join("manifest.json"), manifest().to_string()).unwrap();
    fs::write(dir.path().join("resolved.toml"), RESOLVED).unwrap();
    fs::write(dir.path().join("samples.jsonl"), lines(sample)).unwrap();
    fs::write(dir.path().join("timings.jsonl"), lines(timing)).unwrap();
    dir
}

/// Everything that only reads a directory.
fn look(path: &Path) -> Result<Run> {
    let run = Run::open(path)?;
    run.resolved()?;
    run.metrics()?;
    run.samples()?.try_for_each(|sample| sample.map(drop))?;
    run.stored_samples()?.try_for_each(|sample| sample.map(drop))?;
    run.timings()?.try_for_each(|timing| timing.map(drop))?;
    run.drafting()?;
    compare(&run, &run, &[])?;
    missing(std::slice::from_ref(&run))?;
    Ok(run)
}

/// The same, and what opens it to go on.
fn read(path: &Path) -> Result<()> {
    let run = look(path)?;
    let other = tempfile::tempdir().unwrap();
    merge(std::slice::from_ref(&run), &other.path().join("merged"))?;
    let manifest = Manifest { scope: Scope::default(), ..run.manifest().clone() };
    RunDir::start(path, &run.resolved()?, &manifest).map(drop)
}

#[track_caller]
fn refused(path: &Path, words: &str) -> Error {
    let e = read(path).expect_err(words);
    assert!(e.to_string().contains(words), "{e}");
    assert!(!e.to_string().contains('\n'), "{e}");
    e
}

#[test]
fn a_sound_directory_is_read() {
    let dir = directory();
    read(dir.path()).unwrap();
}

/// A pipe would wait for a writer for ever, a device has no end.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_opened() {
    use std::os::unix::fs::symlink;

    for name in ["manifest.json", "resolved.toml", "metrics.json", "samples.jsonl", "timings.jsonl", "forecasts.jsonl"]
    {
        let dir = directory();
        let path = dir.path().join(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let e = refused(dir.path(), &format!("{name}: is no file but a pipe or a device"));
        assert_eq!(e.kind(), ErrorKind::InvalidData);
        for device in ["/dev/zero", "/dev/urandom", "/dev/stdin"].iter().filter(|device| Path::new(device).exists()) {
            fs::remove_file(&path).unwrap();
            symlink(device, &path).unwrap();
            if !fs::metadata(device).unwrap().is_file() {
                refused(dir.path(), &format!("{name}: is no file but a pipe or a device"));
            }
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused(dir.path(), &format!("{name}: is a folder"));
    }
}

/// To go on with a stranger's directory must change no file outside it.
#[cfg(unix)]
#[test]
fn nothing_is_written_through_links() {
    use std::os::unix::fs::symlink;

    let precious = tempfile::tempdir().unwrap();
    let precious = precious.path().join("precious");
    let resume = |dir: &Path| -> Result<RunDir> {
        let manifest: Manifest = serde_json::from_value(manifest()).unwrap();
        RunDir::start(dir, RESOLVED, &manifest)
    };
    for name in ["samples.jsonl", "timings.jsonl", ".lock"] {
        let dir = directory();
        let path = dir.path().join(name);
        let _ = fs::remove_file(&path);
        // No whole line: a log would be cut off here.
        fs::write(&precious, "one line of mine").unwrap();
        symlink(&precious, &path).unwrap();
        let e = resume(dir.path()).map(drop).unwrap_err();
        assert!(e.to_string().ends_with(&format!("{name}: is a link, and nothing is written through links")), "{e}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "one line of mine");
        // What only reads may follow it.
        if name != ".lock" {
            Run::open(dir.path()).unwrap().samples().unwrap().for_each(drop);
        }
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let e = resume(dir.path()).map(drop).unwrap_err();
        assert!(e.to_string().ends_with(&format!("{name}: is no file but a pipe or a device")), "{e}");
    }
    let dir = directory();
    for name in [".metrics.json.new", "metrics.json"] {
        symlink(&precious, dir.path().join(name)).unwrap();
    }
    let metrics = serde_json::from_value(json!({
        "schema_version": 1, "identity_sha256": "", "complete": true, "limit": null, "metrics": [], "gaps": [],
    }));
    resume(dir.path()).unwrap().write_metrics(&metrics.unwrap()).unwrap();
    assert_eq!(fs::read_to_string(&precious).unwrap(), "one line of mine");
    assert!(fs::symlink_metadata(dir.path().join("metrics.json")).unwrap().is_file(), "it took the link's place");
}

#[test]
fn absurd_numbers_in_a_manifest_are_no_work() {
    let dir = directory();
    let write = |manifest: &Value| fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
    let mut huge = manifest();
    huge["cells"] = json!(vec![json!({ "variant": "v", "task": "t", "items": usize::MAX, "repeats": usize::MAX }); 3]);
    write(&huge);
    read(dir.path()).unwrap();
    let run = Run::open(dir.path()).unwrap();
    assert_eq!(run.manifest().samples(), usize::MAX);
    assert_eq!(missing(&[run]).unwrap().len(), 1);

    huge["scope"]["shard"] = json!({ "index": usize::MAX - 1, "of": usize::MAX });
    write(&huge);
    let lines = missing(&[Run::open(dir.path()).unwrap()]).unwrap();
    assert!(lines[0].starts_with("shards 1/18446744073709551615 to "), "{lines:?}");
    assert_eq!(lines.len(), 2, "and its own samples");
    for (index, of) in [(0, 0), (1, 1), (7, 3), (usize::MAX, usize::MAX)] {
        huge["scope"]["shard"] = json!({ "index": index, "of": of });
        write(&huge);
        refused(dir.path(), "manifest.json: ");
    }
    for (place, value) in [
        ("/schema_version", json!(1e300)),
        ("/schema_version", json!(-1)),
        ("/cells/0/items", json!(-1)),
        ("/cells/0/items", json!(0.5)),
        ("/cells", json!("v")),
        ("/scope", json!(null)),
        ("/identity/files", json!([{}])),
        ("/machine", json!({ "cores": 8 })),
    ] {
        let mut wrong = manifest();
        *wrong.pointer_mut(place).unwrap() = value;
        write(&wrong);
        refused(dir.path(), "manifest.json: not what a run writes: ");
    }
    write(&json!({ "schema_version": 999 }));
    assert_eq!(refused(dir.path(), "schema_version 999").kind(), ErrorKind::Unsupported);
}

#[test]
fn every_field_of_another_type_is_named_with_its_line() {
    let dir = directory();
    for (file, sound) in [("samples.jsonl", sample(1)), ("timings.jsonl", timing(1))] {
        let before = fs::read_to_string(dir.path().join(file)).unwrap();
        let first = before.lines().next().unwrap();
        let mut places = Vec::new();
        pointers(&sound, String::new(), &mut places);
        for place in places {
            for wrong in
                [json!(null), json!("text"), json!(-1), json!(1e300), json!([[[]]]), json!({ "a": {} }), json!(true)]
            {
                let mut line = sound.clone();
                *line.pointer_mut(&place).unwrap() = wrong;
                fs::write(dir.path().join(file), format!("{first}\n{line}\n")).unwrap();
                // Some places take anything.
                if let Err(e) = look(dir.path()) {
                    assert!(!e.to_string().contains('\n') && e.help().is_some(), "{e}");
                }
            }
        }
        fs::write(dir.path().join(file), format!("{first}\n{}\n", "[".repeat(100_000))).unwrap();
        refused(dir.path(), &format!("{file}:2: the line is damaged: "));
        fs::write(dir.path().join(file), [first.as_bytes(), b"\n\xff\xfe\x00\n"].concat()).unwrap();
        refused(dir.path(), &format!("{file}:2: the line is damaged: "));
        fs::write(dir.path().join(file), before).unwrap();
    }
}

fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), into)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{at}/{i}"), into)),
        _ => {}
    }
    if !at.is_empty() {
        into.push(at);
    }
}

#[test]
fn a_line_without_end_is_not_read_to_its_end() {
    let dir = directory();
    // A hole: no disk is filled.
    File::create(dir.path().join("samples.jsonl")).unwrap().set_len(1 << 40).unwrap();
    refused(dir.path(), "samples.jsonl:1: the line is damaged: it is longer than 64 MiB");
    for name in ["manifest.json", "resolved.toml", "metrics.json"] {
        let dir = directory();
        File::create(dir.path().join(name)).unwrap().set_len(1 << 40).unwrap();
        refused(dir.path(), &format!("{name}: is longer than 32 MiB"));
    }
}

#[test]
fn a_line_of_a_great_many_values_is_not_parsed() {
    let dir = directory();
    let mut log = BufWriter::new(File::create(dir.path().join("samples.jsonl")).unwrap());
    let line = sample(0).to_string();
    let (head, tail) = line.split_once("\"doc\":{").unwrap();
    write!(log, "{head}\"doc\":{{\"a\":[0").unwrap();
    for _ in 0..(9 << 20) {
        log.write_all(b",0").unwrap();
    }
    writeln!(log, "]{tail}").unwrap();
    drop(log);
    refused(dir.path(), "samples.jsonl:1: the line is damaged: it holds more than 8388608 values");
    // A text of as many commas is one value.
    let mut long = sample(0);
    long["responses"][0]["text"] = json!(",".repeat(9 << 20));
    fs::write(dir.path().join("samples.jsonl"), format!("{long}\n")).unwrap();
    fs::write(dir.path().join("timings.jsonl"), format!("{}\n", timing(0))).unwrap();
    read(dir.path()).unwrap();
}

#[test]
fn lists_are_as_long_as_they_can_be_and_no_longer() {
    let dir = directory();
    let role = sample(0)["responses"][0]["trace"][0]["roles"][0].clone();
    for (place, one, most) in
        [("/responses/0/trace/0/roles", role, 256), ("/responses", sample(0)["responses"][0].clone(), 65536)]
    {
        for (count, sound) in [(most, true), (most + 1, false)] {
            let mut line = sample(0);
            *line.pointer_mut(place).unwrap() = json!(vec![one.clone(); count]);
            fs::write(dir.path().join("samples.jsonl"), format!("{line}\n")).unwrap();
            let read = Run::open(dir.path()).unwrap().samples().unwrap().try_for_each(|sample| sample.map(drop));
            assert_eq!(read.is_ok(), sound, "{place} of {count}: {read:?}");
        }
    }
    let source = json!({
        "source": "L", "prefill_seconds": 0.0, "forward_seconds": 0.0, "prefill_tokens": usize::MAX, "reused_tokens": 0,
    });
    let mut line = timing(0);
    line["sources"] = json!(vec![source; 257]);
    fs::write(dir.path().join("timings.jsonl"), format!("{line}\n")).unwrap();
    let e = Run::open(dir.path()).unwrap().timings().unwrap().find_map(Result::err).unwrap();
    assert!(e.to_string().contains("timings.jsonl:1: the line is damaged: more than 256 entries"), "{e}");
}

#[test]
fn counts_that_overflow_are_as_large_as_counts_can_be() {
    let dir = directory();
    let forecast = json!({
        "variant": "v", "task": "t", "draft": "base", "tokens": "auto",
        "costs": { "batch": usize::MAX, "round_seconds": [1e308, -1e308], "token_seconds": 0.0 },
    });
    fs::write(dir.path().join("forecasts.jsonl"), format!("{forecast}\n").repeat(3)).unwrap();
    let line = |index: usize| {
        let mut line = timing(index);
        for field in ["tokens", "drafted", "accepted", "rounds"] {
            line[field] = json!(usize::MAX);
        }
        line
    };
    fs::write(dir.path().join("timings.jsonl"), format!("{}\n{}\n", line(0), line(1))).unwrap();
    let run = Run::open(dir.path()).unwrap();
    let drafting = run.drafting().unwrap();
    assert_eq!((drafting.len(), drafting[0].1.samples, drafting[0].1.drafted), (1, 2, usize::MAX));
    let _ = (drafting[0].0.tokens_per_second(&drafting[0].1), drafting[0].1.tokens_per_second());
}

/// What is written can be read again.
#[test]
fn a_sample_that_is_too_long_to_be_read_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        identity: Identity {
            config_sha256: String::new(),
            logitfuse: String::new(),
            onnxruntime: String::new(),
            files: Vec::new(),
        },
        scope: Scope::default(),
        cells: Vec::new(),
        machine: [].into(),
    };
    let mut run = RunDir::start(&path, RESOLVED, &manifest).unwrap();
    let mut long: logitfuse_rundir::SampleRecord = serde_json::from_value(sample(0)).unwrap();
    long.responses[0].text = "x".repeat(65 << 20);
    let e = run.append(&long, &serde_json::from_value(timing(0)).unwrap()).unwrap_err();
    assert!(e.to_string().contains("samples.jsonl: a sample of 65 MiB, which is too long"), "{e}");
    assert!(e.help().unwrap().contains("traced_samples"), "{e}");
    assert!(run.reader().unwrap().samples().unwrap().next().is_none());
}

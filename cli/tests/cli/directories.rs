//! Run directories of others, and what the shell may do to a command that reads and writes them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary;

fn metrics() -> Value {
    let record = |variant: &str, value: f64| {
        json!({
            "variant": variant, "task": "t", "metric": "exact_match", "filter": "none", "n": 2, "value": value, "stderr": 0.1,
            "interval": [0.0, 1.0], "interval_method": "Wilson", "higher_is_better": true,
        })
    };
    json!({
        "schema_version": 1, "identity_sha256": "", "complete": true, "limit": null,
        "metrics": [record("large", 0.0), record("fused", 1.0)], "gaps": [],
    })
}

/// A finished run of one task, as small as it can be, that `merge-shards` can give figures.
fn directory(root: &Path, name: &str) -> String {
    let dir = root.join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(root.join("t.jsonl"), "{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n").unwrap();
    let resolved = "schema = 1\n\n[sources.base]\nmodel = \"m\"\n\n[tasks.t]\ndata = \"t.jsonl\"\ntarget = \"{{ prompt }}\"\n\
                    metrics = [{ metric = \"exact_match\" }]\n\n[variants.large]\n\n[variants.fused]\n";
    let cell = |variant: &str| json!({ "variant": variant, "task": "t", "items": 2, "repeats": 1 });
    let manifest = json!({
        "schema_version": 1,
        "identity": { "config_sha256": "", "logitfuse": "0.1.0", "onnxruntime": "1.23.0", "files": [] },
        "scope": { "limit": null, "shard": null },
        "cells": [cell("large"), cell("fused")],
        "machine": { "experiment_folder": root.to_str().unwrap() },
    });
    let sample = |variant: &str, index: usize| {
        json!({
            "schema_version": 1, "variant": variant, "task": "t", "doc_id": index.to_string(), "doc_index": index, "repeat": 0,
            "doc": { "prompt": "a" }, "target": "a", "prompt_sha256": "p",
            "responses": [{ "text": "a", "tokens": [1], "log_prob": -0.5, "finish": "stop", "trace": [{
                "token": 1, "text": "a", "log_prob": -0.5, "top_logprobs": [], "roles": [],
                "trace": { "alpha": 1.0, "saturated": f64::from(u8::from(variant == "fused")) },
            }] }],
            "filtered": { "none": "a" }, "metrics": { "exact_match,none": f64::from(u8::from(variant == "fused")) },
        })
    };
    let all = [("large", 0), ("large", 1), ("fused", 0), ("fused", 1)];
    let lines = |of: &dyn Fn(&str, usize) -> Value| {
        all.iter().map(|(variant, index)| of(variant, *index).to_string() + "\n").collect::<Vec<_>>().concat()
    };
    let timing = |variant: &str, index: usize| {
        json!({
            "key": format!("{variant}/t/{index}/0"), "tokens": 1, "prefill_seconds": 0.1, "decode_seconds": 0.1,
            "fuse_seconds": 0.0, "sample_seconds": 0.0, "sources": [], "drafted": 0, "accepted": 0,
        })
    };
    for (file, text) in [
        ("resolved.toml", resolved.to_owned()),
        ("manifest.json", manifest.to_string()),
        ("metrics.json", metrics().to_string()),
        ("samples.jsonl", lines(&sample)),
        ("timings.jsonl", lines(&timing)),
    ] {
        fs::write(dir.join(file), text).unwrap();
    }
    dir.to_str().unwrap().to_owned()
}

fn logitfuse(args: &[&str]) -> Output {
    Command::new(binary()).args(args).env_remove("RUST_BACKTRACE").output().unwrap()
}

/// Under a shell, whose limits and pipes the command inherits.
#[cfg(unix)]
fn shell(script: &str, args: &[&str]) -> Output {
    let program = binary();
    let all = [&["-c", script, program.to_str().unwrap()], args].concat();
    Command::new("bash").args(all).env_remove("RUST_BACKTRACE").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An error in the words of a person: no panic, no signal.
#[track_caller]
fn refused(output: &Output, words: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{:?}: {said}", output.status);
    assert!(said.contains("error: ") && said.contains("\nhelp: ") && said.contains(words), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_merge_is_repeated_until_it_is_whole() {
    let root = TempDir::new().unwrap();
    let shard = directory(root.path(), "shard");
    let into = root.path().join("merged");
    let merge = ["merge-shards", "-q", &shard, "-o", into.to_str().unwrap()];
    let first = logitfuse(&merge);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let files = ["manifest.json", "samples.jsonl", "timings.jsonl", "metrics.json", "report.html"];
    let read = || files.map(|name| fs::read(into.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")));
    let whole = read();
    // What a kill may have left undone, from the last step to the first.
    for undone in ["report.html", "figures", "metrics.json", "samples.jsonl", "timings.jsonl", "manifest.json"] {
        let path = into.join(undone);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        if undone == "manifest.json" {
            // It is the last of the first files: whatever follows was not there yet.
            fs::remove_dir_all(&into).unwrap();
            fs::create_dir(&into).unwrap();
            fs::write(into.join("resolved.toml"), "half").unwrap();
        }
        let again = logitfuse(&merge);
        assert!(again.status.success(), "without {undone}: {}", text(&again.stderr));
        assert_eq!(text(&again.stdout), text(&first.stdout));
        assert!(read() == whole, "without {undone}");
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_loses_no_report() {
    let root = TempDir::new().unwrap();
    let shard = directory(root.path(), "shard");
    let into = root.path().join("merged");
    // `true` has gone before a table is written.
    let piped = shell("{ sleep 0.3; \"$0\" \"$@\"; } | true", &["merge-shards", &shard, "-o", into.to_str().unwrap()]);
    assert!(into.join("report.html").exists() && into.join("figures/scores.svg").exists(), "{}", text(&piped.stderr));
    assert!(text(&piped.stderr).contains("error: stdout was closed"), "{}", text(&piped.stderr));
    // Nobody listens to stderr either.
    fs::remove_file(into.join("report.html")).unwrap();
    let script = "{ sleep 0.3; \"$0\" \"$@\" 2>&1; echo $? >&3; } 3>&2 | true";
    let deaf = shell(script, &["merge-shards", &shard, "-o", into.to_str().unwrap()]);
    assert_eq!(text(&deaf.stderr).trim(), "2");
    assert!(into.join("report.html").exists());
}

/// The system's answer to a file that grows beyond `ulimit -f` is a signal that kills.
#[cfg(unix)]
#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    let root = TempDir::new().unwrap();
    let run = directory(root.path(), "run");
    let limited = |blocks: &str, args: &[&str]| shell(&format!("ulimit -f {blocks}; exec \"$0\" \"$@\""), args);
    let output = limited("4", &["report", &run]);
    refused(&output, "cannot be written: File too large");
    assert!(!Path::new(&run).join("report.html").exists(), "half a page");
    let into = root.path().join("merged");
    refused(&limited("1", &["merge-shards", &run, "-o", into.to_str().unwrap()]), "cannot be written: File too large");
    let out = root.path().join("schema.json");
    let script = format!("ulimit -f 1; exec \"$0\" \"$@\" > '{}'", out.display());
    refused(&shell(&script, &["config", "schema"]), "stdout cannot be written: File too large");
    // Messages that cannot be written are no reason to panic.
    let script = format!("ulimit -f 0; exec \"$0\" \"$@\" 2> '{}'", root.path().join("log").display());
    assert_eq!(shell(&script, &["report", "nowhere"]).status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_an_error_at_once() {
    let root = TempDir::new().unwrap();
    for (i, file) in
        ["manifest.json", "metrics.json", "samples.jsonl", "timings.jsonl", "resolved.toml"].iter().enumerate()
    {
        let run = directory(root.path(), &format!("run-{i}"));
        let path = Path::new(&run).join(file);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(&logitfuse(&["report", &run]), &format!("{file}: is no file but a pipe or a device"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        refused(&logitfuse(&["report", &run]), &format!("{file}: is no file but a pipe or a device"));
    }
}

#[cfg(unix)]
#[test]
fn a_report_is_written_through_no_link() {
    let root = TempDir::new().unwrap();
    let run = directory(root.path(), "run");
    let precious = root.path().join("precious");
    fs::write(&precious, "mine").unwrap();
    for name in ["report.html", ".report.html.new"] {
        std::os::unix::fs::symlink(&precious, Path::new(&run).join(name)).unwrap();
    }
    let output = logitfuse(&["report", &run]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    fs::remove_dir_all(Path::new(&run).join("figures")).unwrap();
    std::os::unix::fs::symlink(root.path(), Path::new(&run).join("figures")).unwrap();
    refused(&logitfuse(&["report", &run]), "figures: is a link");
}

#[test]
fn a_table_without_end_is_refused_and_a_large_one_drawn() {
    let root = TempDir::new().unwrap();
    let run = directory(root.path(), "run");
    let table = |variants: usize, tasks: usize| {
        let one = |i: usize| {
            let mut record = metrics()["metrics"][0].clone();
            record["variant"] = json!(format!("v[a={}]", i % variants));
            record["task"] = json!(format!("t{}", i / variants));
            record
        };
        let mut metrics = metrics();
        metrics["metrics"] = (0..variants * tasks).map(one).collect();
        fs::write(Path::new(&run).join("metrics.json"), metrics.to_string()).unwrap();
        logitfuse(&["report", &run])
    };
    let large = table(600, 20);
    assert!(large.status.success(), "{}", text(&large.stderr));
    refused(&table(5000, 2), "5000 variants on 2 tasks");
    refused(&table(400, 251), "400 variants on 251 tasks");
}

#[test]
fn a_strength_at_its_bound_is_said_in_the_report() {
    let root = TempDir::new().unwrap();
    let run = directory(root.path(), "run");
    assert!(logitfuse(&["report", &run]).status.success());
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    assert!(page.contains("fused: the strength is at a bound at 100 % of its 2 traced tokens"), "no note");
    assert!(!page.contains("large: the strength"));
}

/// Names of a sweep have equals signs, and names may hold quotes of every kind.
#[test]
fn variants_of_any_name_are_compared() {
    let root = TempDir::new().unwrap();
    let run = directory(root.path(), "run");
    for (a, b) in [("s[alpha=0.5]", "s[alpha=1]"), ("\"><img src=x onerror=document.title='x'>", "it's=\"=x")] {
        for file in ["manifest.json", "samples.jsonl", "timings.jsonl", "metrics.json"] {
            let path = Path::new(&run).join(file);
            let quoted = |name: &str| json!(name).to_string().trim_matches('"').to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let text =
                text.replace("\"large", &format!("\"{}", quoted(a))).replace("\"fused", &format!("\"{}", quoted(b)));
            fs::write(path, text).unwrap();
        }
        let output = logitfuse(&["compare", &run, &run, "--variant", &format!("{a}={b}"), "--format", "json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&rows["rows"][0]["variant_a"], &rows["rows"][0]["variant_b"]), (&json!(a), &json!(b)));
        assert!(logitfuse(&["report", &run]).status.success());
        let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
        assert!(!page.contains("<img"), "{a}");
        fs::remove_dir_all(&run).unwrap();
        directory(root.path(), "run");
    }
    refused(&logitfuse(&["compare", &run, &run, "--variant", "large"]), "--variant large: names no two variants");
    refused(&logitfuse(&["compare", &run, &run, "--variant", "large=x"]), "has no variant `x`");
}

//! A run directory from end to end: written from a recipe, damaged, then read, compared, merged, resumed and drawn.
//!
//! The first bytes say what is done to which file; the rest are bytes of files, or values to put in place of others. A directory
//! of JSON from nothing but bytes would hardly ever get past its manifest, so sound files are what is damaged.

#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
};

use libfuzzer_sys::fuzz_target;
use logitfuse_core::Result;
use logitfuse_report::Report;
use logitfuse_rundir::{Manifest, Run, RunDir, compare, merge, missing};
use serde_json::{Value, json};

const FILES: [&str; 6] =
    ["manifest.json", "metrics.json", "samples.jsonl", "timings.jsonl", "forecasts.jsonl", "resolved.toml"];
/// What a directory is not made for.
const NUMBERS: [f64; 12] = [0.0, -1.0, 0.5, 1e308, -1e308, 5e-324, 4_294_967_295.0, 1.8e19, 9e15, 1e-300, 100.0, 3.0];

fuzz_target!(|data: &[u8]| {
    let root = PathBuf::from(std::env::var_os("TMPDIR").unwrap_or_else(|| "/tmp".into()))
        .join(format!("logitfuse-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let dir = root.join("run");
    fs::create_dir_all(&dir).expect("a folder can be made");
    write(&dir, &mut Bytes(data));
    // An error is an answer; a panic, a hang or gigabytes are findings.
    let _ = use_all(&dir, &root);
    let _ = fs::remove_dir_all(&root);
});

fn use_all(dir: &Path, root: &Path) -> Result<()> {
    if let Ok(report) = Report::of(dir) {
        assert_eq!(report.html.matches("</script").count(), 1);
        report.write(dir)?;
    }
    let run = Run::open(dir)?;
    let _ = (run.drafting(), run.saturation().map(|saturation| saturation.notes()));
    let runs = [run];
    let _ = compare(&runs[0], &runs[0], &[]);
    let _ = missing(&runs);
    for _ in 0..2 {
        drop(merge(&runs, &root.join("merged")));
    }
    let manifest: Manifest = runs[0].manifest().clone();
    drop(RunDir::start(dir, &runs[0].resolved()?, &manifest)?);
    Ok(())
}

/// Bytes that end in zeros.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> usize {
        let (&first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(first)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> String {
        let count = self.next() % 24;
        String::from_utf8_lossy(self.take(count)).into_owned()
    }

    fn value(&mut self) -> Value {
        match self.next() % 9 {
            0 => Value::Null,
            1 => json!(self.next() % 2 == 0),
            2 => json!(NUMBERS[self.next() % NUMBERS.len()]),
            3 => json!(u64::MAX),
            4 => json!(self.next()),
            5 => json!(self.text()),
            6 => json!([]),
            7 => json!({}),
            _ => json!([[self.next(), null_or(self)], { "a": self.text() }]),
        }
    }
}

fn null_or(bytes: &mut Bytes<'_>) -> Value {
    if bytes.next() % 2 == 0 { Value::Null } else { json!(bytes.text()) }
}

fn write(dir: &Path, bytes: &mut Bytes<'_>) {
    let mut documents: Vec<Vec<Value>> =
        vec![vec![manifest()], vec![metrics()], samples(), timings(), vec![forecast()]];
    let edits = bytes.next() % 8;
    for _ in 0..edits {
        let (file, line) = (bytes.next() % documents.len(), bytes.next());
        let lines = &mut documents[file];
        let at = line % lines.len();
        match bytes.next() % 6 {
            // Another value somewhere.
            0..=2 => {
                let mut places = Vec::new();
                pointers(&lines[at], String::new(), &mut places);
                if let Some(place) = places.get(bytes.next() | bytes.next() << 8).or(places.last()) {
                    let value = bytes.value();
                    if let Some(target) = lines[at].pointer_mut(place) {
                        *target = value;
                    }
                }
            }
            // The same number in all its places, as a name with two owners would be.
            3 => {
                let copy = lines[at].clone();
                lines.push(copy);
            }
            // A list many times over.
            4 => {
                let mut places = Vec::new();
                pointers(&lines[at], String::new(), &mut places);
                let times = 1 << (bytes.next() % 9);
                let chosen = places.get(bytes.next() % places.len().max(1)).cloned().unwrap_or_default();
                if let Some(Value::Array(list)) = lines[at].pointer_mut(&chosen) {
                    *list = std::iter::repeat_n(list.clone(), times).flatten().collect();
                }
            }
            _ => {
                lines.swap_remove(at);
                if lines.is_empty() {
                    lines.push(bytes.value());
                }
            }
        }
    }
    for (name, lines) in FILES.iter().zip(&documents) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(dir.join(name), text).expect("a file can be written");
    }
    fs::write(dir.join("resolved.toml"), "schema = 1\n").expect("a file can be written");
    // Then the bytes themselves.
    for _ in 0..bytes.next() % 4 {
        let path = dir.join(FILES[bytes.next() % FILES.len()]);
        let Ok(mut content) = fs::read(&path) else { continue };
        let at = (bytes.next() << 8 | bytes.next()) % content.len().max(1);
        match bytes.next() % 4 {
            0 => content.truncate(at),
            1 => drop(content.splice(at..at, bytes.text().into_bytes())),
            2 => content.iter_mut().skip(at).take(1).for_each(|byte| *byte = bytes.next() as u8),
            _ => {
                let _ = fs::remove_file(&path);
                continue;
            }
        }
        fs::write(&path, content).expect("a file can be written");
    }
}

fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), into)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{at}/{i}"), into)),
        _ => {}
    }
    into.push(at);
}

const VARIANTS: [&str; 4] = ["large", "expert", "static[alpha=0.5]", "static[alpha=1]"];

fn manifest() -> Value {
    let cells: Vec<Value> =
        VARIANTS.iter().map(|v| json!({ "variant": v, "task": "qa", "items": 2, "repeats": 1 })).collect();
    json!({
        "schema_version": 1,
        "identity": {
            "config_sha256": "", "logitfuse": "0.1.0", "onnxruntime": "1.23.0",
            "files": [{ "path": "L/model.onnx", "kind": "model", "bytes": 5, "sha256": "" }],
        },
        "scope": { "limit": null, "shard": { "index": 0, "of": 1 } },
        "cells": cells,
        "machine": { "cpu": "x" },
    })
}

fn metrics() -> Value {
    let record = |(i, variant): (usize, &&str)| {
        json!({
            "variant": variant, "task": "qa", "metric": "exact_match", "filter": "none", "n": 2, "value": i as f64 / 4.0,
            "stderr": 0.1, "interval": [0.0, 1.0], "interval_method": "Wilson", "higher_is_better": true,
        })
    };
    let gap = json!({
        "variant": "static[alpha=1]", "task": "qa", "metric": "exact_match,none", "base": "large", "ceiling": "expert", "n": 2,
        "value": 0.5, "interval": [0.0, 1.0], "ratio_to_ceiling": 0.9,
    });
    json!({
        "schema_version": 1, "identity_sha256": "", "complete": true, "limit": null,
        "metrics": VARIANTS.iter().enumerate().map(record).collect::<Vec<_>>(), "gaps": [gap],
    })
}

fn samples() -> Vec<Value> {
    let role = |role: &str, source: &str| {
        json!({
            "role": role, "source": source, "log_prob": -0.5,
            "top_logprobs": [{ "token": 1, "text": "a", "log_prob": -0.1 }],
        })
    };
    let token = |variant: &str, position: usize| {
        let roles = match variant {
            "large" | "expert" => vec![role("base", variant)],
            _ => vec![role("base", "large"), role("expert", "expert"), role("anti", "small")],
        };
        json!({
            "token": position, "text": "a", "log_prob": -0.2, "top_logprobs": [{ "token": 1, "text": "a", "log_prob": -0.1 }],
            "trace": { "alpha": position as f64, "kl_base_fused": 0.1, "saturated": 1.0 }, "roles": roles,
        })
    };
    let sample = |variant: &str, index: usize| {
        json!({
            "schema_version": 1, "variant": variant, "task": "qa", "doc_id": index.to_string(), "doc_index": index, "repeat": 0,
            "doc": { "prompt": "?" }, "target": "a", "prompt_sha256": "",
            "responses": [{
                "text": "aa", "tokens": [0, 1], "log_prob": -0.4, "finish": "stop",
                "trace": [token(variant, 0), token(variant, 1)],
            }],
            "filtered": { "none": "a" }, "metrics": { "exact_match,none": 1.0, "bleu,none": ["a b c d", ["a b c d"]] },
        })
    };
    VARIANTS.iter().flat_map(|variant| [sample(variant, 0), sample(variant, 1)]).collect()
}

fn timings() -> Vec<Value> {
    let timing = |variant: &str, index: usize| {
        json!({
            "key": format!("{variant}/qa/{index}/0"), "tokens": 2, "prefill_seconds": 0.1, "decode_seconds": 0.2,
            "fuse_seconds": 0.01, "sample_seconds": 0.01, "drafted": 4, "accepted": 2, "rounds": 2,
            "sources": [{
                "source": "large", "prefill_seconds": 0.1, "forward_seconds": 0.1, "prefill_tokens": 3, "reused_tokens": 0,
            }],
        })
    };
    VARIANTS.iter().flat_map(|variant| [timing(variant, 0), timing(variant, 1)]).collect()
}

fn forecast() -> Value {
    json!({
        "variant": "static[alpha=1]", "task": "qa", "draft": "expert", "tokens": "auto",
        "costs": { "batch": 1, "round_seconds": [0.01, 0.02], "token_seconds": 0.001 },
    })
}

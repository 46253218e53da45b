//! Compares every filter, metric and statistic with what the real Python packages answered; see
//! `tests/second_opinion/metrics.py`. `LOGITFUSE_METRICS_VECTORS` names another folder of vectors than the committed one.

#![expect(clippy::unwrap_used, reason = "helpers of tests stop at the first thing that is not as they expect it")]
#![expect(clippy::print_stdout, reason = "how much was compared is worth knowing")]

use std::{fmt::Debug, path::PathBuf};

use serde_json::Value;

#[path = "vectors/corpora.rs"]
mod corpora;
#[path = "vectors/filters.rs"]
mod filters;
#[path = "vectors/patterns.rs"]
mod patterns;
#[path = "vectors/statistics.rs"]
mod statistics;
#[path = "vectors/texts.rs"]
mod texts;

/// The rows of a file, its head aside.
fn rows(name: &str) -> Vec<Value> {
    let folder = std::env::var_os("LOGITFUSE_METRICS_VECTORS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors")), PathBuf::from);
    let path = folder.join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows: Vec<Value> = text.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows[0]["made_by"].is_string(), "{name} has a head");
    rows[1..].to_vec()
}

fn texts() -> Vec<String> {
    rows("texts").into_iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn pairs() -> Vec<(usize, usize)> {
    rows("pairs")[0].as_array().unwrap().iter().map(|pair| (index(&pair[0]), index(&pair[1]))).collect()
}

fn index(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(index).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// A string of zeros and ones.
fn bits(value: &Value) -> Vec<bool> {
    value.as_str().unwrap().chars().map(|c| c == '1').collect()
}

/// Python's `zlib.crc32(text.encode()) % 65521 + 2`, which stands for long answers.
fn digest(text: &str) -> u64 {
    let crc = text.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    u64::from(!crc % 65521 + 2)
}

/// Counts what was compared and keeps what differed.
#[derive(Default)]
struct Comparison {
    compared: usize,
    differences: Vec<String>,
}

impl Comparison {
    #[expect(clippy::needless_pass_by_value, reason = "answers are mostly made on the spot")]
    fn check<T: PartialEq + Debug>(&mut self, what: &impl Debug, ours: T, theirs: T) {
        self.compared += 1;
        if ours != theirs {
            self.differences.push(format!("{what:?}: ours {ours:?}, theirs {theirs:?}"));
        }
    }

    /// Equal within a relative or absolute error.
    fn close(&mut self, what: &impl Debug, ours: f64, theirs: f64, tolerance: f64) {
        self.compared += 1;
        let near = (ours - theirs).abs() <= tolerance * theirs.abs().max(1.0);
        if !near {
            self.differences.push(format!("{what:?}: ours {ours:?}, theirs {theirs:?}"));
        }
    }

    #[track_caller]
    fn finish(self, at_least: usize) {
        let shown = self.differences.iter().take(30).fold(String::new(), |all, one| all + one + "\n");
        assert!(self.differences.is_empty(), "{} of {} differ:\n{shown}", self.differences.len(), self.compared);
        assert!(self.compared >= at_least, "only {} compared", self.compared);
        println!("{} compared", self.compared);
    }
}

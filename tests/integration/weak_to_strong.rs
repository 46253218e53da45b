//! The first items of the headline's experiment, word by word: what `docs/results.md` rests on is made again from the weights
//! that ship, by the command that made it.
//!
//! `LOGITFUSE_BLESS=1 cargo xtask test weak_to_strong` writes the texts anew.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use logitfuse_rundir::{Metrics, Run};

use crate::support::runtime;

/// Of each task.
const ITEMS: &str = "4";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Some variants of `examples/experiments/weak-to-strong.toml` on its first items.
fn slice(directory: &Path, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.current_dir(root()).env("LOGITFUSE_ORT_LIB", runtime().library());
    command.args(["run", "examples/experiments/weak-to-strong.toml", "--quiet", "--no-report", "--limit", ITEMS]);
    for variant in ["small", "dynamic-grid", "one-expert"] {
        command.args(["--unset", &format!("variants.{variant}")]);
    }
    command.args(["--set", "variants.static.sweep={ \"strategy.params.alpha\" = [1.0] }"]);
    // Another batch than that of the run that the texts come from.
    command.args(["--batch", "3", "--output"]).arg(directory).args(more);
    command.output().unwrap()
}

fn metrics(directory: &Path) -> Metrics {
    Run::open(directory).unwrap().metrics().unwrap().unwrap()
}

#[test]
fn a_slice_of_the_headline_is_made_again_word_by_word() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("run");
    let output = slice(&directory, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut texts = String::new();
    for sample in Run::open(&directory).unwrap().samples().unwrap() {
        let sample = sample.unwrap();
        let _ = writeln!(texts, "{}\t{}", sample.key(), sample.responses[0].text.trim());
    }
    assert_eq!(texts.lines().count(), 5 * 5 * 4);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/weak_to_strong.tsv");
    if std::env::var_os("LOGITFUSE_BLESS").is_some() {
        fs::write(&file, &texts).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap();
    let different: Vec<_> = committed.lines().zip(texts.lines()).filter(|(a, b)| a != b).collect();
    assert!(committed == texts, "{} texts differ, first {:?}", different.len(), different.first());

    // The tuned models are not here, and their scores are: those of the items that were run.
    let metrics = metrics(&directory);
    let math = metrics.gaps.iter().find(|gap| (&*gap.variant, &*gap.task) == ("dynamic", "math")).unwrap();
    assert_eq!((&*math.ceiling, math.n), ("L_t", 4));
    assert!(!metrics.gaps.iter().any(|gap| gap.task == "cloze"), "no model was tuned for it");
}

/// Before anything is run, which takes minutes.
#[test]
fn a_ceiling_that_nobody_has_scores_of_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |more: &[&str]| {
        let directory = folder.path().join("run");
        let output = slice(&directory, more);
        assert_eq!(output.status.code(), Some(2));
        assert!(!directory.exists());
        String::from_utf8(output.stderr).unwrap()
    };
    let mistyped = refused(&["--set", "gap.ceiling=L_tuned"]);
    assert!(
        mistyped.contains("seed1.test.jsonl: `L_tuned`, which [gap] names, has no scores at task `qa`"),
        "{mistyped}"
    );
    assert!(mistyped.contains("help: at this task it has L, "), "{mistyped}");
    let missing = refused(&["--set", "gap.scores=no/such.jsonl"]);
    assert!(missing.contains("no/such.jsonl: "), "{missing}");
}

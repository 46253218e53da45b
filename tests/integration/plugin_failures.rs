//! Runs in which a plugin fails: its samples say so, the others are made, and nothing is counted in silence.

use std::{fs, path::Path, process::Command};

use logitfuse_plugin_host::PluginFile;
use serde_json::Value;

use crate::{
    plugins::{library, plugin},
    run_support::Bench,
};

const TRUST: [&str; 2] = ["--plugin-trust", "warn"];
const HARD: &str = "plugin org.logitfuse.misbehave/misbehave: fuse at position 0: this one is too hard";

/// The tiny experiment with the misbehaving plugin as its strategy; `more` are keys of `[plugins.bad]`.
fn bench(mode: &str, more: &str) -> Bench {
    let bench = Bench::tiny();
    let toml = bench.toml();
    let (before, _) = toml.split_once("[variants.fused]").unwrap();
    let library = library("misbehave").display();
    bench.write(&format!(
        "{before}[plugins.bad]\npath = '{library}'\n{more}\n[variants.fused]\n\
         strategy = {{ use = 'plugin:misbehave', params = {{ mode = '{mode}' }} }}\n"
    ));
    bench
}

fn metrics(bench: &Bench, directory: &str) -> Value {
    serde_json::from_str(&bench.read(&format!("{directory}/metrics.json"))).unwrap()
}

#[test]
fn a_failure_ends_its_sample_and_no_other() {
    let bad = bench("fails-sometimes", "");
    let run = |directory: &str, batch: &str| {
        bad.fail(&[&["run", "x.toml", "-o", directory, "--batch", batch], &TRUST[..]].concat(), 2)
    };
    let said = run("x", "4");
    let samples = bad.samples("x");
    let failed = || samples.iter().filter(|sample| sample.get("error").is_some());
    let count = failed().count();
    assert!(count > 0 && count < samples.len(), "some fail and some do not: {count}");
    assert!(said.contains(&format!("error: {count} samples failed: the strategy's plugin did")), "{said}");
    let first = failed().next().unwrap();
    let key = ["variant", "task", "doc_id"].map(|key| first[key].as_str().unwrap()).join("/");
    assert!(
        said.contains(&format!("{key}/{}: failed: {}", first["repeat"], first["error"].as_str().unwrap())),
        "{said}"
    );
    for sample in failed() {
        // Of several choices the one is named that it failed at.
        let error = sample["error"].as_str().unwrap();
        assert!(error.ends_with(HARD), "{error}");
        assert_eq!(error.starts_with("continuation "), sample["task"] == "choice", "{error}");
        assert_eq!((&sample["responses"], &sample["metrics"]), (&serde_json::json!([]), &serde_json::json!({})));
        assert!(!sample["target"].is_null(), "what would have been right is told all the same");
    }
    // Both kinds of tasks, and every sample that did not fail is what it is where none does.
    for task in ["words", "choice"] {
        assert!(failed().any(|sample| sample["task"] == task), "{task}");
    }
    let good = bench("good", "");
    good.run("x", &TRUST);
    for (sample, good) in samples.iter().zip(good.samples("x")) {
        if sample.get("error").is_none() {
            assert_eq!(sample["responses"], good["responses"]);
        }
    }
    // What failed is counted, and has no part in the figures.
    let metrics = metrics(&bad, "x");
    let cells = metrics["failures"].as_array().unwrap();
    let sum = |key: &str| cells.iter().map(|cell| cell[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("failed"), count as u64);
    for record in metrics["metrics"].as_array().unwrap() {
        let scored = |sample: &&Value| {
            sample["task"] == record["task"] && sample["metrics"].as_object().is_some_and(|scores| !scores.is_empty())
        };
        assert_eq!(record["n"], samples.iter().filter(scored).count(), "{record}");
    }
    let report = bad.read("x/report.html");
    assert!(report.contains("samples failed") && report.contains("this one is too hard"));
    // The same whatever the batch, and a directory that is complete keeps its failures.
    run("one", "1");
    bad.assert_equal("x", "one");
    run("x", "4");
    bad.assert_equal("x", "one");
    let table = bad.output(&[&["run", "x.toml", "-o", "x", "--no-report"], &TRUST[..]].concat()).stdout;
    assert!(String::from_utf8_lossy(&table).contains("samples failed and have no score, the first is item"));
}

#[test]
fn texts_of_the_base_alone_are_marked_counted_and_shown() {
    let bench = bench("nan", "on_error = 'fallback_to_base'");
    let table = bench.succeed(&[&["run", "x.toml", "-o", "x"], &TRUST[..]].concat());
    let samples = bench.samples("x");
    for sample in &samples {
        let tokens = sample["responses"].as_array().unwrap().iter().map(|r| r["tokens"].as_array().unwrap().len());
        assert_eq!(sample["fallback_tokens"], tokens.sum::<usize>(), "{sample}");
    }
    let cells = metrics(&bench, "x")["failures"].clone();
    let of = |task: &str| samples.iter().filter(|sample| sample["task"] == task).count();
    for cell in cells.as_array().unwrap() {
        assert_eq!(
            (&cell["failed"], &cell["fallback_samples"]),
            (&0.into(), &of(cell["task"].as_str().unwrap()).into())
        );
    }
    assert!(table.contains("the plugin failed in 18 of 18 samples"), "{table}");
    assert!(bench.read("x/report.html").contains("texts of the base alone"));
    let compared = bench.succeed(&["compare", "x", "x"]);
    assert!(compared.contains("a plugin failed and the base went on alone"), "{compared}");
}

/// An exit handler of the plugin says that all is well.
#[test]
fn the_exit_status_is_the_hosts() {
    let bench = bench("exit-handler", "");
    bench.write(&format!(
        "{}[[expect]]\nvariant = 'fused'\nmetric = 'exact_match,none'\nat_least = 2.0\n",
        bench.toml()
    ));
    let said = bench.fail(&[&["run", "x.toml", "-q", "--no-report", "-o", "x"], &TRUST[..]].concat(), 1);
    assert!(said.contains("expectation failed"), "{said}");
}

/// What only looks runs nothing: a constructor that ends the process would tell.
#[test]
fn looking_runs_no_code_of_a_plugin() {
    let bench = bench("good", "");
    let crashing = |args: &[&str]| {
        let output = bench.logitfuse(args).env("LOGITFUSE_MISBEHAVE", "constructor-crashes").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let library = library("misbehave").to_str().unwrap();
    for args in [
        &["config", "check", "x.toml", "--plugin-trust", "warn"][..],
        &["config", "show", "x.toml"],
        &["plan", "x.toml", "--plugin-trust", "off"],
        &["plugin", "lock", "x.toml"],
        &["config", "check", "x.toml"],
        &["plugin", "show", library],
        &["plugin", "list"],
    ] {
        let (status, said) = crashing(args);
        assert_eq!(status, Some(0), "{args:?}: {said}");
        if args[1] == "check" {
            assert!(said.contains("sound; ") && said.contains(&format!("; read and not run: {library}")), "{said}");
        }
    }
    // The crash is what running it would have been.
    assert_eq!(crashing(&["run", "x.toml", "-o", "x"]).0, None);
    // It is checked all the same.
    bench.write(&bench.toml().replace("mode = 'good'", "strength = 7"));
    let said = bench.fail(&["config", "check", "x.toml"], 2);
    assert!(said.contains("/strength: must be at most 1, and is 7"), "{said}");
}

#[test]
fn a_library_that_only_an_experiment_names_must_be_pinned() {
    let bench = bench("good", "");
    for command in [&["config", "check", "x.toml"][..], &["run", "x.toml", "-o", "x"]] {
        let said = bench.fail(command, 2);
        assert!(said.contains("not pinned, and it is the experiment that names it"), "{said}");
    }
    assert!(!bench.path("x").exists(), "nothing was begun");
    // Where the user keeps plugins, it is loaded with a warning.
    let folder = library("misbehave").parent().unwrap().to_str().unwrap();
    let toml = bench.toml();
    let (before, after) = toml.split_once("[plugins.bad]").unwrap();
    let (_, variants) = after.split_once("[variants.fused]").unwrap();
    bench.write(&format!("{before}[variants.fused]{variants}"));
    let output = bench.output(&["run", "x.toml", "-o", "y", "--no-report", "--plugin-dir", folder]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("not pinned; a plugin runs with all your rights"), "{said}");
}

/// A pin covers the file, not what lies beside it.
#[cfg(target_os = "linux")]
#[test]
fn libraries_that_no_pin_covers_are_told_and_refused() {
    let bench = bench("good", "");
    let folder = bench.path("");
    let compile = |arguments: &[&str]| {
        let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/abi/include");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-I"]).arg(header).args(arguments).current_dir(&folder);
        assert!(cc.status().unwrap().success());
    };
    fs::write(bench.path("beside.c"), "int beside(void) { return 1; }\n").unwrap();
    let text = r#"
        #include "logitfuse_plugin.h"
        LF_DEFINE_META({ "abi": [1, 0], "plugin": { "id": "x", "version": "1" }, "strategies": [ { "id": "misbehave",
          "params": { "type": "object" }, "roles": [ { "name": "base", "min": 1, "max": 1 } ] } ] });
        extern int beside(void);
        LF_EXPORT const lf_plugin_v1 *lf_plugin_entry_v1(const lf_host_v1 *host, lf_error *err) {
          (void)host; (void)err; return beside() ? 0 : 0;
        }
    "#;
    fs::write(bench.path("x.c"), text).unwrap();
    compile(&["beside.c", "-o", "libbeside.so"]);
    compile(&["x.c", "-o", "x.so", "-L.", "-lbeside", "-Wl,--no-as-needed", "-lm"]);
    let file = bench.path("x.so");
    let shown = plugin(&["show", file.to_str().unwrap()], None);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("libbeside.so (not covered by the sha256)") && shown.contains("libm.so.6"), "{shown}");
    assert!(!shown.contains("libm.so.6 (not"), "{shown}");
    let sha256 = shown.lines().find_map(|line| line.strip_prefix("sha256")).unwrap().trim();
    let name = format!("path = '{}'\nsha256 = '{sha256}'", file.display());
    let toml = bench.toml();
    bench.write(&toml.replace(&format!("path = '{}'", library("misbehave").display()), &name));
    let said = bench.fail(&["config", "check", "x.toml", "--plugin-trust", "require-pin"], 2);
    assert!(
        said.contains("needs libbeside.so, which its sha256 does not cover, and the policy is require-pin"),
        "{said}"
    );
    bench.succeed(&["config", "check", "x.toml"]);

    // Section headers are for tools: what the loader reads tells, also where they say something else.
    let mut bytes = fs::read(&file).unwrap();
    let number =
        |bytes: &[u8], at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
    let (table, size, count) = (number(&bytes, 40, 8), number(&bytes, 58, 2), number(&bytes, 60, 2));
    let dynamic =
        (0..count).map(|section| table + section * size + 4).find(|&kind| number(&bytes, kind, 4) == 6).unwrap();
    bytes[dynamic] = 1;
    let hidden = PluginFile::from_bytes(&file, bytes).unwrap();
    assert_eq!(hidden.uncovered(), ["libbeside.so"]);
}

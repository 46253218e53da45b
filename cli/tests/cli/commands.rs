//! The command as its users meet it: exit statuses, one-line errors with a remedy, data on stdout and talk on stderr.

use std::{path::Path, process::Output};

use assert_cmd::Command;
use serde_json::{Map, Value, json};

use crate::support::{binary, runtime_library, tiny};

fn logitfuse() -> Command {
    let mut command = Command::new(binary());
    command.env("LOGITFUSE_ORT_LIB", runtime_library()).env_remove("RUST_BACKTRACE");
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    logitfuse().args(args).output().expect("the command starts")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

/// Exit status 2, nothing on stdout, one `error:` line with these words, one `help:` line, no panic.
#[track_caller]
pub(crate) fn refused(args: &[&str], words: &[&str]) {
    refused_output(&run(args), words);
}

#[track_caller]
fn refused_output(output: &Output, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("note:")).collect();
    assert!(
        matches!(lines[..], [error, help] if error.starts_with("error: ") && help.starts_with("help: ")),
        "{stderr}"
    );
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in: {}", lines[0]);
    }
}

pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn json_of(args: &[&str]) -> Value {
    let output = run(args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("stdout is JSON")
}

#[test]
fn one_model_generates() {
    let model = tiny("gqa_fp32");
    let one = json_of(&["generate", "--model", shown(&model), "-n", "8", "--format", "json", "-q", "a b"]);
    assert_eq!(one["schema_version"], 1);
    assert_eq!(one["strategy"], "none");
    assert!(one["tokens"].as_array().is_some_and(|tokens| !tokens.is_empty()));
    let piped = logitfuse()
        .args(["generate", "--model", shown(&model), "-n", "8", "--format", "json", "-q"])
        .write_stdin("a b\n")
        .output()
        .expect("the command starts");
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).expect("stdout is JSON"), one);
}

#[test]
fn threads_and_alpha_zero_change_no_byte() {
    let (large, small) = (tiny("gqa_fp32"), tiny("plain_fp32"));
    let (base, expert, anti) =
        (format!("base={}", shown(&large)), format!("expert={}", shown(&small)), format!("anti={}", shown(&small)));
    let fused = |alpha: &str, threads: &str| {
        let roles = ["--role", &base, "--role", &expert, "--role", &anti];
        let rest = ["--strategy", "static-proxy", "--alpha", alpha, "--threads", threads, "-n", "12"];
        json_of(&[&["generate", "-q", "--format", "json", "-t", "0.8", "a b c"], &roles[..], &rest[..]].concat())
    };
    let one = fused("1.5", "1");
    assert_eq!(fused("1.5", "2"), one);
    assert_eq!(fused("0", "2")["tokens"], one["tokens"], "an expert that is its own base changes nothing");
}

#[test]
fn a_trace_holds_what_the_fusion_did() {
    let model = tiny("gqa_fp32");
    let args = ["generate", "-q", "--model", shown(&model), "--context", "a b", "--trace", "-n", "4", "c d"];
    let record = json_of(&[&args[..], &["--format", "json"]].concat());
    assert_eq!(record["strategy"], "in-context");
    let first = &record["trace"][0];
    assert_eq!(first["trace"]["alpha"], 0.5);
    assert_eq!(first["roles"][1]["role"], "anti");
    assert_eq!(first["roles"][0]["top_logprobs"].as_array().map(Vec::len), Some(3));
    let table = run(&args);
    let table = text(&table.stdout);
    assert!(table.contains("kl_fused_base") && table.contains("anti's top token"), "{table}");
}

#[test]
fn a_run_resumes_where_it_was_cut() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let (toml, out) = (folder.path().join("x.toml"), folder.path().join("out.jsonl"));
    let model = tiny("gqa_fp32");
    let config = format!(
        "schema = 1\n[run]\nprompts = ['a', 'b', 'c']\nmax_new_tokens = 5\n[sources.base]\nmodel = '{}'\n",
        shown(&model)
    );
    std::fs::write(&toml, config).expect("the test's folder is writable");
    let go = || assert!(run(&["run", "-q", shown(&toml), "-o", shown(&out)]).status.success());
    go();
    let whole = std::fs::read_to_string(&out).expect("the run wrote its output");
    assert_eq!(whole.lines().count(), 3);
    // As a kill in the middle of the second line leaves it.
    let cut = whole.find('\n').expect("there are lines") + 20;
    std::fs::write(&out, &whole[..cut]).expect("the test's folder is writable");
    go();
    assert_eq!(std::fs::read_to_string(&out).expect("the run wrote its output"), whole);
}

/// Nor do drafts change a token.
#[test]
fn the_batch_changes_no_byte() {
    let (large, small) = (tiny("gqa_fp32"), tiny("plain_fp32"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let toml = folder.path().join("x.toml");
    let mut outputs = Vec::new();
    for speculation in ["", "[speculation]\ndraft = 'expert'\ntokens = 2\n", "[speculation]\ndraft = 'prompt_lookup'\n"]
    {
        let config = format!(
            "schema = 1\n[run]\nprompts = ['a b', 'c', 'a b c a b c', 'the', 'b a']\nmax_new_tokens = 9\n\
             [sources.base]\nmodel = '{}'\n[sources.expert]\nmodel = '{}'\n[sources.anti]\nmodel = '{}'\nuser = '{{{{ prompt }}}}!'\n\
             [strategy]\nuse = 'static-proxy'\n{speculation}",
            shown(&large),
            shown(&small),
            shown(&small)
        );
        std::fs::write(&toml, config).expect("the test's folder is writable");
        for batch in ["1", "2", "8"] {
            let output = run(&["run", "-q", shown(&toml), "--batch", batch]);
            assert!(output.status.success(), "{}", text_of(&output));
            outputs.push(text(&output.stdout).to_owned());
        }
    }
    assert_eq!(outputs[0].lines().count(), 5);
    let tokens = |output: &str| -> Vec<Value> {
        output
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON")["tokens"].clone())
            .collect()
    };
    for drafted in outputs.chunks(3) {
        assert!(drafted.iter().all(|output| *output == drafted[0]));
        // Rows of a draft are computed together, which moves the last digits of their log-probabilities.
        assert_eq!(tokens(&drafted[0]), tokens(&outputs[0]));
    }
}

fn text_of(output: &Output) -> &str {
    text(&output.stderr)
}

#[test]
fn models_that_do_not_fit_are_told_apart() {
    let (one, same, other) = (tiny("gqa_fp32"), tiny("plain_fp32"), tiny("gqa_two_eos"));
    assert_eq!(run(&["models", "inspect", shown(&one), shown(&same)]).status.code(), Some(0));
    let verdict = run(&["models", "inspect", shown(&one), shown(&other)]);
    assert_eq!(verdict.status.code(), Some(1));
    assert!(text(&verdict.stdout).contains("cannot be fused"), "{}", text(&verdict.stdout));
    let (base, expert, anti) =
        (format!("base={}", shown(&one)), format!("expert={}", shown(&other)), format!("anti={}", shown(&one)));
    let roles = ["--role", &base, "--role", &expert, "--role", &anti, "--strategy", "static-proxy"];
    refused(&[&["generate", "a"], &roles[..]].concat(), &["id "]);
}

#[test]
fn bad_models_are_refused_before_the_first_token() {
    let broken = |name: &str| tiny(&format!("broken/{name}"));
    refused(&["generate", "--model", "no/such/folder", "a"], &["no/such/folder", "no such model folder"]);
    for (name, word) in [
        ("truncated", "ONNX"),
        ("not_a_decoder", "decoder"),
        ("missing_external", "model.onnx.data"),
        ("corrupt_config", "config"),
        ("unknown_input", "token_type_ids"),
    ] {
        // The tokenizer is looked at after the graph, so a tokenizer that is missing there does not matter here.
        refused(&["models", "inspect", shown(&broken(name))], &[word]);
    }
}

#[test]
fn bad_tokenizers_are_refused() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for file in ["model.onnx", "genai_config.json", "config.json"] {
        let from = tiny("gqa_fp32").join(file);
        if from.exists() {
            std::fs::copy(from, folder.path().join(file)).expect("the test's folder is writable");
        }
    }
    let generate = || run(&["generate", "--model", shown(folder.path()), "a"]);
    refused_output(&generate(), &["tokenizer.json"]);
    std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": ").expect("the test's folder is writable");
    refused_output(&generate(), &["tokenizer.json"]);
    // A tokenizer of some other, larger model: most of its ids have no logit.
    let vocab: Map<String, Value> = (0..5000).map(|i| (format!("w{i}"), json!(i))).collect();
    let foreign = json!({ "model": { "type": "WordLevel", "unk_token": "w0", "vocab": vocab } });
    std::fs::write(folder.path().join("tokenizer.json"), foreign.to_string()).expect("the test's folder is writable");
    refused_output(&generate(), &["tokens"]);
}

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let model = tiny("gqa_fp32");
    let model = shown(&model);
    let long = "a ".repeat(5000);
    refused(&["generate", "--model", model, &long], &["context"]);
    refused(&["generate", "--model", model, "--provider", "tpu", "a"], &["tpu"]);
    refused(&["generate", "--model", model, "--provider", "cuda", "a"], &["cuda"]);
    refused(&["generate", "--model", model, "--strategy", "dynamo", "a"], &["dynamo"]);
    refused(&["generate", "--model", model, "--strategy", "in-context", "--param", "alhpa=1", "a"], &["alhpa"]);
    refused(&["generate", "--model", model, "--top-p", "1.5", "a"], &["top_p"]);
    refused(&["generate", "a"], &["no model"]);
    refused(&["run", "no.toml"], &["no.toml"]);
}

#[test]
fn cuda_falls_back_along_the_users_list_and_says_so() {
    let model = tiny("gqa_fp32");
    let output =
        run(&["generate", "--model", shown(&model), "--provider", "cuda", "--provider", "cpu", "-n", "2", "a"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("note: cpu: cuda not used: "), "{}", text(&output.stderr));
}

#[test]
fn a_typo_in_a_toml_is_pointed_at() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let toml = folder.path().join("x.toml");
    std::fs::write(&toml, "schema = 1\n[run]\nmax_tokens = 3\n").expect("the test's folder is writable");
    let output = run(&["run", shown(&toml)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty() && said.starts_with("error: unknown key `max_tokens` in [run]\n"), "{said}");
    assert!(said.contains("x.toml:3:1\n") && said.contains("3 | max_tokens = 3\n  | ^^^^^^^^^^\n"), "{said}");
}

#[test]
fn a_missing_runtime_says_how_to_get_one() {
    let nowhere = tempfile::tempdir().expect("a folder for the test");
    let model = tiny("gqa_fp32");
    let lib = nowhere.path().join("libonnxruntime.so");
    refused(&["generate", "--ort-lib", shown(&lib), "--model", shown(&model), "a"], &["libonnxruntime.so"]);
    std::fs::write(&lib, "not a library").expect("the test's folder is writable");
    refused(&["generate", "--ort-lib", shown(&lib), "--model", shown(&model), "a"], &["libonnxruntime.so"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_stdout_is_an_error_and_no_panic() {
    let model = tiny("gqa_fp32");
    let script =
        format!("{} generate -q --model {} --ignore-eos -n 200 a 2>&3 | true", shown(&binary()), shown(&model));
    let output = std::process::Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {{ {script}; }} 3>&1")])
        .env("LOGITFUSE_ORT_LIB", runtime_library())
        .output()
        .expect("bash starts");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stdout);
    assert!(said.starts_with("error: stdout was closed") && said.contains("help: "), "{said}");
}

#[test]
fn figures_are_svg_and_png_where_the_build_has_it() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let (toml, directory) = (folder.path().join("x.toml"), folder.path().join("run"));
    std::fs::write(folder.path().join("words.jsonl"), "{\"prompt\": \"a b\"}\n{\"prompt\": \"c\"}\n")
        .expect("the test's folder is writable");
    let config = format!(
        "schema = 1\n[run]\nmax_new_tokens = 3\n[sources.base]\nmodel = '{}'\n\
         [tasks.words]\ndata = 'words.jsonl'\ntarget = '{{{{ \"a\" }}}}'\nmetrics = [{{ metric = 'exact_match' }}]\n",
        shown(&tiny("gqa_fp32"))
    );
    std::fs::write(&toml, config).expect("the test's folder is writable");
    assert!(run(&["run", "-q", "--no-report", shown(&toml), "-o", shown(&directory)]).status.success());
    let figure = |ending: &str| directory.join("figures").join(format!("scores.{ending}")).exists();
    let report = |format: &str| run(&["report", shown(&directory), "--format", format]);
    assert!(report("svg").status.success() && figure("svg") && !figure("png"));
    let png = report("png");
    if cfg!(feature = "png") {
        assert!(png.status.success() && figure("png"), "{}", text(&png.stderr));
    } else {
        refused_output(&png, &["figures as PNG"]);
        assert!(text(&png.stderr).contains("`cargo install --path cli --features png`"), "{}", text(&png.stderr));
    }
}

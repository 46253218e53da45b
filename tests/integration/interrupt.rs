//! Ctrl-C while a model is in the middle of something that would not end, and rows that are no numbers, as users meet them.

use std::{
    fs,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{runtime, tiny};

/// A folder with an experiment over a model of `odd/` whose last prompt, a nine, brings out what is odd about it.
fn experiment(model: &str, rest: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!(
        "schema = 1\n[run]\nmax_new_tokens = 4\n{rest}[sources.base]\nmodel = '{}'\nchat_template = 'none'\n",
        tiny("odd").join(model).display()
    );
    fs::write(folder.path().join("x.toml"), toml).unwrap();
    let items = ["a", "b", "9"].map(|prompt| format!("{{\"id\": \"item {prompt}\", \"prompt\": \"{prompt}\"}}\n"));
    fs::write(folder.path().join("items.jsonl"), items.concat()).unwrap();
    folder
}

fn logitfuse(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.args(args).current_dir(folder.path()).env_remove("RUST_BACKTRACE");
    command.env("LOGITFUSE_ORT_LIB", runtime().library());
    command
}

/// Starts the command, waits until it has written so many lines, and interrupts it as a terminal does.
#[cfg(unix)]
fn interrupted(folder: &TempDir, args: &[&str], file: &str, lines: usize) -> Output {
    let mut child = logitfuse(folder, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let written = || fs::read_to_string(folder.path().join(file)).map_or(0, |text| text.lines().count());
    while written() < lines {
        assert_eq!(child.try_wait().unwrap(), None, "the command ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    // The next pass has begun by now, or begins with the flag set: the command ends either way.
    thread::sleep(Duration::from_millis(200));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_pass_that_would_not_end_and_loses_no_sample() {
    for model in ["endless", "endless_cached"] {
        let folder = experiment(model, "data = 'items.jsonl'\n");
        let output = interrupted(&folder, &["run", "x.toml", "--batch", "1", "-o", "out.jsonl"], "out.jsonl", 2);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("interrupted after 2 samples"), "{stderr}");
        let lines = fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
        assert!(lines.lines().count() == 2 && lines.contains("item a") && lines.contains("item b"), "{lines}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_of_tasks_and_loses_no_sample() {
    for kind in [
        "target = \"{{ 'a' }}\"\nmetrics = [{ metric = 'exact_match' }]\n",
        "output_type = 'multiple_choice'\nchoices = ['a', 'b']\ntarget = \"{{ '0' }}\"\n",
    ] {
        let folder = experiment("endless", "");
        let toml = fs::read_to_string(folder.path().join("x.toml")).unwrap();
        let tasks = format!("{toml}[tasks.t]\ndata = 'items.jsonl'\n{kind}");
        fs::write(folder.path().join("x.toml"), tasks).unwrap();
        let args = ["run", "x.toml", "--batch", "1", "-o", "out"];
        let output = interrupted(&folder, &args, "out/samples.jsonl", 2);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        let lines = fs::read_to_string(folder.path().join("out/samples.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
    }
}

/// The error line of a command that fails.
fn refusal(folder: &TempDir, args: &[&str]) -> String {
    let output = logitfuse(folder, args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr.lines().find(|line| line.starts_with("error:")).unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

#[test]
fn a_row_that_is_no_distribution_is_told_with_source_entry_item_and_position() {
    let what = "source `base` yielded a row that is no distribution at token 0: entry 41 is NaN";
    let folder = experiment("not_a_number", "data = 'items.jsonl'\n");
    for batch in ["1", "4"] {
        let refused = refusal(&folder, &["run", "x.toml", "--batch", batch]);
        assert_eq!(refused, format!("error: item 9: {what}"));
    }
    let toml = fs::read_to_string(folder.path().join("x.toml")).unwrap().replace("data = 'items.jsonl'\n", "");
    for kind in [
        "target = \"{{ 'a' }}\"\nmetrics = [{ metric = 'exact_match' }]\n",
        "output_type = 'multiple_choice'\nchoices = ['a', 'b']\ntarget = \"{{ '0' }}\"\n",
    ] {
        fs::write(folder.path().join("x.toml"), format!("{toml}[tasks.t]\ndata = 'items.jsonl'\n{kind}")).unwrap();
        let refused = refusal(&folder, &["run", "x.toml", "-o", &format!("out{}", kind.len())]);
        assert!(refused.ends_with(&format!("/t/item 9: {what}")), "{refused}");
    }
    let toml = fs::read_to_string(folder.path().join("x.toml")).unwrap();
    let with_data = toml.split("[tasks").next().unwrap().replace("[run]\n", "[run]\ndata = 'items.jsonl'\n");
    fs::write(folder.path().join("x.toml"), with_data).unwrap();
    let refused = refusal(&folder, &["tape", "record", "x.toml", "-o", "x.lftape", "--reference", "prompt"]);
    assert!(refused.contains("text `item 9`: ") && refused.ends_with(what), "{refused}");
}

#[test]
fn a_bias_beyond_the_vocabulary_is_found_before_weights_are_loaded() {
    let folder = experiment("not_a_number", "prompts = ['a']\nlogit_bias = { '97' = 2.0 }\n");
    let refused = refusal(&folder, &["config", "check", "x.toml"]);
    assert!(refused.contains("logit_bias") && refused.contains("97"), "{refused}");
}

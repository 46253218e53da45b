//! `logitfuse merge` on the family's models.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{binary, runtime_library};

fn family() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family/models").canonicalize().unwrap()
}

/// A folder with a recipe that merges two experts of the family.
fn bench(method: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let family = family();
    let recipe = format!(
        "{method}\n[base]\nmodel = '{base}'\n[[expert]]\nmodel = '{qa}'\n[[expert]]\nmodel = '{math}'\nweight = 0.8\n",
        base = family.join("S").display(),
        qa = family.join("S-qa").display(),
        math = family.join("S-math").display(),
    );
    fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).args(args).env("LOGITFUSE_ORT_LIB", runtime_library()).env_remove("RUST_BACKTRACE");
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.file_name().unwrap().into(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_merged_model_is_loaded_like_its_parents() {
    for method in ["method = \"task_arithmetic\"\nlambda = 0.5", "method = \"dare_ties\"\ndensity = 0.5\nseed = 3"] {
        let bench = bench(method);
        let output = run(bench.path(), &["merge", "recipe.toml", "-o", "merged"]);
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("merged/model.onnx") && text.contains("23 tensors merged, 4 equal in all of them"),
            "{text}"
        );
        assert_eq!(said(&output).matches("states no licence").count(), 3, "{}", said(&output));

        let prompt = "Problem: Anna has 99 cards. Anna gives away 38. How many now?\nWork:";
        let flags = ["generate", "--model", "merged", "--chat-template", "none", "--max-new-tokens", "8", prompt];
        let generated = run(bench.path(), &flags);
        assert!(generated.status.success(), "{}", said(&generated));
        assert!(!generated.stdout.is_empty());
    }
}

#[test]
fn what_was_made_is_told_as_json() {
    let bench = bench("method = \"ties\"");
    let output = run(bench.path(), &["merge", "-q", "--format", "json", "recipe.toml", "-o", "merged"]);
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["method"], &told["merged"], &told["requantised"]), (&"ties".into(), &23.into(), &Value::Null));
    // The same again, elsewhere: the same bytes.
    run(bench.path(), &["merge", "-q", "recipe.toml", "-o", "deeper/again"]);
    assert!(files(&bench.path().join("merged")) == files(&bench.path().join("deeper/again")));
}

#[test]
fn what_is_wrong_is_one_error_and_a_help_line() {
    let bench = bench("method = \"ties\"\nlambda = nan");
    for (args, words) in [
        (&["merge", "recipe.toml", "-o", "merged"][..], "error: recipe.toml:2:10: `lambda` is NaN"),
        (&["merge", "missing.toml", "-o", "merged"], "error: missing.toml: no such file"),
        (&["merge", ".", "-o", "merged"], "error: .: is no regular file"),
    ] {
        let output = run(bench.path(), args);
        assert_eq!(output.status.code(), Some(2));
        let text = said(&output);
        assert!(text.starts_with(words) && text.contains("\nhelp: "), "{text}");
    }
    let recipe = bench.path().join("recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap().replace("lambda = nan", "");
    fs::write(&recipe, text.replace("S-qa", "L")).unwrap();
    let output = run(bench.path(), &["merge", "recipe.toml", "-o", "merged"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).starts_with("error: S and L have different inputs: "), "{}", said(&output));
    fs::write(&recipe, text.replace("S-qa", "S-no")).unwrap();
    let output = run(bench.path(), &["merge", "recipe.toml", "-o", "merged"]);
    let line = said(&output);
    assert!(line.starts_with("error: recipe.toml:6:9: ") && line.contains("no such model folder"), "{line}");
    let there: Vec<_> = fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["recipe.toml"]);
}

#[test]
fn help_shows_a_recipe_that_is_one() {
    let bench = bench("");
    let output = run(bench.path(), &["merge", "--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let recipe: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains("method ="))
        .take_while(|line| !line.starts_with("Models have"))
        .collect();
    let recipe = recipe.join("\n").replace("models/", &format!("{}/", family().display()));
    fs::write(bench.path().join("recipe.toml"), recipe).unwrap();
    let output = run(bench.path(), &["merge", "recipe.toml", "-o", "merged"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// At whatever moment it is killed, there is the whole folder or none, and the next attempt clears up.
#[cfg(unix)]
#[test]
fn a_killed_merge_leaves_no_half_folder() {
    let bench = bench("method = \"ties\"");
    let args = ["merge", "-q", "recipe.toml", "-o", "merged"];
    assert!(run(bench.path(), &["merge", "-q", "recipe.toml", "-o", "whole"]).status.success());
    let whole = files(&bench.path().join("whole"));
    let target = bench.path().join("merged");
    let (mut without, mut left) = (0, 0);
    for life in 0..60 {
        let mut child = command(bench.path(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2 * life));
        child.kill().unwrap();
        child.wait().unwrap();
        if target.exists() {
            assert!(files(&target) == whole, "life {life}");
            fs::remove_dir_all(&target).unwrap();
        } else {
            without += 1;
        }
        left += partial(bench.path());
    }
    assert!(without > 0, "none was killed in time");
    assert!(left > 0, "none was killed at work");
    let output = run(bench.path(), &["merge", "recipe.toml", "-o", "merged"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(files(&target) == whole);
    assert_eq!(partial(bench.path()), 0);
}

fn partial(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".merged.partial-")).count()
}

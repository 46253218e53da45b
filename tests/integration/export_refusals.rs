//! Exports that cannot be, and exports that are killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tiny;

fn family(member: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family/models").join(member)
}

/// A folder with an experiment of the family; `change` has the last word.
fn experiment(change: impl FnOnce(&mut Value)) -> TempDir {
    let workspace = tempfile::tempdir().unwrap();
    let mut experiment = json!({
        "schema": 1,
        "sources": {
            "base": { "model": family("L") },
            "expert": { "model": family("S-qa") },
            "anti": { "model": family("S") },
        },
        "strategy": { "use": "static-proxy", "params": {} },
    });
    change(&mut experiment);
    fs::write(workspace.path().join("x.toml"), toml::to_string(&experiment).unwrap()).unwrap();
    workspace
}

fn export(workspace: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.current_dir(workspace.path()).args(["export", "x.toml", "-o", "fused"]).args(args);
    command
}

/// The message of an export that is refused, and nothing of it is there.
fn refused(args: &[&str], change: impl FnOnce(&mut Value)) -> String {
    let workspace = experiment(change);
    let output = export(&workspace, args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let left: Vec<_> = fs::read_dir(workspace.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["x.toml"], "an export that is refused leaves nothing");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_no_graph_is_refused_with_the_reason() {
    let strategy = |id: &str, params: Value| {
        let id = id.to_owned();
        move |experiment: &mut Value| experiment["strategy"] = json!({ "use": id, "params": params })
    };
    let genai = ["--target", "genai"];
    let cases = [
        (
            refused(&genai, strategy("static-proxy", json!({ "top_p": 0.9 }))),
            "/top_p: a nucleus needs the vocabulary sorted",
        ),
        (refused(&genai, strategy("dynamic-kl", json!({ "ema": 0.5 }))), "/ema: smoothing remembers"),
        (refused(&genai, strategy("plugin:mine", json!({}))), "`plugin:mine` is a plugin: machine code"),
        (
            refused(&genai, |x| x["strategy"]["gate"] = json!({ "max_prob": 0.3 })),
            "gate: it spares models from running",
        ),
        (refused(&genai, |x| x["strategy"]["schedule"] = json!({ "shape": "linear", "tokens": 10 })), "schedule"),
        (
            refused(&genai, |x| x["sources"]["expert"]["user"] = json!("Q: {{ prompt }}")),
            "its prompt differs from that of `base`",
        ),
        (refused(&["--target", "triton", "--check", "1"], |_| {}), "--check: a model repository is not one model"),
        (refused(&["--target", "onnx", "--check", "1"], |_| {}), "x.toml: nothing to check with"),
        (refused(&["--target", "genai", "--draft", "expert"], |_| {}), "draft: means something for target onnx only"),
        (refused(&["--target", "onnx", "--draft", "helper"], |_| {}), "draft: no model is called `helper`"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected) && message.contains("help: "), "{message}\n{expected}");
    }
}

#[test]
fn models_that_are_broken_are_refused_by_name() {
    let damage = |how: fn(&mut Vec<u8>)| {
        let folder = copy(&family("S-qa"));
        let file = folder.path().join("model.onnx");
        let mut bytes = fs::read(&file).unwrap();
        how(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let message = refused(&["--target", "onnx"], |x| x["sources"]["expert"]["model"] = json!(folder.path()));
        assert!(message.contains("model.onnx") && message.contains("help: "), "{message}");
    };
    damage(|bytes| bytes.truncate(bytes.len() / 2));
    damage(Vec::clear);
    damage(|bytes| bytes[2..40].fill(0xff));
    // A value that no node makes: the name of an initializer is another one, of the same length.
    damage(|bytes| {
        let name = b"lm_head";
        let at = bytes.windows(name.len()).rposition(|window| window == name);
        let at = at.unwrap_or_else(|| bytes.windows(5).rposition(|window| window == b"embed").unwrap());
        bytes[at] = b'#';
    });
}

/// genai must be told how long a sequence may be; a number that no model states would be an invention.
#[test]
fn the_context_length_is_stated_or_the_export_is_refused() {
    let length_of = |change: fn(&mut Value)| {
        let workspace = experiment(change);
        assert!(export(&workspace, &["--target", "genai", "-q"]).status().unwrap().success());
        let config = fs::read(workspace.path().join("fused/genai_config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["model"]["context_length"], config["search"]["max_length"]);
        config["model"]["context_length"].clone()
    };
    assert_eq!(length_of(|_| {}), 512);
    assert_eq!(length_of(|experiment| experiment["sources"]["anti"]["context_length"] = json!(99)), 99);

    assert_eq!(
        length_of(|experiment| {
            experiment["sources"] = json!({ "base": { "model": family("S") } });
            experiment["strategy"] = json!({ "use": "none" });
        }),
        512
    );

    let unstated = copy(&tiny("plain_fp32"));
    let file = unstated.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("max_position_embeddings").unwrap();
    fs::write(file, config.to_string()).unwrap();
    let message = refused(&["--target", "genai"], |experiment| {
        experiment["sources"] = json!({ "base": { "model": unstated.path() } });
        experiment["strategy"] = json!({ "use": "none" });
    });
    assert!(message.contains("help: set `context_length` of a source"), "{message}");
}

/// A copy of a model's folder, to be changed.
fn copy(model: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let workspace = experiment(|_| {});
    let there = workspace.path().join("fused/mine.txt");
    fs::create_dir(workspace.path().join("fused")).unwrap();
    fs::write(&there, "mine").unwrap();
    let output = export(&workspace, &["--target", "onnx"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists and is not an empty folder"));
    assert_eq!(fs::read_to_string(there).unwrap(), "mine");
}

/// Under its name there is all of an export or none, whenever it is killed, and the next one begins anew.
#[test]
fn a_killed_export_is_absent_or_complete() {
    let workspace = experiment(|_| {});
    let target = workspace.path().join("fused");
    assert!(export(&workspace, &["--target", "onnx", "-q"]).status().unwrap().success());
    let complete = files(&target);
    fs::remove_dir_all(&target).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut absent, mut whole) = (0, 0);
    for _ in 0..40 {
        let mut child = export(&workspace, &["--target", "onnx", "-q"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 150_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        if target.exists() {
            assert_eq!(files(&target), complete);
            fs::remove_dir_all(&target).unwrap();
            whole += 1;
        } else {
            absent += 1;
        }
    }
    assert!(absent > 0, "no export was killed before its end; {whole} were whole");
    assert!(export(&workspace, &["--target", "onnx", "-q"]).status().unwrap().success());
    assert_eq!(files(&target), complete);
    let mut left: Vec<_> = fs::read_dir(workspace.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["fused", "x.toml"], "what killed exports left is removed by the next one");
}

/// Every file below a folder, with its length.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder).unwrap().to_owned(), path.metadata().unwrap().len()));
            }
        }
    }
    found.sort();
    found
}

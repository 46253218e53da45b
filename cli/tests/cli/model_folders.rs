//! Folders of models that were made by others: what ends a text, files that are none, templates and tokenizers without an end.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    commands::{refused, run, shown, text},
    support::tiny,
};

/// A copy of a model, to change.
fn copy_of(name: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny(name)).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Takes a key out of a JSON file.
fn without(folder: &Path, file: &str, key: &str) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    value.as_object_mut().unwrap().remove(key).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_folder_without_an_end_takes_the_tokenizers_or_says_so() {
    let copy = copy_of("plain_fp32");
    let folder = shown(copy.path());
    let ends_with = || {
        let output = run(&["models", "inspect", "--no-load", folder]);
        let line =
            text(&output.stdout).lines().find(|line| line.trim_start().starts_with("ends with")).unwrap().to_owned();
        line.trim_start().trim_start_matches("ends with").trim().to_owned()
    };
    let note = || {
        let output = run(&["generate", "--model", folder, "-n", "2", "a"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr).contains("no token ends a text")
    };
    let stated = ends_with();
    for file in ["config.json", "generation_config.json"] {
        without(copy.path(), file, "eos_token_id");
    }
    assert_eq!(ends_with(), stated);
    assert!(!note());
    without(copy.path(), "tokenizer_config.json", "eos_token");
    assert!(ends_with().starts_with("nothing: "));
    assert!(note());
}

#[test]
fn hostile_templates_and_tokenizers_are_refused() {
    let copy = copy_of("plain_fp32");
    let folder = shown(copy.path());
    let generate = ["generate", "--model", folder, "-n", "2", "a"];
    let template = copy.path().join("chat_template.jinja");
    for (text, words) in [
        (format!("{{{{ {}1 }}}}", "not ".repeat(200_000)), "more than 400 operators"),
        ("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(), "a namespace cannot hold a namespace"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(), "1000000 steps"),
        (" ".repeat(2 << 20), "larger than 1 MiB"),
    ] {
        fs::write(&template, text).unwrap();
        refused(&generate, &["chat_template.jinja: ", words]);
    }
    fs::remove_file(&template).unwrap();
    let path = copy.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let double = serde_json::json!({"type": "Replace", "pattern": {"String": "w"}, "content": "ww"});
    for (normalizer, words) in [
        (serde_json::json!({"type": "Sequence", "normalizers": vec![double; 60]}), "times as long"),
        (serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="}), "4294967295 bytes follow"),
    ] {
        tokenizer["normalizer"] = normalizer;
        fs::write(&path, tokenizer.to_string()).unwrap();
        refused(&generate, &["tokenizer.json: ", words]);
    }
}

#[cfg(unix)]
#[test]
fn devices_and_pipes_are_no_files() {
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"] {
        let copy = copy_of("plain_fp32");
        let path = copy.path().join(file);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let generate = ["generate", "--model", shown(copy.path()), "a"];
        refused(&generate, &[file, "no regular file"]);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(&generate, &[file, "no regular file"]);
    }
}

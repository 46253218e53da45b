//! What a merge writes, and what it does to what is there already.

use std::{fs, path::Path};

use logitfuse_core::ErrorKind;
use logitfuse_merge::{Progress, Recipe, merge};
use logitfuse_onnx_graph::{Initializer, Model};
use sha2::{Digest, Sha256};

use crate::support::{Bench, locate, model, names, noise, recipe, tensor, values};

fn parents(bench: &Bench) -> String {
    for (seed, name) in ["base", "a", "b"].iter().enumerate() {
        bench.folder(name, &model(vec![Initializer::float("w", &[600], &noise(seed as u32, 600))]));
    }
    recipe("method = \"ties\"", Some("base"), &[("a", ""), ("b", "weight = 0.5")])
}

#[test]
fn a_folder_looks_like_its_first_parents() {
    let bench = Bench::new();
    let text = parents(&bench);
    // The layout of Hugging Face, with the weights in a file of their own.
    fs::remove_file(bench.path("base/model.onnx")).unwrap();
    fs::create_dir(bench.path("base/onnx")).unwrap();
    let base = model(vec![Initializer::float("w", &[600], &noise(0, 600))]);
    base.save_embedding(&bench.path("base/onnx/model.onnx"), 0).unwrap();
    for (file, content) in [
        ("config.json", "{\"license\": \"mit\"}"),
        ("tokenizer.json", "{}"),
        ("chat_template.jinja", "{{ messages }}"),
        ("merges.txt", "a b"),
        ("LICENSE", "MIT"),
        ("model.safetensors", "weights of another format"),
        ("model.safetensors.index.json", "{}"),
        ("logitfuse-manifest.json", "{}"),
        (".hidden.json", "{}"),
        ("README.md", "the base's own card"),
    ] {
        fs::write(bench.path("base").join(file), content).unwrap();
    }
    let merged = bench.merge(&text).unwrap();
    assert_eq!(merged.onnx, bench.path("merged/onnx/model.onnx"));
    let expected = [
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "merge.toml",
        "merges.txt",
        "onnx",
        "tokenizer.json",
    ];
    assert_eq!(names(&bench.path("merged")), expected);
    assert_eq!(names(&bench.path("merged/onnx")), ["model.onnx"]);
    assert_eq!(fs::read_to_string(bench.path("merged/merge.toml")).unwrap(), text);
    assert_eq!(fs::read_to_string(bench.path("merged/chat_template.jinja")).unwrap(), "{{ messages }}");

    let card = fs::read_to_string(bench.path("merged/README.md")).unwrap();
    for parent in
        ["base/onnx/model.onnx", "base/onnx/model.onnx_data", "base/config.json", "a/model.onnx", "b/model.onnx"]
    {
        let sum = hex::encode(Sha256::digest(fs::read(bench.path(parent)).unwrap()));
        assert!(card.contains(&format!("`{sum}`")), "{parent} in\n{card}");
    }
    for words in [
        "(TIES, arXiv 2306.01708)",
        "| `b` (`b`) | expert | 0.5 | 0.2 | not stated |",
        "| `base` (`base`) | base |  |  | mit |",
    ] {
        assert!(card.contains(words), "{words} in\n{card}");
    }
    assert!(!card.contains(bench.path("").to_str().unwrap()), "paths of this machine are nobody's business:\n{card}");
}

#[test]
fn a_licence_that_all_share_is_that_of_the_merge() {
    let bench = Bench::new();
    let text = parents(&bench);
    for name in ["base", "a", "b"] {
        fs::write(bench.path(name).join("README.md"), "---\nlicense: apache-2.0\n---\n").unwrap();
    }
    let recipe = Recipe::parse(&bench.path("recipe.toml"), &text).unwrap();
    let mut notes = Vec::new();
    let mut tell = |progress: Progress<'_>| {
        if let Progress::Note(note) = progress {
            notes.push(note.to_owned());
        }
        Ok(())
    };
    merge(&recipe, &bench.path("merged"), locate, &mut tell).unwrap();
    assert_eq!(notes, [""; 0]);
    let card = fs::read_to_string(bench.path("merged/README.md")).unwrap();
    assert!(card.starts_with("---\nlicense: apache-2.0\n"), "{card}");
}

#[test]
fn what_is_there_is_not_touched() {
    let bench = Bench::new();
    let text = parents(&bench);
    fs::create_dir(bench.path("merged")).unwrap();
    fs::write(bench.path("merged/mine"), "mine").unwrap();
    let error = bench.merge(&text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().ends_with("exists and is not an empty folder"), "{error}");
    assert_eq!(names(&bench.path("merged")), ["mine"]);
    fs::write(bench.path("file"), "").unwrap();
    assert_eq!(bench.merge_into("file", &text).unwrap_err().kind(), ErrorKind::InvalidConfig);
    for odd in ["..", "."] {
        let recipe = Recipe::parse(&bench.path("recipe.toml"), &text).unwrap();
        assert!(merge(&recipe, Path::new(odd), locate, &mut |_| Ok(())).is_err(), "{odd}");
    }
    // An empty folder is where people want a result.
    fs::remove_file(bench.path("merged/mine")).unwrap();
    bench.merge(&text).unwrap();
}

/// What a killed merge left is no result: it has another name, is told and removed.
#[test]
fn leftovers_are_told_and_removed() {
    let bench = Bench::new();
    let text = parents(&bench);
    let left = bench.path(".merged.partial-abc");
    fs::create_dir_all(left.join("made")).unwrap();
    fs::write(left.join("lock"), "").unwrap();
    fs::write(left.join("weights"), "half").unwrap();
    // One that is at work.
    let busy = bench.path(".merged.partial-busy");
    fs::create_dir_all(&busy).unwrap();
    let lock = fs::File::create(busy.join("lock")).unwrap();
    lock.lock().unwrap();
    // One of another target.
    fs::create_dir_all(bench.path(".merged2.partial-abc")).unwrap();

    let recipe = Recipe::parse(&bench.path("recipe.toml"), &text).unwrap();
    let mut notes = Vec::new();
    let mut tell = |progress: Progress<'_>| {
        if let Progress::Note(note) = progress {
            notes.push(note.to_owned());
        }
        Ok(())
    };
    merge(&recipe, &bench.path("merged"), locate, &mut tell).unwrap();
    assert!(notes[0].contains(".merged.partial-abc, which a merge that was ended left behind"), "{notes:?}");
    assert!(!left.exists());
    assert!(busy.exists() && bench.path(".merged2.partial-abc").exists());
}

#[test]
fn a_merged_model_is_merged_again() {
    let bench = Bench::new();
    let text = parents(&bench);
    bench.merge(&text).unwrap();
    let again = recipe("method = \"slerp\"\nt = 1", Some("base"), &[("merged", "")]);
    let again = bench.merge_into("again", &again).unwrap();
    let [first, second] = [&bench.path("merged/model.onnx"), &again.onnx].map(|path| Model::open(path).unwrap());
    assert!(values(tensor(&first, "w")) == values(tensor(&second, "w")));
}

//! What `config check` finds without weights, on models that are there.

use std::{fs, path::Path};

use logitfuse_config::{Experiment, Overrides};
use logitfuse_core::Result;
use logitfuse_eval::preflight;
use logitfuse_pipeline::PluginSettings;

use crate::run_support::family;

fn check(folder: &Path, toml: &str, items: &str) -> Result<Vec<String>> {
    fs::write(folder.join("items.jsonl"), items).unwrap();
    let file = folder.join("e.toml");
    fs::write(&file, format!("schema = 1\n{toml}")).unwrap();
    let experiment = Experiment::load(&file, &Overrides::default())?;
    let warnings = preflight(&experiment, &PluginSettings::default())?;
    Ok(warnings.into_iter().map(|warning| warning.message).collect())
}

fn source(name: &str, model: &Path, more: &str) -> String {
    format!("[sources.{name}]\nmodel = {:?}\nchat_template = \"none\"\n{more}\n", model.display().to_string())
}

const TASK: &str = "[tasks.t]\ndata = \"items.jsonl\"\ntarget = \"answer\"\nmax_new_tokens = 8\n";
const ITEMS: &str = "{\"question\": \"1+1?\", \"answer\": \"2\"}\n{\"question\": \"2+2?\", \"answer\": \"4\"}\n";

#[test]
fn every_template_is_rendered_for_every_source() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |toml: &str| {
        let e = check(folder.path(), toml, ITEMS).unwrap_err();
        (e.to_string(), e.help().unwrap_or_default().to_owned())
    };
    let sound = source("base", &family().join("models/S"), "");
    let prompt = format!("{sound}{TASK}prompt = \"{{{{ qestion }}}}\"\n");
    let (what, help) = wrong(&prompt);
    assert!(what.contains("tasks.t: item `0`: prompt: line 1: undefined value: there is no field `qestion`"), "{what}");
    assert_eq!(help, "did you mean `question`? there are `answer`, `question`");
    // A source's own template, where the task has none of its own.
    let (what, help) =
        wrong(&format!("{}{TASK}", source("base", &family().join("models/S"), "user = \"{{ quesion }}\"")));
    assert!(what.contains("sources.base.user: line 1: undefined value: there is no field `quesion`"), "{what}");
    assert!(help.starts_with("did you mean `question`?"), "{help}");
    let prompts =
        format!("[run]\nprompts = [\"Hi\"]\n{}", source("base", &family().join("models/S"), "user = \"{{ promt }}\""));
    assert!(wrong(&prompts).0.contains("there is no field `promt`"));
    let fine = format!("{sound}{TASK}prompt = \"{{{{ question }}}}\"\n");
    assert_eq!(check(folder.path(), &fine, ITEMS).unwrap(), Vec::<String>::new());
}

#[test]
fn a_prompt_that_is_the_same_for_all_items_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("{}{TASK}prompt = \"Question: question\"\n", source("base", &family().join("models/S"), ""));
    let warnings = check(folder.path(), &toml, ITEMS).unwrap();
    assert_eq!(warnings, ["tasks.t: source `base` reads the same prompt for the first 2 items"]);
}

#[test]
fn prompts_are_compared_with_contexts() {
    let folder = tempfile::tempdir().unwrap();
    let toml = |context: usize, new: usize| {
        let source = source("base", &family().join("models/S"), &format!("context_length = {context}"));
        format!(
            "{source}[tasks.t]\ndata = \"items.jsonl\"\ntarget = \"answer\"\nmax_new_tokens = {new}\nprompt = \"{{{{ question }}}}\"\n"
        )
    };
    let long = check(folder.path(), &toml(2, 4), ITEMS).unwrap_err();
    assert!(long.to_string().contains("tasks.t: item `0`: the prompt of source `base` has "), "{long}");
    assert!(long.to_string().ends_with("; the model takes 2"), "{long}");
    let warnings = check(folder.path(), &toml(64, 1000), ITEMS).unwrap();
    assert!(warnings[0].contains("so of 1000 new ones there is room for "), "{warnings:?}");
    assert_eq!(check(folder.path(), &toml(64, 8), ITEMS).unwrap(), Vec::<String>::new());
}

#[test]
fn tokenizers_are_compared_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(family().join("models/S")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
        }
    }
    // Two tokens change places.
    let path = other.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let (a, b) = (vocabulary["a"].clone(), vocabulary["b"].clone());
    vocabulary.insert("a".to_owned(), b);
    vocabulary.insert("b".to_owned(), a);
    fs::write(&path, tokenizer.to_string()).unwrap();
    let strategy = "[strategy]\nuse = \"static-proxy\"\n";
    let sources = [
        source("base", &family().join("models/L"), ""),
        source("expert", &family().join("models/S"), ""),
        source("anti", &other, ""),
    ];
    let toml = format!("[run]\nprompts = [\"Hi\"]\n{}{strategy}", sources.concat());
    let e = check(folder.path(), &toml, ITEMS).unwrap_err();
    assert!(e.to_string().contains("shared token ids differ"), "{e}");
}

#[test]
fn a_large_sweep_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<String> = (1..=600).map(|n| format!("{}", f64::from(n) / 100.0)).collect();
    let sources = [
        source("base", &family().join("models/L"), ""),
        source("expert", &family().join("models/S"), ""),
        source("anti", &family().join("models/S"), ""),
    ];
    let strategy = "[strategy]\nuse = \"static-proxy\"\n";
    let task = format!("{TASK}prompt = \"{{{{ question }}}}\"\n");
    let toml =
        format!("{}{strategy}{task}[sweep]\n\"strategy.params.alpha\" = [{}]\n", sources.concat(), values.join(", "));
    assert_eq!(check(folder.path(), &toml, ITEMS).unwrap(), Vec::<String>::new());
}

//! What lies beside a model: configuration, tokenizer, licence.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::parents::Opened;

/// A `tokenizer.json` of 200 000 tokens has 15 MiB.
const LARGEST: u64 = 128 << 20;
/// What configures a model or is read by a tokenizer; weights in other formats stay where they are.
const ENDINGS: [&str; 5] = ["json", "txt", "model", "jinja", "tiktoken"];
const LICENCES: [&str; 3] = ["LICENSE", "LICENCE", "NOTICE"];

/// Entries of `config.json` that say what a graph computes. What else differs there, such as a name or a version, does not.
const ARCHITECTURE: [&str; 18] = [
    "model_type",
    "architectures",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "rope_theta",
    "rope_scaling",
    "partial_rotary_factor",
    "sliding_window",
    "tie_word_embeddings",
    "vocab_size",
];

/// The files of a folder that go along with a model, by name.
pub(crate) fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: io::Error| {
        Error::new(ErrorKind::Io, format!("{}: {e}", root.display())).with_help("check the folder's permissions")
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(root).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let (Some(name), ending) = (path.file_name().and_then(|name| name.to_str()), path.extension()) else {
            continue;
        };
        let wanted = ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        let licence = LICENCES.iter().any(|licence| name.starts_with(licence));
        // Neither the index of weights in another format nor hashes of the parent's files are true of the merged model.
        let of_parent = name.ends_with(".index.json") || name == "logitfuse-manifest.json";
        if name.starts_with('.') || !(wanted || licence) || of_parent {
            continue;
        }
        // A link whose file is missing is no folder to be skipped.
        let metadata = fs::metadata(&path).map_err(|e| {
            let what = format!("{}: {e}", path.display());
            Error::new(ErrorKind::NotFound, what).with_help("fetch the file, or take the link away")
        })?;
        if metadata.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The sha256 of a file, as text.
pub(crate) fn sha256(path: &Path, tell: &mut dyn FnMut(u64) -> Result<()>) -> Result<String> {
    let unreadable =
        |e: io::Error| Error::new(ErrorKind::Io, format!("{}: {e}", path.display())).with_help("check the file");
    let (mut file, mut hash) = (fs::File::open(path).map_err(unreadable)?, Sha256::new());
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece).map_err(unreadable)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => {
                hash.update(&piece[..n]);
                tell(n as u64)?;
            }
        }
    }
}

/// Refuses two parents whose configuration or vocabulary says that equal ids or weights mean different things.
pub(crate) fn compare(first: &Opened, other: &Opened) -> Result<()> {
    let [a, b] = [first, other].map(|opened| opened.folder.root.join("config.json"));
    if let (Some(ours), Some(theirs)) = (json(&a)?, json(&b)?) {
        for key in ARCHITECTURE {
            if let (Some(ours), Some(theirs)) = (ours.get(key), theirs.get(key))
                && ours != theirs
            {
                let what = format!("{} has `{key}` = {ours}, {} has {theirs}", a.display(), b.display());
                return Err(Error::new(ErrorKind::Incompatible, what)
                    .with_help("only models of one architecture can be merged"));
            }
        }
    }
    let [a, b] = [first, other].map(|opened| opened.folder.root.join("tokenizer.json"));
    if let (Some(ours), Some(theirs)) = (json(&a)?, json(&b)?)
        && let Some(token) = vocabulary_difference(&ours, &theirs)
    {
        let what = format!("{} and {} have different tokens: {token}", a.display(), b.display());
        return Err(Error::new(ErrorKind::Incompatible, what)
            .with_help("the rows of an embedding are merged by id: merge models with one vocabulary"));
    }
    Ok(())
}

/// A JSON file; `None` if there is none.
pub(crate) fn json(path: &Path) -> Result<Option<Value>> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
    let wrong = |kind, what: &dyn std::fmt::Display| {
        Error::new(kind, format!("{}: {what}", path.display())).with_help("fetch the file again")
    };
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(wrong(ErrorKind::InvalidData, &"is no file of at most 128 MiB"));
    }
    let bytes = fs::read(path).map_err(|e| wrong(ErrorKind::Io, &e))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(ErrorKind::InvalidData, &e))
}

/// The first token that two tokenizers give different ids, in the order of the tokens.
fn vocabulary_difference(ours: &Value, theirs: &Value) -> Option<String> {
    fn ids(tokenizer: &Value) -> BTreeMap<String, Value> {
        let mut ids = BTreeMap::new();
        match tokenizer.pointer("/model/vocab") {
            Some(Value::Object(vocab)) => ids.extend(vocab.iter().map(|(token, id)| (token.clone(), id.clone()))),
            // Unigram: the id is the place.
            Some(Value::Array(vocab)) => ids.extend(
                vocab
                    .iter()
                    .enumerate()
                    .filter_map(|(id, entry)| Some((entry.get(0)?.as_str()?.to_owned(), id.into()))),
            ),
            _ => {}
        }
        for added in tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(token), Some(id)) = (added.get("content").and_then(Value::as_str), added.get("id")) {
                ids.insert(token.to_owned(), id.clone());
            }
        }
        ids
    }
    let (ours, theirs) = (ids(ours), ids(theirs));
    let token = ours.keys().chain(theirs.keys()).filter(|token| ours.get(*token) != theirs.get(*token)).min()?;
    let id = |ids: &BTreeMap<String, Value>| ids.get(token).map_or("none".to_owned(), Value::to_string);
    Some(format!("{token:?} is {} and {}", id(&ours), id(&theirs)))
}

/// The licence that a folder states: in the first lines of its README.md, or in its config.json.
pub(crate) fn licence(root: &Path) -> Option<String> {
    let mut readme = String::new();
    // Only its front matter is looked at.
    if let Ok(file) = fs::File::open(root.join("README.md")) {
        let mut bytes = Vec::new();
        file.take(1 << 16).read_to_end(&mut bytes).ok()?;
        readme = String::from_utf8_lossy(&bytes).into_owned();
    }
    let front = readme.strip_prefix("---").and_then(|rest| rest.split("\n---").next());
    let stated = front.into_iter().flat_map(str::lines).find_map(|line| line.strip_prefix("license:"));
    let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let of_config = || json(&root.join("config.json")).ok()??.get("license")?.as_str().map(plain);
    stated.map(plain).filter(|licence| !licence.is_empty()).or_else(of_config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_of_other_ids_are_named() {
        let bpe = |a: u32, b: u32| json!({ "model": { "vocab": { "a": a, "b": b } } });
        assert_eq!(vocabulary_difference(&bpe(0, 1), &bpe(0, 1)), None);
        assert_eq!(vocabulary_difference(&bpe(0, 1), &bpe(0, 2)).unwrap(), "\"b\" is 1 and 2");
        let unigram = json!({ "model": { "vocab": [["a", -1.0], ["c", -2.0]] } });
        assert_eq!(vocabulary_difference(&bpe(0, 1), &unigram).unwrap(), "\"b\" is 1 and none");
        let added =
            json!({ "model": { "vocab": { "a": 0, "b": 1 } }, "added_tokens": [{ "id": 7, "content": "<s>" }] });
        assert_eq!(vocabulary_difference(&bpe(0, 1), &added).unwrap(), "\"<s>\" is none and 7");
    }

    #[test]
    fn a_licence_is_read_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(licence(folder.path()), None);
        fs::write(folder.path().join("config.json"), r#"{"license": "mit"}"#).unwrap();
        assert_eq!(licence(folder.path()).as_deref(), Some("mit"));
        fs::write(folder.path().join("README.md"), "---\ntags: []\nlicense: \"apache-2.0\"\n---\n# x\nlicense: no\n")
            .unwrap();
        assert_eq!(licence(folder.path()).as_deref(), Some("apache-2.0"));
    }
}

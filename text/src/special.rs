use std::{collections::BTreeMap, path::Path};

use logitfuse_core::Result;
use serde_json::Value;

use crate::files::read_json;

/// The special tokens that a model folder names: `bos_token`, `eos_token`, `pad_token`, …
///
/// `tokenizer.json` knows *that* a token is special, not what for; that is written in `tokenizer_config.json` or, in older
/// folders, `special_tokens_map.json`. Chat templates use these names as variables.
///
/// ```
/// use logitfuse_text::SpecialTokens;
///
/// let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": {"content": "</s>"}, "add_bos_token": true}"#).unwrap();
/// let special = SpecialTokens::load(folder.path()).unwrap();
/// assert_eq!(special.get("eos_token"), Some("</s>"));
/// assert_eq!(special.get("bos_token"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens(BTreeMap<String, String>);

impl SpecialTokens {
    /// What the folder's files say; nothing if it has none. A file that is no JSON is an error.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut named = BTreeMap::new();
        // The second file is the older one: it fills gaps only.
        for file in ["tokenizer_config.json", "special_tokens_map.json"] {
            let Some((_, Value::Object(entries))) = read_json(folder, file)? else { continue };
            for (name, value) in entries {
                if let (true, Some(text)) = (name.ends_with("_token"), token_text(&value)) {
                    named.entry(name).or_insert_with(|| text.to_owned());
                }
            }
        }
        Ok(Self(named))
    }

    /// The token's text by its name, such as `eos_token`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All names with their tokens, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

/// A token is written either as its text or as an object with flags.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use logitfuse_core::ErrorKind;

    use super::*;

    #[test]
    fn the_newer_file_wins_and_the_older_one_fills_gaps() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("tokenizer_config.json"),
            r#"{"bos_token": null, "eos_token": {"content": "<|end|>", "special": true}, "add_eos_token": false}"#,
        )
        .unwrap();
        fs::write(folder.path().join("special_tokens_map.json"), r#"{"eos_token": "old", "bos_token": "<s>"}"#)
            .unwrap();
        let special = SpecialTokens::load(folder.path()).unwrap();
        assert_eq!(special.iter().collect::<Vec<_>>(), [("bos_token", "<s>"), ("eos_token", "<|end|>")]);
    }

    #[test]
    fn a_corrupt_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), "{\n\"bos_token\": <s>\n}").unwrap();
        let e = SpecialTokens::load(folder.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidData);
        assert!(e.to_string().contains("tokenizer_config.json") && e.to_string().contains("line 2"), "{e}");
        assert!(SpecialTokens::load(&folder.path().join("nothing")).unwrap().iter().next().is_none());
    }
}

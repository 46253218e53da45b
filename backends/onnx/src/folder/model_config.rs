use std::{fs, io, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, TokenId, python_json};
use serde::Serialize;
use serde_json::Value;

/// What a model folder's configuration files say that the graph may not state. Where both speak, the graph is believed.
///
/// Read from `genai_config.json`, `generation_config.json` and `config.json`; for each value the first file in that
/// order that has it wins. A multi-modal `config.json` keeps its decoder's part under `text_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Tokens that fit into one sequence.
    pub context_length: Option<usize>,
    /// Ids that end a text.
    pub end_of_sequence: Vec<TokenId>,
    /// Tokens of the vocabulary; a graph's logits may be wider.
    pub vocab_size: Option<usize>,
    /// Size of one attention head.
    pub head_size: Option<usize>,
    /// Key/value heads of a layer.
    pub kv_heads: Option<usize>,
    /// Tokens that a sliding window attends to, where there is one.
    pub sliding_window: Option<usize>,
    /// The file of the graph, as `genai_config.json` names it.
    pub(crate) file_name: Option<String>,
    /// Names of inputs and outputs, where `genai_config.json` renames them.
    pub(crate) names: TensorNames,
}

/// Names of inputs and outputs; patterns hold `%d` for the layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TensorNames {
    pub(crate) input_ids: Option<String>,
    pub(crate) attention_mask: Option<String>,
    pub(crate) position_ids: Option<String>,
    pub(crate) logits: Option<String>,
    /// `(past, present)`.
    pub(crate) cache: Vec<(String, String)>,
}

impl ModelConfig {
    /// Reads what there is in `folder`; files that do not exist are no error, files that are no JSON are.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut config = Self::default();
        if let Some(file) = ConfigFile::read(folder, "genai_config.json")? {
            config.merge_genai(&file)?;
        }
        for name in ["generation_config.json", "config.json"] {
            if let Some(file) = ConfigFile::read(folder, name)? {
                config.merge_hugging_face(&file)?;
            }
        }
        Ok(config)
    }

    fn merge_genai(&mut self, file: &ConfigFile<'_>) -> Result<()> {
        let model = &file.value["model"];
        let decoder = &model["decoder"];
        self.context_length = file.count(model, &["context_length"])?;
        self.end_of_sequence = file.ids(model, "eos_token_id")?;
        self.vocab_size = file.count(model, &["vocab_size"])?;
        self.head_size = file.count(decoder, &["head_size"])?;
        self.kv_heads = file.count(decoder, &["num_key_value_heads"])?;
        self.sliding_window = file.count(&decoder["sliding_window"], &["window_size"])?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (inputs, outputs) = (&decoder["inputs"], &decoder["outputs"]);
        self.file_name = text(&decoder["filename"]);
        self.names = TensorNames {
            input_ids: text(&inputs["input_ids"]),
            attention_mask: text(&inputs["attention_mask"]),
            position_ids: text(&inputs["position_ids"]),
            logits: text(&outputs["logits"]),
            cache: [
                ("past_key_names", "present_key_names"),
                ("past_value_names", "present_value_names"),
                ("past_names", "present_names"),
            ]
            .into_iter()
            .filter_map(|(past, present)| Some((text(&inputs[past])?, text(&outputs[present])?)))
            .collect(),
        };
        Ok(())
    }

    fn merge_hugging_face(&mut self, file: &ConfigFile<'_>) -> Result<()> {
        for part in [&file.value, &file.value["text_config"]] {
            let merge = |known: &mut Option<usize>, keys: &[&str]| {
                if known.is_none() {
                    *known = file.count(part, keys)?;
                }
                Ok::<_, Error>(())
            };
            merge(&mut self.context_length, &["max_position_embeddings", "n_positions", "n_ctx"])?;
            merge(&mut self.vocab_size, &["vocab_size"])?;
            merge(&mut self.head_size, &["head_dim"])?;
            merge(&mut self.kv_heads, &["num_key_value_heads", "num_attention_heads", "n_head"])?;
            merge(&mut self.sliding_window, &["sliding_window"])?;
            if self.head_size.is_none() {
                let hidden = file.count(part, &["hidden_size", "n_embd"])?;
                let heads = file.count(part, &["num_attention_heads", "n_head"])?;
                self.head_size = hidden.zip(heads).map(|(hidden, heads)| hidden / heads);
            }
            if self.end_of_sequence.is_empty() {
                self.end_of_sequence = file.ids(part, "eos_token_id")?;
            }
        }
        Ok(())
    }
}

/// Configurations have some kilobytes.
const MOST_BYTES: u64 = 16 << 20;

struct ConfigFile<'a> {
    folder: &'a Path,
    name: &'static str,
    value: Value,
}

impl<'a> ConfigFile<'a> {
    fn read(folder: &'a Path, name: &'static str) -> Result<Option<Self>> {
        let path = folder.join(name);
        let shown = path.display();
        let unreadable = |e| {
            let help = "check the file's permissions";
            Error::new(ErrorKind::Io, format!("{shown}: cannot be read: {e}")).with_help(help)
        };
        match path.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.len() <= MOST_BYTES => {}
            Ok(metadata) => {
                // A pipe or a device would be read for ever.
                let what = if metadata.is_file() { "has more than 16 MB" } else { "is no regular file" };
                return Err(
                    Error::new(ErrorKind::InvalidData, format!("{shown}: {what}")).with_help("fetch the file again")
                );
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unreadable(e)),
        }
        let text = fs::read(&path).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&text);
        let value = serde_json::from_str(&python_json(&text)).map_err(|e| {
            Error::new(ErrorKind::InvalidData, format!("{}: not valid JSON: {e}", path.display()))
                .with_help("fetch the file again")
        })?;
        Ok(Some(Self { folder, name, value }))
    }

    /// The first of `keys` that `part` has, as a count above zero. `null` counts as absent.
    fn count(&self, part: &Value, keys: &[&str]) -> Result<Option<usize>> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((key, part.get(key).filter(|v| !v.is_null())?)))
        else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(0) => Ok(None),
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(key, value, "a whole number")),
        }
    }

    /// One id or a list of ids.
    fn ids(&self, part: &Value, key: &str) -> Result<Vec<TokenId>> {
        let value = &part[key];
        let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
        let ids = match value {
            Value::Null => Some(Vec::new()),
            Value::Array(list) => list.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong(key, value, "a token id or a list of them"))
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Error {
        let path = self.folder.join(self.name);
        Error::new(ErrorKind::InvalidData, format!("{}: `{key}` is {value}, not {wanted}", path.display()))
            .with_help("correct the value or fetch the file again")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use logitfuse_core::ErrorKind;

    use super::ModelConfig;

    fn read(files: &[(&str, &str)]) -> logitfuse_core::Result<ModelConfig> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        ModelConfig::read(folder.path())
    }

    #[test]
    fn the_first_file_that_states_a_value_wins() {
        let config = read(&[
            ("genai_config.json", r#"{"model": {"eos_token_id": [2, 3], "decoder": {"head_size": 64}}}"#),
            ("generation_config.json", r#"{"eos_token_id": 9}"#),
            ("config.json", r#"{"max_position_embeddings": 512, "hidden_size": 96, "num_attention_heads": 3}"#),
        ])
        .unwrap();
        assert_eq!(config.end_of_sequence, [2, 3]);
        assert_eq!((config.head_size, config.kv_heads, config.context_length), (Some(64), Some(3), Some(512)));
    }

    #[test]
    fn nested_text_configurations_and_derived_head_sizes_are_read() {
        let text = r#"{"text_config": {"hidden_size": 96, "num_attention_heads": 3, "eos_token_id": 1}}"#;
        let config = read(&[("config.json", text)]).unwrap();
        assert_eq!((config.head_size, config.end_of_sequence), (Some(32), vec![1]));
    }

    #[test]
    fn numbers_that_only_python_writes_are_no_error_until_they_are_needed() {
        let text = "\u{feff}{\"time_step_limit\": [0.0, Infinity], \"x\": NaN, \"eos_token_id\": 7}";
        assert_eq!(read(&[("config.json", text)]).unwrap().end_of_sequence, [7]);
        let needed = read(&[("config.json", "{\"head_dim\": Infinity}")]).unwrap_err();
        assert!(needed.to_string().ends_with("`head_dim` is \"inf\", not a whole number"), "{needed}");
    }

    #[test]
    fn nonsense_is_named_with_file_and_key() {
        let odd = read(&[("generation_config.json", r#"{"eos_token_id": [1, "two"]}"#)]).unwrap_err();
        assert_eq!(odd.kind(), ErrorKind::InvalidData);
        assert!(
            odd.to_string()
                .ends_with(r#"generation_config.json: `eos_token_id` is [1,"two"], not a token id or a list of them"#)
        );
        let negative = read(&[("config.json", r#"{"max_position_embeddings": -5}"#)]).unwrap_err();
        assert!(negative.to_string().contains("`max_position_embeddings` is -5, not a whole number"));
    }
}

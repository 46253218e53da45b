//! Reading: a configuration, JSONL samples.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde_json::{Value, json};

use crate::{Config, Experiment, Overrides};

/// One line of data: its fields fill the places of the prompts.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The field `id` where there is one, else the index.
    pub id: String,
    /// All fields.
    pub fields: Value,
}

impl Config {
    /// Reads a TOML and what it extends, without its variants and tasks. Paths in it are made relative to its folder.
    pub fn load(path: &Path) -> Result<Self> {
        Experiment::load(path, &Overrides::default())?.config()
    }

    /// Reads the text of a TOML; paths stay as they are. A message begins with `line:column`.
    pub fn from_toml(text: &str) -> Result<Self> {
        Experiment::from_toml(text, &Overrides::default())?.config()
    }

    /// The samples: `run.prompts` first, then the lines of `run.data`.
    pub fn samples(&self) -> Result<Vec<Sample>> {
        let mut samples: Vec<Sample> = Vec::new();
        for prompt in &self.run.prompts {
            samples.push(Sample { id: samples.len().to_string(), fields: json!({ "prompt": prompt }) });
        }
        if let Some(path) = &self.run.data {
            read_jsonl(path, &mut samples)?;
        }
        Ok(samples)
    }
}

pub(crate) fn read_jsonl(path: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    let text = std::fs::read_to_string(path).or_err(ErrorKind::NotFound, path.display())?;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidData, format!("{}:{}: {why}", path.display(), number + 1))
                .with_help("each line of a JSONL file is one JSON object")
        };
        let fields: Value = serde_json::from_str(line).map_err(|e| wrong(format!("not JSON: {e}")))?;
        let Value::Object(object) = &fields else { return Err(wrong("not an object".to_owned())) };
        let id = match object.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => samples.len().to_string(),
        };
        if samples.iter().any(|sample| sample.id == id) {
            return Err(wrong(format!("id {id:?} was used before")));
        }
        samples.push(Sample { id, fields });
    }
    Ok(())
}

//! Reading: a TOML with its relative paths, JSONL samples.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde_json::{Value, json};

use crate::{Config, ConfigOrigin};

/// One line of data: its fields fill the places of the prompts.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The field `id` where there is one, else the index.
    pub id: String,
    /// All fields.
    pub fields: Value,
}

impl Config {
    /// Reads and checks a TOML. Paths in it are made relative to its folder.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, format!("{}: {e}", path.display())).with_help("name an experiment's TOML file")
        })?;
        let mut config = Self::from_toml(&text).map_err(|e| place(&e, path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for source in config.sources.values_mut() {
            source.model = folder.join(&source.model);
            if !matches!(source.chat_template.as_str(), "model" | "none") {
                source.chat_template = folder.join(&source.chat_template).display().to_string();
            }
            if let Some(demonstrations) = &mut source.demonstrations {
                *demonstrations = folder.join(&*demonstrations);
            }
        }
        if let Some(data) = &mut config.run.data {
            *data = folder.join(&*data);
        }
        for plugin in config.plugins.values_mut() {
            plugin.path = folder.join(&plugin.path);
        }
        config.origin = ConfigOrigin::new(path, text);
        Ok(config)
    }

    /// Reads and checks the text of a TOML; paths stay as they are. A message begins with `line:column`.
    pub fn from_toml(text: &str) -> Result<Self> {
        let wrong = |offset: usize, message: &str| {
            let (line, column) = position(text, offset);
            Error::new(ErrorKind::InvalidConfig, format!("{line}:{column}: {}", message.replace('\n', " ")))
                .with_help("docs/experiment.md lists the keys")
        };
        let config: Self =
            toml::from_str(text).map_err(|e| wrong(e.span().map_or(0, |span| span.start), e.message()))?;
        if config.schema != 1 {
            let offset = text.find("schema").unwrap_or(0);
            return Err(wrong(
                offset,
                &format!("schema {} is newer than this version, which reads schema 1", config.schema),
            ));
        }
        Ok(config)
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

fn place(e: &Error, path: &Path) -> Error {
    let placed = Error::new(e.kind(), format!("{}:{e}", path.display()));
    match e.help() {
        Some(help) => placed.with_help(help),
        None => placed,
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
    (line, column)
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

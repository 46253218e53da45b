//! The fusions that are served, and what is told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use logitfuse::{
    Error, ErrorKind, Pipeline, Result, SourceConfig, TokenId, onnx::ModelFolder, pipeline::read_text_file,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{error::ApiError, metrics::ModelMetrics};

/// A fusion under its name.
pub(crate) struct ServedModel {
    pub(crate) name: String,
    pub(crate) pipeline: Pipeline,
    /// The binding whose prompt counts as the request's: that of the base.
    pub(crate) base: usize,
    /// The base's source in the pool.
    pub(crate) base_source: usize,
    /// The name of each binding: its role's, with a number from the second source of a role on.
    pub(crate) bindings: Vec<String>,
    /// The names of the strategy's trace columns.
    pub(crate) trace: Vec<String>,
    /// The column that holds the strength of the fusion.
    pub(crate) alpha: Option<usize>,
    pub(crate) metrics: ModelMetrics,
}

impl ServedModel {
    pub(crate) fn new(name: String, pipeline: Pipeline, metrics: ModelMetrics) -> Self {
        let session = pipeline.session();
        let base = session.bindings.iter().position(|binding| binding.role == "base").unwrap_or(0);
        let mut bindings: Vec<String> = Vec::new();
        for (i, binding) in session.bindings.iter().enumerate() {
            let before = session.bindings[..i].iter().filter(|other| other.role == binding.role).count();
            bindings.push(match before {
                0 => binding.role.clone(),
                count => format!("{}-{}", binding.role, count + 1),
            });
        }
        let trace: Vec<String> = pipeline.strategy().info().trace.iter().map(|column| column.name.clone()).collect();
        Self {
            base,
            base_source: pipeline.fusion().binding_sources().get(base).copied().unwrap_or(0),
            alpha: trace.iter().position(|name| name == "alpha"),
            bindings,
            trace,
            metrics,
            name,
            pipeline,
        }
    }

    /// Tokens that fit into every source; `None` without a known limit.
    pub(crate) fn context_length(&self) -> Option<usize> {
        let sources: Vec<_> = self.pipeline.sources().collect();
        let bound = self.pipeline.fusion().binding_sources().iter();
        bound.filter_map(|&source| sources.get(source)?.context_length).min()
    }

    /// Whether a token ends a text.
    pub(crate) fn ends(&self, token: TokenId) -> bool {
        self.pipeline.end_of_sequence().binary_search(&token).is_ok()
    }

    /// A token by itself, control tokens as they are written, and its bytes. What is no whole character is written as
    /// `bytes:\xf0\x9f`, so that two tokens that differ have texts that differ.
    pub(crate) fn token(&self, id: TokenId) -> (String, Vec<u8>) {
        let bytes = self.pipeline.tokenizer().token_bytes(id).ok().flatten().unwrap_or_default();
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| text + &format!("\\x{byte:02x}")),
        };
        (text, bytes)
    }

    /// What `/v1/models` says of it. No paths.
    pub(crate) fn card(&self, created: u64, sources: &SourceCards) -> Value {
        let info = self.pipeline.strategy().info();
        let options = self.pipeline.options();
        let mut roles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (role, source) in self.pipeline.roles() {
            roles.entry(role).or_default().push(source);
        }
        let roles: Map<String, Value> = roles
            .into_iter()
            .map(|(role, names)| (role.to_owned(), if let [one] = names[..] { json!(one) } else { json!(names) }))
            .collect();
        let used: BTreeSet<&str> = self.pipeline.roles().iter().map(|(_, source)| source.as_str()).collect();
        let told: Map<String, Value> = used.iter().map(|name| ((*name).to_owned(), sources.card(name))).collect();
        json!({
            "id": self.name,
            "object": "model",
            "created": created,
            "owned_by": "logitfuse",
            "max_model_len": self.context_length(),
            "fusion": {
                "strategy": info.id,
                "summary": info.summary,
                "parameters": options.strategy.params,
                "parameters_schema": serde_json::from_str::<Value>(&info.params_schema).unwrap_or_default(),
                "roles": roles,
                "trace": self.trace,
                "sources": told,
            },
        })
    }
}

/// The fusions by name, in the order in which they were given.
pub(crate) struct Models(Vec<Arc<ServedModel>>);

impl Models {
    pub(crate) fn new(models: Vec<Arc<ServedModel>>) -> Result<Self> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let Some(first) = models.first() else { return wrong("there is no model to serve".to_owned()) };
        let mut names = BTreeSet::new();
        for model in &models {
            if !names.insert(&model.name) {
                return wrong(format!("there are two models `{}`", model.name));
            }
            if !model.pipeline.fusion().pool().is_same(first.pipeline.fusion().pool()) {
                return wrong(format!(
                    "model `{}` is over other sources than `{}`; open them together",
                    model.name, first.name
                ));
            }
        }
        Ok(Self(models))
    }

    pub(crate) fn all(&self) -> &[Arc<ServedModel>] {
        &self.0
    }

    /// The one that a request names; without a name the only one that there is.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Arc<ServedModel>, ApiError> {
        let known = || self.0.iter().map(|model| model.name.as_str()).collect::<Vec<_>>();
        match (name, &self.0[..]) {
            (None, [only]) => Ok(only),
            (None, _) => {
                let message = format!("model: missing; there are {}", known().join(", "));
                Err(ApiError::invalid("model", message))
            }
            (Some(name), all) => {
                all.iter().find(|model| model.name == name).ok_or_else(|| ApiError::unknown_model(name, &known()))
            }
        }
    }
}

/// What is known of a source's files: their hashes once they were computed, the model's licence.
pub(crate) struct SourceCards(BTreeMap<String, SourceCard>);

struct SourceCard {
    files: Vec<PathBuf>,
    license: Option<String>,
    hashes: OnceLock<Vec<Value>>,
}

impl SourceCards {
    pub(crate) fn new<'a>(sources: impl IntoIterator<Item = (&'a String, &'a SourceConfig)>) -> Self {
        let card = |source: &SourceConfig| {
            // Sources of a program's own lie in no folder.
            let folder = ModelFolder::open(&source.model, source.variant.as_deref()).ok();
            let weights = folder.map(|folder| folder.files()).unwrap_or_default().into_iter();
            let files = weights.filter(|(_, kind)| *kind == "model").map(|(path, _)| path);
            SourceCard { files: files.collect(), license: license(&source.model), hashes: OnceLock::new() }
        };
        Self(sources.into_iter().map(|(name, source)| (name.clone(), card(source))).collect())
    }

    /// Computes the hashes; takes as long as reading the weights.
    pub(crate) fn hash(&self) {
        let mut known: BTreeMap<&Path, Option<String>> = BTreeMap::new();
        for card in self.0.values() {
            let mut hashes = Vec::new();
            for path in &card.files {
                let hash = known.entry(path).or_insert_with(|| sha256(path));
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                hashes.push(json!({ "name": name, "sha256": hash }));
            }
            // Nothing else sets it.
            let _ = card.hashes.set(hashes);
        }
    }

    fn card(&self, name: &str) -> Value {
        let Some(card) = self.0.get(name) else { return json!({}) };
        let mut told = Map::new();
        told.extend(card.license.as_ref().map(|license| ("license".to_owned(), json!(license))));
        told.extend(
            card.hashes.get().filter(|hashes| !hashes.is_empty()).map(|hashes| ("files".to_owned(), json!(hashes))),
        );
        Value::Object(told)
    }
}

fn sha256(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Some(hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

/// The licence that the model's README names in its front matter, as model hubs have it.
fn license(model: &Path) -> Option<String> {
    const LONGEST: usize = 80;
    let folder = if model.is_dir() { model } else { model.parent()? };
    let text = read_text_file(&folder.join("README.md"), 1 << 20).ok()?;
    let front = text.strip_prefix("---")?.split("\n---").next()?;
    let value = front.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    (!value.is_empty() && value.len() <= LONGEST).then(|| value.to_owned())
}

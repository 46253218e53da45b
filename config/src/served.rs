//! `[[models]]`: the fusions of an experiment that a server offers by name.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_pipeline::{ModelFolders, Names, Pipeline, PluginSettings, Runtime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    Config, Experiment,
    diagnostic::Diagnostic,
    document::{Entry, Node, Table, Value},
    experiment::sound,
};

/// Fusions of one server; each has the whole configuration in memory.
const MOST_MODELS: usize = 64;

/// `[[models]]`: a fusion of the file's sources that `logitfuse serve` offers under a name of its own. Each source is in memory
/// once, however many fusions it takes part in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What requests call it: letters, digits, and `. _ - : @`.
    pub name: String,
    /// The strategy's id; `none`, the base alone, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// The source, or list of sources, of each role. A role that is not listed is played by the source of its name.
    #[serde(default)]
    pub roles: BTreeMap<String, Names>,
    /// The strategy's own parameters, which requests may change.
    #[serde(default)]
    pub parameters: Map<String, Json>,
    /// Scales the strategy with the length of the text, if present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Map<String, Json>>,
    /// Lets the strategy, with its schedule, act only where the base needs help, if present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Map<String, Json>>,
}

/// The keys of `[strategy]` by those of `[[models]]`.
const STRATEGY_KEYS: [(&str, &str); 5] =
    [("strategy", "use"), ("roles", "roles"), ("parameters", "params"), ("schedule", "schedule"), ("gate", "gate")];

impl Experiment {
    /// `[[models]]`, checked.
    pub(super) fn models_of(&self, found: &mut Vec<Diagnostic>) {
        let items = self.model_items();
        if let Some(over) = items.get(MOST_MODELS) {
            let place = self.texts().place(&over.span);
            let wrong = Diagnostic::new(format!("more than {MOST_MODELS} models"), place);
            found.push(wrong.help("serve them from several servers"));
            return;
        }
        let mut names = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let entry = Entry::new(item.span.clone(), item.clone());
            let Some(model) = self.typed::<ModelConfig>(&entry, &format!("models.{i}"), found) else { continue };
            let place = || {
                let name = item.as_table().and_then(|table| table.get("name"));
                self.texts().place(name.map_or(&item.span, |entry| &entry.node.span))
            };
            if model.name.is_empty() || !model.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:@".contains(c)) {
                let wrong = Diagnostic::new(format!("`{}` cannot be the name of a model", model.name), place());
                found.push(wrong.help("names have letters, digits, and . _ - : @"));
            }
            if !names.insert(model.name.clone()) {
                let wrong = Diagnostic::new(format!("there are two models `{}`", model.name), place());
                found.push(wrong.help("give each its own name"));
            }
        }
    }

    /// What a server offers, by name: the fusions of `[[models]]`, or the experiment's own, under the name of its file.
    ///
    /// ```
    /// use logitfuse_config::{Experiment, Overrides};
    ///
    /// let text = r#"
    ///     schema = 1
    ///     [sources.large]
    ///     model = "L"
    ///     [sources.tuned]
    ///     model = "S-tuned"
    ///     [sources.small]
    ///     model = "S"
    ///     [[models]]
    ///     name = "large"
    ///     roles = { base = "large" }
    ///     [[models]]
    ///     name = "fused"
    ///     strategy = "static-proxy"
    ///     roles = { base = "large", expert = "tuned", anti = "small" }
    ///     parameters = { alpha = 0.5 }
    /// "#;
    /// let served = Experiment::from_toml(text, &Overrides::default())?.served()?;
    /// assert_eq!(served[1].0, "fused");
    /// assert_eq!(served[1].1.strategy.params["alpha"], 0.5);
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the configuration, with their places.
    pub fn served(&self) -> Result<Vec<(String, Config)>> {
        let items = self.model_items();
        if items.is_empty() {
            return Ok(vec![(self.name().to_owned(), self.config()?)]);
        }
        let mut served = Vec::new();
        for item in items {
            let mut found = Vec::new();
            let Some(model) = item.as_table() else { continue };
            let mut table = self.layered([]);
            table.insert("strategy".to_owned(), Entry::new(item.span.clone(), strategy_of(model, item)));
            let config = self.config_of(table, &mut found);
            sound(&mut found)?;
            let (Some(mut config), Some(name)) = (config, model.get("name").and_then(|name| name.node.as_str())) else {
                return Err(Error::new(ErrorKind::Internal, "a model was refused without a reason"));
            };
            // Who drafts for one fusion may take no part in another.
            let drafts = |draft: &str| {
                draft == "prompt_lookup"
                    || config.sources.contains_key(draft)
                    || config.strategy.roles.contains_key(draft)
            };
            if config.speculation.as_ref().is_some_and(|speculation| !drafts(&speculation.draft)) {
                config.speculation = None;
            }
            served.push((name.to_owned(), config));
        }
        Ok(served)
    }

    /// Opens what a server offers ([`served`](Self::served)): each model once, in one pool. `threads` is how many cores to use
    /// in all; 0 is all there are.
    ///
    /// # Errors
    /// Those of the models and the strategies, with the place of the value that is wrong.
    pub fn open_served(
        &self,
        runtime: &Runtime,
        threads: usize,
        plugins: &PluginSettings,
    ) -> Result<Vec<(String, Pipeline)>> {
        let served = self.served()?;
        // What is wrong with one of them is underlined where that one stands; what is wrong with all of them together is not.
        let mut folders = ModelFolders::default();
        for (_, config) in &served {
            config.preview(plugins, &mut folders)?;
        }
        let options = served.iter().map(|(_, config)| config.options());
        let opened = Pipeline::open_several(options, runtime, threads, plugins);
        let opened = opened.map_err(|e| served.first().map_or(e.clone(), |(_, config)| config.underline(e)))?;
        Ok(served.into_iter().map(|(name, _)| name).zip(opened).collect())
    }

    fn model_items(&self) -> &[Node] {
        match self.document().get("models").map(|entry| &entry.node.value) {
            Some(Value::Array(items)) => items,
            _ => &[],
        }
    }
}

/// A model's keys as those of `[strategy]`, where they stand.
fn strategy_of(model: &Table, item: &Node) -> Node {
    let keys = STRATEGY_KEYS.iter().filter_map(|(from, to)| Some(((*to).to_owned(), model.get(*from)?.clone())));
    Node { value: Value::Table(keys.collect()), span: item.span.clone() }
}

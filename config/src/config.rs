//! The keys of an experiment's TOML: what one engine is made of.

use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{Error, FusionStrategy, Result, StrategyInfo};
use logitfuse_pipeline::Runtime;
use logitfuse_pipeline::{ModelFolders, PluginFile, Preview, SearchPath};
use logitfuse_pipeline::{
    Pipeline, PipelineOptions, PluginConfig, PluginSettings, PluginUse, RunConfig, Sample, SourceConfig,
    SpeculationConfig, StrategyConfig, read_jsonl,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{ConfigOrigin, Experiment, Overrides};

/// A whole experiment, as its TOML states it. See the [crate's page](crate) for one.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of these keys; 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// What to generate.
    #[serde(default)]
    pub run: RunConfig,
    /// The models with their prompts, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// How they are fused.
    #[serde(default)]
    pub strategy: StrategyConfig,
    /// Libraries with strategies, by names of the experiment's choice.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<String, PluginConfig>,
    /// Where it was read from.
    #[serde(skip)]
    #[schemars(skip)]
    pub origin: ConfigOrigin,
    /// Whether tokens are drafted; they are not if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation: Option<SpeculationConfig>,
}

impl Config {
    /// An experiment with these sources and this strategy, and defaults for everything else.
    pub fn new(sources: BTreeMap<String, SourceConfig>, strategy: StrategyConfig) -> Self {
        Self {
            schema: 1,
            run: RunConfig::default(),
            sources,
            strategy,
            plugins: BTreeMap::new(),
            origin: ConfigOrigin::default(),
            speculation: None,
        }
    }

    /// Reads a TOML and what it extends, without its variants and tasks. Paths in it are made relative to its folder.
    pub fn load(path: &std::path::Path) -> Result<Self> {
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

    /// What a pipeline is opened from.
    pub fn options(&self) -> PipelineOptions {
        let mut options = PipelineOptions::new(self.sources.clone(), self.strategy.clone());
        options.run = self.run.clone();
        options.speculation.clone_from(&self.speculation);
        options.plugins.clone_from(&self.plugins);
        options.folder.clone_from(&self.origin.folder);
        options.inherited_roles = self.origin.inherited_roles().into_iter().map(str::to_owned).collect();
        options
    }

    /// The strategy in its wrappers, and the plugin that it comes from if it is not built in.
    ///
    /// # Errors
    /// Those of the strategy's parameters and of loading a plugin, with the place of the value that is wrong.
    pub fn fusion_strategy(&self, plugins: &PluginSettings) -> Result<(Arc<dyn FusionStrategy>, Option<PluginUse>)> {
        self.options().fusion_strategy(plugins).map_err(|e| self.underline(e))
    }

    /// The `(role, source)` pairs of a strategy's roles, in their order.
    ///
    /// # Errors
    /// If a role that it needs has no source.
    pub fn assign(&self, info: &StrategyInfo) -> Result<Vec<(String, String)>> {
        logitfuse_pipeline::assign(&self.options(), info)
    }

    /// The files of all plugins that this experiment names or uses. None of their code runs.
    ///
    /// # Errors
    /// Those of files that cannot be read or are no plugins.
    pub fn plugin_files(&self, search: &SearchPath) -> Result<Vec<PluginFile>> {
        self.options().plugin_files(search)
    }

    /// Checks what can be wrong before a weight is loaded, without ONNX Runtime, and says what the models would read.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn preview(&self, plugins: &PluginSettings, folders: &mut ModelFolders) -> Result<Preview> {
        self.options().preview(plugins, folders).map_err(|e| self.underline(e))
    }

    /// Opens the models. `threads` is how many cores to use in all; 0 is all there are. `plugins` is what the machine says of
    /// plugins; those that the experiment names need none of it.
    ///
    /// # Errors
    /// Those of the models and the strategy, with the place of the value that is wrong.
    pub fn open(&self, runtime: &Runtime, threads: usize, plugins: &PluginSettings) -> Result<Pipeline> {
        Pipeline::open(self.options(), runtime, threads, plugins).map_err(|e| self.underline(e))
    }

    /// As [`open`](Self::open), for what times the models and generates nothing: none of a plugin's code runs.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_to_plan(&self, runtime: &Runtime, threads: usize, plugins: &PluginSettings) -> Result<Pipeline> {
        Pipeline::open_to_plan(self.options(), runtime, threads, plugins).map_err(|e| self.underline(e))
    }

    /// The same error, with the place of the value that its message begins with.
    pub fn underline(&self, error: Error) -> Error {
        self.origin.underline(error)
    }
}

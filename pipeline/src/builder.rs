use std::{path::PathBuf, sync::Arc};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result};
use logitfuse_engine::Sampling;
use logitfuse_onnx::Runtime;
use logitfuse_setup::{Environment, find_runtime};
use serde_json::Value;

use crate::{Names, Pipeline, PipelineOptions, SourceConfig, SpeculationConfig, strategies};

/// Collects what a [`Pipeline`] is opened from.
#[derive(Default)]
pub struct PipelineBuilder {
    options: PipelineOptions,
    strategy: Option<Arc<dyn FusionStrategy>>,
    wrong: Option<Error>,
    runtime: Option<Runtime>,
    threads: usize,
}

impl Pipeline {
    /// Begins a pipeline.
    pub fn builder() -> PipelineBuilder {
        PipelineBuilder::default()
    }
}

impl PipelineBuilder {
    /// Lets a model play a role: a folder with an ONNX decoder and its tokenizer. A role that several sources may take is
    /// given several times.
    #[must_use]
    pub fn model(self, role: &str, folder: impl Into<PathBuf>) -> Self {
        self.source(role, SourceConfig::new(folder))
    }

    /// Lets a model play a role, with its own prompt templates, provider and limits.
    #[must_use]
    pub fn source(mut self, role: &str, source: SourceConfig) -> Self {
        let names = self.options.strategy.roles.entry(role.to_owned()).or_insert_with(|| Names(Vec::new()));
        let name = match names.0.len() {
            0 => role.to_owned(),
            count => format!("{role}-{}", count + 1),
        };
        names.0.push(name.clone());
        self.options.sources.insert(name, source);
        self
    }

    /// Sets the strategy by its id, with its parameters as a JSON object.
    #[must_use]
    pub fn strategy(mut self, id: &str, params: Value) -> Self {
        self.options.strategy.id = Some(id.to_owned());
        match params {
            Value::Object(params) => self.options.strategy.params = params,
            Value::Null => {}
            other => {
                let what = format!("strategy.params: must be a JSON object, not {other}");
                self.wrong = Some(Error::new(ErrorKind::InvalidConfig, what));
            }
        }
        self
    }

    /// Sets a strategy of the program's own.
    #[must_use]
    pub fn custom_strategy(mut self, strategy: Arc<dyn FusionStrategy>) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Drafts tokens with this role's source, as many at a time as speed decoding up. What is generated stays the same.
    #[must_use]
    pub fn drafts(mut self, role: &str) -> Self {
        self.options.speculation = Some(SpeculationConfig { draft: role.to_owned(), ..SpeculationConfig::default() });
        self
    }

    /// Sets execution providers, in order of preference, for all models that were added so far: `cuda:device_id=0`, `cpu`.
    #[must_use]
    pub fn providers<'a>(mut self, providers: impl IntoIterator<Item = &'a str>) -> Self {
        let providers: Vec<String> = providers.into_iter().map(str::to_owned).collect();
        self.options.sources.values_mut().for_each(|source| source.providers.clone_from(&providers));
        self
    }

    /// Sets the token limit of a text. Without it 128.
    #[must_use]
    pub fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.options.run.max_new_tokens = tokens;
        self
    }

    /// Adds a string that ends a text where it first appears.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.options.run.stop.push(text.into());
        self
    }

    /// Sets how tokens are chosen. Without it greedy.
    #[must_use]
    pub fn sampling(mut self, sampling: &Sampling) -> Self {
        let run = &mut self.options.run;
        run.temperature = sampling.temperature;
        (run.top_k, run.top_p, run.min_p) = (sampling.top_k, sampling.top_p, sampling.min_p);
        run.repetition_penalty = sampling.repetition_penalty;
        (run.presence_penalty, run.frequency_penalty) = (sampling.presence_penalty, sampling.frequency_penalty);
        run.logit_bias = sampling.logit_bias.iter().map(|(id, bias)| (id.to_string(), *bias)).collect();
        run.seed = sampling.seed;
        self
    }

    /// Sets how many cores to use in all. Without it all there are.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets ONNX Runtime. Without it, it is looked for: `LOGITFUSE_ORT_LIB`, what `logitfuse runtime install` installed, an
    /// `onnxruntime` wheel of the active Python, the system's libraries.
    #[must_use]
    pub fn runtime(mut self, runtime: &Runtime) -> Self {
        self.runtime = Some(runtime.clone());
        self
    }

    /// Opens the models.
    ///
    /// # Errors
    /// Those of finding ONNX Runtime, the models and the strategy; the message begins with the option that is wrong.
    pub fn build(self) -> Result<Pipeline> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Runtime::load(&find_runtime(&Environment::of_process(), None)?.library)?,
        };
        let strategy = match self.strategy {
            Some(strategy) => strategy,
            None => strategies::configured(&self.options.strategy)?,
        };
        Pipeline::open_with(self.options, strategy, &runtime, self.threads)
    }
}

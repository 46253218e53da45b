//! From options to an opened pipeline.

use std::sync::Arc;

use logitfuse_core::{Error, FusionStrategy, Result};
use logitfuse_engine::SourcePool;
use logitfuse_onnx::{Provider, Runtime};

use crate::{
    Pipeline, PipelineOptions, ThreadPlan, calibration,
    models::PreparedModels,
    pipeline::{Opened, sampling},
    speculation::drafter,
    strategies,
};

#[cfg(feature = "plugins")]
use crate::PluginSettings;

impl Pipeline {
    /// Opens the models. `threads` is how many cores to use in all; 0 is all there are. `plugins` is what the machine says of
    /// plugins; those that the options name need none of it.
    ///
    /// # Errors
    /// Those of the models and the strategy; the message begins with the option that is wrong.
    #[cfg(feature = "plugins")]
    pub fn open(options: PipelineOptions, runtime: &Runtime, threads: usize, plugins: &PluginSettings) -> Result<Self> {
        let (strategy, plugin) = options.fusion_strategy(plugins)?;
        Self::open_parts(options, strategy, plugin, runtime, threads)
    }

    /// As [`open`](Self::open), with a strategy that a program brings along instead of the one that the options name; its
    /// roles are those of `strategy.roles`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        options: PipelineOptions,
        strategy: Arc<dyn FusionStrategy>,
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self> {
        Self::open_parts(
            options,
            strategy,
            #[cfg(feature = "plugins")]
            None,
            runtime,
            threads,
        )
    }

    fn open_parts(
        options: PipelineOptions,
        strategy: Arc<dyn FusionStrategy>,
        #[cfg(feature = "plugins")] plugin: Option<crate::PluginUse>,
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self> {
        let roles = strategies::assign(&options, strategy.info())?;
        // What can be wrong without loading weights is found first.
        let prepared = PreparedModels::new(&options, &roles)?;
        // A fusion orders bindings by role and keeps the order within one, as `assign` does.
        let formatters: Vec<_> = roles.iter().map(|(_, source)| prepared.formatter(source)).collect();
        let calibration = calibration::prompts(&options, strategy.info(), &roles, &formatters)?;
        let names: Vec<String> = options.sources.keys().cloned().collect();
        let drafter = |speculation| drafter(speculation, &roles, &names, |name| prepared.model_of(name));
        let drafter = options.speculation.as_ref().map(drafter).transpose()?;
        let weights = prepared.weights();
        let thread_plan = ThreadPlan::new(&weights, threads);
        let opened = prepared.open(runtime, &thread_plan)?;
        let builder = SourcePool::builder().vocabulary(opened.compatibility.vocabulary()?);
        let builder = builder.concurrency(thread_plan.concurrency());
        let pool = opened.sources.into_iter().fold(builder, |builder, source| builder.source(source)).build()?;
        let models = roles.iter().map(|(_, source)| prepared.model_of(source).unwrap_or(0)).collect();
        let parts = Opened {
            pool,
            tokenizer: prepared.tokenizer(),
            compatibility: opened.compatibility,
            reports: opened.reports,
            thread_plan,
            weights,
            strategy,
            #[cfg(feature = "plugins")]
            plugin,
            roles,
            models,
            formatters,
            calibration,
            drafter,
        };
        Self::assemble(options, parts)
    }
}

impl PipelineOptions {
    /// The strategy in its wrappers, and the plugin that it comes from if it is not built in.
    ///
    /// # Errors
    /// Those of the strategy's parameters and of loading a plugin.
    #[cfg(feature = "plugins")]
    pub fn fusion_strategy(
        &self,
        plugins: &PluginSettings,
    ) -> Result<(Arc<dyn FusionStrategy>, Option<crate::PluginUse>)> {
        let plugin = self.plugin_strategy(plugins)?;
        let strategy = match &plugin {
            Some(plugin) => {
                strategies::wrapped(&self.strategy, Arc::clone(&plugin.strategy) as Arc<dyn FusionStrategy>)
            }
            None => strategies::configured(&self.strategy),
        };
        Ok((strategy?, plugin))
    }

    /// Checks what can be wrong before a weight is loaded, without ONNX Runtime: the strategy takes its parameters and has
    /// its roles, model folders are there with their tokenizers, templates compile, settings are in range.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[cfg(feature = "plugins")]
    pub fn check(&self, plugins: &PluginSettings) -> Result<()> {
        let (strategy, _) = self.fusion_strategy(plugins)?;
        let roles = strategies::assign(self, strategy.info())?;
        let prepared = PreparedModels::new(self, &roles)?;
        let names: Vec<String> = self.sources.keys().cloned().collect();
        if let Some(speculation) = &self.speculation {
            drafter(speculation, &roles, &names, |name| prepared.model_of(name))?;
        }
        for (name, source) in &self.sources {
            let all = source.providers.iter().map(|provider| provider.parse::<Provider>());
            all.collect::<Result<Vec<_>>>().map_err(|e: Error| e.context(format!("sources.{name}.providers")))?;
        }
        sampling(&self.run, 0).map(|_| ())
    }
}

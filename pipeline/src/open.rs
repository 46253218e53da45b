//! From options to an opened pipeline.

use std::sync::Arc;

use logitfuse_core::{FusionStrategy, Result};
use logitfuse_engine::{SourcePool, SourcePoolBuilder};
use logitfuse_onnx::Runtime;

use crate::{
    ModelFolders, Pipeline, PipelineOptions, ThreadPlan, calibration, models::PreparedModels, pipeline::Opened,
    speculation::drafter, strategies,
};

impl Pipeline {
    /// Opens the models with this strategy, whose roles are those of `strategy.roles`. `threads` is how many cores to use in
    /// all; 0 is all there are.
    ///
    /// # Errors
    /// Those of the models and the strategy; the message begins with the option that is wrong.
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

    pub(crate) fn open_parts(
        options: PipelineOptions,
        strategy: Arc<dyn FusionStrategy>,
        #[cfg(feature = "plugins")] plugin: Option<crate::PluginUse>,
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self> {
        let roles = strategies::assign(&options, strategy.info())?;
        // What can be wrong without loading weights is found first.
        let prepared = PreparedModels::new(&options, &roles, &mut ModelFolders::default())?;
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
        let pool = opened.sources.into_iter().fold(builder, SourcePoolBuilder::source).build()?;
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

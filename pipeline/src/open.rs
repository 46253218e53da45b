//! From options to opened pipelines.

use std::sync::Arc;

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result};
use logitfuse_engine::{CalibrationPrompts, SourcePool, SourcePoolBuilder};
use logitfuse_onnx::Runtime;

use crate::{
    ModelFolders, Pipeline, PipelineOptions, PromptFormatter, ThreadPlan, calibration,
    models::PreparedModels,
    pipeline::Opened,
    speculation::{Drafter, drafter},
    strategies,
};

/// A pipeline that is to be opened.
pub(crate) struct Wanted {
    pub(crate) options: PipelineOptions,
    pub(crate) strategy: Arc<dyn FusionStrategy>,
    #[cfg(feature = "plugins")]
    pub(crate) plugin: Option<crate::PluginUse>,
}

/// One whose prompts can be written.
struct Prepared {
    wanted: Wanted,
    roles: Vec<(String, String)>,
    formatters: Vec<PromptFormatter>,
    calibration: Option<Vec<CalibrationPrompts>>,
    drafter: Option<Drafter>,
}

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
        Self::open_one(
            Wanted {
                options,
                strategy,
                #[cfg(feature = "plugins")]
                plugin: None,
            },
            runtime,
            threads,
        )
    }

    pub(crate) fn open_one(wanted: Wanted, runtime: &Runtime, threads: usize) -> Result<Self> {
        let mut opened = Self::open_wanted(vec![wanted], runtime, threads)?;
        opened.pop().ok_or_else(|| Error::new(ErrorKind::Internal, "one pipeline was wanted and none opened"))
    }

    /// Opens pipelines over one pool: each model once, whoever plays a role with it. All have the same sources.
    pub(crate) fn open_wanted(wanted: Vec<Wanted>, runtime: &Runtime, threads: usize) -> Result<Vec<Self>> {
        let mut assigned = Vec::new();
        for one in &wanted {
            assigned.push(strategies::assign(&one.options, one.strategy.info())?);
        }
        let drafts = |wanted: &&Wanted| wanted.options.speculation.is_some();
        let Some(first) = wanted.iter().find(drafts).or(wanted.first()) else { return Ok(Vec::new()) };
        // What can be wrong without loading weights is found first.
        let prepared = PreparedModels::new(&first.options, &assigned.concat(), &mut ModelFolders::default())?;
        let mut pipelines = Vec::new();
        for (wanted, roles) in wanted.into_iter().zip(assigned) {
            pipelines.push(prepare(wanted, roles, &prepared)?);
        }
        let weights = prepared.weights();
        let thread_plan = ThreadPlan::new(&weights, threads);
        let opened = prepared.open(runtime, &thread_plan)?;
        let builder = SourcePool::builder().vocabulary(opened.compatibility.vocabulary()?);
        let builder = builder.concurrency(thread_plan.concurrency());
        let pool = opened.sources.into_iter().fold(builder, SourcePoolBuilder::source).build()?;
        let assemble = |one: Prepared| {
            let Prepared { wanted, roles, formatters, calibration, drafter } = one;
            let models = roles.iter().map(|(_, source)| prepared.model_of(source).unwrap_or(0)).collect();
            let parts = Opened {
                pool: pool.clone(),
                tokenizer: prepared.tokenizer(),
                compatibility: opened.compatibility.clone(),
                reports: opened.reports.clone(),
                thread_plan: thread_plan.clone(),
                weights: weights.clone(),
                strategy: wanted.strategy,
                #[cfg(feature = "plugins")]
                plugin: wanted.plugin,
                roles,
                models,
                formatters,
                calibration,
                drafter,
            };
            Self::assemble(wanted.options, parts)
        };
        pipelines.into_iter().map(assemble).collect()
    }
}

fn prepare(wanted: Wanted, roles: Vec<(String, String)>, prepared: &PreparedModels) -> Result<Prepared> {
    let options = &wanted.options;
    // A fusion orders bindings by role and keeps the order within one, as `assign` does.
    let formatters: Vec<_> = roles.iter().map(|(_, source)| prepared.formatter(source)).collect();
    let calibration = calibration::prompts(options, wanted.strategy.info(), &roles, &formatters)?;
    let names: Vec<String> = options.sources.keys().cloned().collect();
    let drafter = |speculation| drafter(speculation, &roles, &names, |name| prepared.model_of(name));
    let drafter = options.speculation.as_ref().map(drafter).transpose()?;
    Ok(Prepared { wanted, roles, formatters, calibration, drafter })
}

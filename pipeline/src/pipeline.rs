use std::sync::{Arc, OnceLock};

use logitfuse_core::{
    Detokenize, Error, ErrorKind, FusionStrategy, LogitSource, Result, RoundCosts, SessionInfo, SharedVocabulary,
    SourceInfo, TokenId,
};
use logitfuse_engine::{CalibrationPrompts, Decoder, Fusion, Request, Role, Sampling, SourcePool};
use logitfuse_text::{CompatibilityReport, DetokenizeOptions, Tokenizer};
use serde_json::Value;

use crate::{
    ChunkConsistency, PipelineOptions, PromptFormatter, RunConfig, ThreadPlan,
    costs::context,
    effect::without_effect,
    parts::EngineParts,
    service::Service,
    speculation::{Drafter, settings},
    step_profiler::StepProfiler,
};

/// Opened models with the strategy that fuses them, and everything between a prompt and a text: what a program that uses
/// logitfuse holds.
///
/// A pipeline is a handle: clones share the models. [`generate`](Self::generate), [`stream`](Self::stream) and
/// [`score`](Self::score) may be called from any thread; what runs at the same time is decoded in one batch, on a thread of
/// the pipeline's own. [`decoder`](Self::decoder) gives the decode loop itself.
///
/// ```no_run
/// use logitfuse_pipeline::Pipeline;
///
/// let pipeline = Pipeline::builder()
///     .model("base", "models/large")
///     .model("expert", "models/small-tuned")
///     .model("anti", "models/small")
///     .strategy("static-proxy", serde_json::json!({ "alpha": 1.0 }))
///     .build()?;
/// println!("{}", pipeline.generate("Why is the sky blue?")?.text);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
    run: Arc<RunConfig>,
}

struct Shared {
    options: PipelineOptions,
    fusion: Fusion,
    tokenizer: Tokenizer,
    compatibility: CompatibilityReport,
    #[cfg(feature = "onnx")]
    models: Vec<logitfuse_onnx::LoadReport>,
    thread_plan: ThreadPlan,
    #[cfg(feature = "plugins")]
    plugin: Option<crate::PluginUse>,
    /// How each binding's prompt is written.
    formatters: Vec<PromptFormatter>,
    parts: EngineParts,
    /// Which source plays which role, in the order of the bindings.
    roles: Vec<(String, String)>,
    /// Who drafts, and what that costs where it was timed.
    drafting: Option<(Drafter, Option<RoundCosts>)>,
    warnings: Vec<String>,
    idle_options: Vec<String>,
    /// Whether the strategy was fitted to its sources.
    calibrated: bool,
    service: OnceLock<Service>,
}

/// What a pipeline is put together from, whether its models are ONNX folders or a program's own sources.
pub(crate) struct Opened {
    pub(crate) pool: SourcePool,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) compatibility: CompatibilityReport,
    #[cfg(feature = "onnx")]
    pub(crate) reports: Vec<logitfuse_onnx::LoadReport>,
    pub(crate) thread_plan: ThreadPlan,
    pub(crate) weights: Vec<u64>,
    pub(crate) strategy: Arc<dyn FusionStrategy>,
    #[cfg(feature = "plugins")]
    pub(crate) plugin: Option<crate::PluginUse>,
    pub(crate) roles: Vec<(String, String)>,
    /// The model of each binding.
    pub(crate) models: Vec<usize>,
    pub(crate) formatters: Vec<PromptFormatter>,
    pub(crate) calibration: Option<Vec<CalibrationPrompts>>,
    pub(crate) drafter: Option<Drafter>,
}

impl Pipeline {
    /// Puts a pipeline together: fits the strategy to its sources, and times what drafts cost where that decides how long
    /// they are.
    pub(crate) fn assemble(options: PipelineOptions, opened: Opened) -> Result<Self> {
        let Opened { pool, strategy, roles, mut thread_plan, weights, drafter, .. } = opened;
        check_bias(&options.run, pool.vocabulary())?;
        let bound: Vec<Role> =
            roles.iter().zip(&opened.models).map(|((role, _), &model)| Role::new(role, model)).collect();
        let mut fusion = Fusion::new(&pool, strategy, bound.iter().cloned())?;
        let calibrated = opened.calibration.is_some();
        if let Some(prompts) = &opened.calibration {
            fusion = Decoder::new(&fusion).calibrated(&fusion, prompts)?;
        }
        let parts = EngineParts { strategy: Arc::clone(fusion.strategy()), pool, roles: bound };
        let mut drafting = None;
        let mut speculation = None;
        if let (Some(wanted), Some(drafter)) = (&options.speculation, drafter) {
            let timed = if wanted.is_timed(options.run.temperature) {
                let batch = options.run.batch.unwrap_or(1);
                let profiler = profiler(&parts, &roles, &options.run, &opened.tokenizer, batch)?;
                thread_plan.waves = profiler.faster(&thread_plan)?;
                Some(profiler.costs(&thread_plan, drafter, wanted.longest())?)
            } else {
                None
            };
            speculation = Some(settings(wanted, drafter, timed.as_ref(), &thread_plan, &weights));
            drafting = Some((drafter, timed));
        }
        let idle_options = without_effect(&options, fusion.strategy().info(), &roles);
        let mut warnings = Vec::new();
        let mut fusion = parts.fusion(&thread_plan.concurrency(), speculation)?;
        if fusion.speculation().is_some() {
            let uneven = uneven_rows(&fusion, &opened.tokenizer)?;
            fusion = fusion.with_uneven_rows(!uneven.is_empty());
            warnings = uneven;
        }
        let run = Arc::new(options.run.clone());
        let shared = Shared {
            options,
            fusion,
            tokenizer: opened.tokenizer,
            compatibility: opened.compatibility,
            #[cfg(feature = "onnx")]
            models: opened.reports,
            thread_plan,
            #[cfg(feature = "plugins")]
            plugin: opened.plugin,
            formatters: opened.formatters,
            parts,
            roles,
            drafting,
            warnings,
            idle_options,
            calibrated,
            service: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared), run })
    }

    /// What it was opened from.
    pub fn options(&self) -> &PipelineOptions {
        &self.shared.options
    }

    /// What is generated and how tokens are chosen, unless a request says otherwise.
    pub fn run(&self) -> &RunConfig {
        &self.run
    }

    /// The same models with other settings of what is generated and how tokens are chosen.
    #[must_use]
    pub fn with_run(&self, run: RunConfig) -> Self {
        Self { shared: Arc::clone(&self.shared), run: Arc::new(run) }
    }

    /// The strategy with the sources that play its roles, and how it drafts.
    pub fn fusion(&self) -> &Fusion {
        &self.shared.fusion
    }

    /// Another strategy over the same models, for single requests ([`Request::fusion`]): its roles are played by the sources
    /// that play the roles of the same names here.
    ///
    /// # Errors
    /// If it needs a role that no source plays.
    pub fn fusion_with(&self, strategy: Arc<dyn FusionStrategy>) -> Result<Fusion> {
        let known = |role: &Role| strategy.info().role(&role.role).is_some();
        let roles: Vec<Role> = self.shared.parts.roles.iter().filter(|role| known(role)).cloned().collect();
        Fusion::new(self.fusion().pool(), strategy, roles)
    }

    /// The strategy, fitted to its sources.
    pub fn strategy(&self) -> &dyn FusionStrategy {
        self.fusion().strategy().as_ref()
    }

    /// What the strategy fuses: one binding per row, and the shared vocabulary.
    pub fn session(&self) -> &SessionInfo {
        self.fusion().session()
    }

    /// The opened models.
    pub fn sources(&self) -> impl Iterator<Item = &SourceInfo> {
        self.fusion().pool().sources()
    }

    /// The ids that end a text.
    pub fn end_of_sequence(&self) -> &[TokenId] {
        self.fusion().end_of_sequence()
    }

    /// Which source plays which role, in the order of the bindings.
    pub fn roles(&self) -> &[(String, String)] {
        &self.shared.roles
    }

    /// The tokenizer that all sources share.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.shared.tokenizer
    }

    /// What comparing the tokenizers found.
    pub fn compatibility(&self) -> &CompatibilityReport {
        &self.shared.compatibility
    }

    /// One report per opened model: provider, cache policy, threads.
    #[cfg(feature = "onnx")]
    pub fn models(&self) -> &[logitfuse_onnx::LoadReport] {
        &self.shared.models
    }

    /// What was found when the models were opened, such as drafts that may change texts. One line each.
    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }

    /// Options of this pipeline that have no effect, one line each. An experiment shares its options between many pipelines;
    /// `Experiment::idle_settings` of `logitfuse-config` lists those that have no effect in any of them, with their places.
    pub fn idle_options(&self) -> &[String] {
        &self.shared.idle_options
    }

    /// How the models share the cores.
    pub fn thread_plan(&self) -> &ThreadPlan {
        &self.shared.thread_plan
    }

    /// The plugin that the strategy comes from, if it is not built in.
    #[cfg(feature = "plugins")]
    pub fn plugin(&self) -> Option<&crate::PluginUse> {
        self.shared.plugin.as_ref()
    }

    /// A decode loop over these models, on the caller's thread: for batches, events and scores beyond what
    /// [`generate`](Self::generate) and [`stream`](Self::stream) do.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(&self.shared.fusion)
    }

    /// Whether the strategy was fitted to its sources when they were opened.
    pub(crate) fn is_calibrated(&self) -> bool {
        self.shared.calibrated
    }

    pub(crate) fn formatters(&self) -> &[PromptFormatter] {
        &self.shared.formatters
    }

    /// The decoding thread that all clones share, started when it is first asked for.
    pub(crate) fn service(&self) -> &Service {
        self.shared.service.get_or_init(|| Service::start(&self.shared.fusion))
    }

    /// The prompt of each binding as text.
    ///
    /// # Errors
    /// Where a template fails on these fields.
    pub fn prompts(&self, fields: &Value) -> Result<Vec<String>> {
        self.shared.formatters.iter().map(|formatter| formatter.text(fields)).collect()
    }

    /// Whether a binding's prompt ends where an answer begins, as [`PromptFormatter::awaits_answer`] has it.
    ///
    /// # Errors
    /// Where a template fails on these fields.
    pub fn awaits_answer(&self, binding: usize, fields: &Value) -> Result<bool> {
        self.shared.formatters[binding].awaits_answer(fields)
    }

    /// The beginning of a binding's prompt as tokens.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, binding: usize, text: &str) -> Result<Vec<TokenId>> {
        self.shared.formatters[binding].encode(text)
    }

    /// How generated tokens become text that ends before the first of these strings, for [`Request::text`].
    pub fn detokenize(&self, stop: &[String]) -> Arc<dyn Detokenize> {
        Arc::new(DetokenizeOptions::new(self.shared.tokenizer.clone()).with_stop(stop))
    }

    /// The request that generates for the sample at `index`, whose fields fill the prompts.
    ///
    /// # Errors
    /// Where a template fails on these fields, or a setting is out of range.
    pub fn request_for(&self, index: usize, fields: &Value) -> Result<Request> {
        let run = &*self.run;
        let prompts = self.shared.formatters.iter().map(|f| f.tokens(fields)).collect::<Result<Vec<_>>>()?;
        let mut request = Request::new(prompts)
            .max_new_tokens(run.max_new_tokens)
            .sampling(sampling(run, index)?)
            .text(self.detokenize(&run.stop));
        request.ignore_end_of_sequence = run.ignore_end_of_sequence;
        Ok(request)
    }

    /// What rounds with drafts cost on this machine, timed if they were not yet; `None` without drafts.
    ///
    /// # Errors
    /// Those of the models.
    pub fn round_costs(&self, batch: usize) -> Result<Option<RoundCosts>> {
        match (&self.shared.options.speculation, &self.shared.drafting) {
            (_, Some((_, Some(timed)))) if timed.batch == batch => Ok(Some(timed.clone())),
            (Some(wanted), Some((drafter, _))) => {
                self.profiler(batch)?.costs(&self.shared.thread_plan, *drafter, wanted.longest()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Who drafts.
    pub(crate) fn drafter(&self) -> Option<Drafter> {
        self.shared.drafting.as_ref().map(|(drafter, _)| *drafter)
    }

    pub(crate) fn parts(&self) -> &EngineParts {
        &self.shared.parts
    }

    pub(crate) fn profiler(&self, batch: usize) -> Result<StepProfiler<'_>> {
        profiler(&self.shared.parts, &self.shared.roles, &self.run, &self.shared.tokenizer, batch)
    }
}

/// Prompts are one token over and over: another one for each source, whose prompts differ in earnest, too.
fn profiler<'a>(
    parts: &'a EngineParts,
    roles: &[(String, String)],
    run: &RunConfig,
    tokenizer: &Tokenizer,
    batch: usize,
) -> Result<StepProfiler<'a>> {
    let context = parts.pool.sources().map(|info| context(info.context_length)).min().unwrap_or(1);
    let mut known: Vec<&str> = Vec::new();
    let mut prompts = Vec::new();
    for (_, source) in roles {
        let place = known.iter().position(|name| name == source).unwrap_or(known.len());
        if place == known.len() {
            known.push(source);
        }
        let token = place % parts.pool.vocabulary().width();
        prompts.push(vec![TokenId::try_from(token).unwrap_or(0); context]);
    }
    let text = DetokenizeOptions::new(tokenizer.clone());
    Ok(StepProfiler { parts, prompts, sampling: sampling(run, 0)?, text: Some(Arc::new(text)), batch })
}

/// Checks `run.logit_bias` against the tokens that may be generated.
pub(crate) fn check_bias(run: &RunConfig, vocabulary: &SharedVocabulary) -> Result<()> {
    sampling(run, 0)?.check_vocabulary(vocabulary).map_err(|e| {
        let key = Error::new(e.kind(), format!("run.{e}"));
        if let Some(help) = e.help() { key.with_help(help) } else { key }
    })
}

/// The tokens of the text on which a source's rows are compared, which is read twice at every start.
const COMPARED: usize = 16;

/// A line for each source whose rows depend on whether tokens are fed one by one or several at once.
fn uneven_rows(fusion: &Fusion, tokenizer: &Tokenizer) -> Result<Vec<String>> {
    let mut sources = fusion.binding_sources().to_vec();
    sources.sort_unstable();
    sources.dedup();
    let mut uneven = Vec::new();
    for source in sources {
        let measure = |source: &mut dyn LogitSource| {
            ChunkConsistency::measure(source, tokenizer, COMPARED)
                .map(|measured| (source.info().name.clone(), measured))
        };
        let (name, measured) = fusion.pool().with_source(source, measure)??;
        if let Some(measured) = measured.filter(ChunkConsistency::matters) {
            uneven.push(format!(
                "speculation: drafts may change texts: rows of source `{name}` read one by one and {} at once differ by up \
                 to {:.1} % of the probability, as those of int8 exports do; compare with drafts off",
                ChunkConsistency::CHUNK,
                100.0 * measured.distance
            ));
        }
    }
    Ok(uneven)
}

/// How the tokens of the sample at `index` are chosen.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`], naming the setting.
pub fn sampling(run: &RunConfig, index: usize) -> Result<Sampling> {
    let mut logit_bias = Vec::new();
    for (id, &bias) in &run.logit_bias {
        let parsed = id.parse().map_err(|_| {
            Error::new(ErrorKind::InvalidConfig, format!("run.logit_bias: `{id}` is not a token id"))
                .with_help("`logitfuse models inspect` shows a model's tokens")
        })?;
        logit_bias.push((parsed, bias));
    }
    let sampling = Sampling {
        temperature: run.temperature,
        top_k: run.top_k,
        top_p: run.top_p,
        min_p: run.min_p,
        repetition_penalty: run.repetition_penalty,
        presence_penalty: run.presence_penalty,
        frequency_penalty: run.frequency_penalty,
        logit_bias,
        seed: run.seed.wrapping_add(index as u64),
    };
    sampling.validate().map_err(|e| e.context("run"))?;
    Ok(sampling)
}

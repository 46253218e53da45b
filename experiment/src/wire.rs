//! From a configuration to an engine that runs.

use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, LogitSource, Result, TokenId};
use logitfuse_engine::{DetokenizeOptions, Engine, Request, Role, Sampling};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime, SourceReport, Spin};
use logitfuse_rundir::RoundCosts;
use logitfuse_text::{CompatibilityReport, SourceVocabulary, Tokenizer, compatibility};
use serde_json::Value;

use crate::{
    Config, Plan, PluginSettings, PluginUse, Prompter, RunConfig, SourceConfig, calibration,
    costs::context,
    kit::{Kit, Lent},
    plugins,
    rounds::Stopwatch,
    speculation::{Drafter, drafter, settings},
    strategies,
};

/// An experiment's engine, with what is needed to feed it and to explain it.
pub struct Wired {
    /// The engine.
    pub engine: Engine,
    /// The tokenizer that all sources share.
    pub tokenizer: Tokenizer,
    /// What comparing the tokenizers found.
    pub verdict: CompatibilityReport,
    /// One report per opened model: provider, cache policy, threads.
    pub models: Vec<SourceReport>,
    /// How they share the cores.
    pub plan: Plan,
    /// The plugin that the strategy comes from, if it is not built in.
    pub plugin: Option<PluginUse>,
    /// How each binding's prompt is written.
    prompters: Vec<Prompter>,
    config: Config,
    pub(crate) kit: Kit,
    /// Which source plays which role, in the order of the bindings.
    pub(crate) roles: Vec<(String, String)>,
    /// Who drafts, and what that costs where a clock was asked.
    drafting: Option<(Drafter, Option<RoundCosts>)>,
}

/// A model that is opened once, and the sources that use it.
struct Opened {
    key: SourceConfig,
    folder: ModelFolder,
    tokenizer: Tokenizer,
    sources: Vec<String>,
}

/// What is known of an experiment's models before any weight is loaded.
pub(crate) struct Prepared {
    models: Vec<Opened>,
    /// By source.
    model_of: BTreeMap<String, usize>,
    prompter_of: BTreeMap<String, Prompter>,
}

impl Prepared {
    /// Finds the models of the sources that play these roles, and reads their tokenizers and prompts.
    pub(crate) fn new(config: &Config, roles: &[(String, String)]) -> Result<Self> {
        let drafting = config.speculation.as_ref().map(|speculation| speculation.draft.as_str());
        let used: Vec<&str> = roles.iter().map(|(_, source)| source.as_str()).chain(drafting).collect();
        let mut models: Vec<Opened> = Vec::new();
        let mut model_of = BTreeMap::new();
        let mut prompter_of = BTreeMap::new();
        for (name, source) in config.sources.iter().filter(|(name, _)| used.contains(&name.as_str())) {
            let known = models.iter().position(|m| same_model(&m.key, source));
            let index = known.unwrap_or(models.len());
            if known.is_none() {
                models.push(Opened::find(source).map_err(|e| e.context(format!("sources.{name}.model")))?);
            }
            models[index].sources.push(name.clone());
            model_of.insert(name.clone(), index);
            let (folder, tokenizer) = (&models[index].folder, &models[index].tokenizer);
            prompter_of.insert(name.clone(), Prompter::new(name, source, folder, tokenizer)?);
        }
        Ok(Self { models, model_of, prompter_of })
    }

    /// The model that a source is.
    pub(crate) fn model_of(&self, source: &str) -> Option<usize> {
        self.model_of.get(source).copied()
    }
}

impl Wired {
    /// Opens the models and starts the engine. `threads` is how many cores to use in all; 0 is all there are.
    pub fn new(config: Config, runtime: &Runtime, threads: usize) -> Result<Self> {
        Self::with_plugins(config, runtime, threads, &PluginSettings::default())
    }

    /// As [`new`](Self::new), with what the machine says of plugins. Those that the experiment names need none of it.
    pub fn with_plugins(config: Config, runtime: &Runtime, threads: usize, plugins: &PluginSettings) -> Result<Self> {
        let (strategy, plugin) = config.fusion(plugins)?;
        let origin = config.origin.clone();
        Self::assemble(config, strategy, plugin, runtime, threads).map_err(|e| origin.underline(e))
    }

    /// As [`new`](Self::new), with a strategy that a program brings along instead of the one that the configuration names;
    /// its roles are those of `[strategy] roles`.
    pub fn with_strategy(
        config: Config,
        strategy: Arc<dyn FusionStrategy>,
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self> {
        Self::assemble(config, strategy, None, runtime, threads)
    }

    fn assemble(
        config: Config,
        strategy: Arc<dyn FusionStrategy>,
        plugin: Option<PluginUse>,
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self> {
        let roles = strategies::assign(&config, strategy.info())?;

        // What can be wrong without loading weights is found first.
        let Prepared { models, model_of, prompter_of } = Prepared::new(&config, &roles)?;

        // The engine orders bindings by role and keeps the order within one, as `assign` does.
        let prompters: Vec<Prompter> = roles.iter().map(|(_, source)| prompter_of[source].clone()).collect();
        let calibration = calibration::prompts(&config, strategy.info(), &roles, &prompters)?;

        let weights: Vec<u64> = models.iter().map(|m| m.folder.weight_bytes()).collect();
        let mut plan = Plan::new(&weights, threads);
        let names: Vec<String> = config.sources.keys().cloned().collect();
        let drafter = |speculation| drafter(speculation, &roles, &names, |name| model_of.get(name).copied());
        let drafter = config.speculation.as_ref().map(drafter).transpose()?;
        let mut reports = Vec::new();
        let mut sources = Vec::new();
        for (model, &threads) in models.iter().zip(&plan.threads) {
            let source = model.open(runtime, threads, models.len() == 1)?;
            reports.push(source.report().clone());
            sources.push(source);
        }
        let verdict = verdict(&models, &sources);
        let kit = Kit {
            strategy,
            sources: sources.into_iter().map(Lent::new).collect(),
            roles: roles.iter().map(|(role, source)| Role::new(role, model_of[source])).collect(),
            vocabulary: verdict.vocabulary()?,
            calibration,
        };
        let tokenizer = models[0].tokenizer.clone();
        let mut drafting = None;
        let mut speculation = None;
        if let (Some(wanted), Some(drafter)) = (&config.speculation, drafter) {
            let timed = if wanted.asks_the_clock(config.run.temperature) {
                let batch = config.run.batch.unwrap_or(1);
                let stopwatch = stopwatch(&kit, &roles, &config.run, &tokenizer, batch)?;
                plan.waves = stopwatch.faster(&plan)?;
                Some(stopwatch.costs(&plan, drafter, wanted.longest())?)
            } else {
                None
            };
            speculation = Some(settings(wanted, drafter, timed.as_ref(), &plan, &weights));
            drafting = Some((drafter, timed));
        }
        let engine = kit.engine(plan.concurrency(), speculation)?;
        Ok(Self { engine, tokenizer, verdict, models: reports, plan, plugin, prompters, config, kit, roles, drafting })
    }

    /// What rounds with drafts cost on this machine, timed if they were not yet; `None` without `[speculation]`.
    ///
    /// # Errors
    /// Those of the models.
    pub fn round_costs(&self, batch: usize) -> Result<Option<RoundCosts>> {
        match (&self.config.speculation, &self.drafting) {
            (_, Some((_, Some(timed)))) if timed.batch == batch => Ok(Some(timed.clone())),
            (Some(wanted), Some((drafter, _))) => {
                self.stopwatch(batch)?.costs(&self.plan, *drafter, wanted.longest()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Who drafts.
    pub(crate) fn drafter(&self) -> Option<Drafter> {
        self.drafting.as_ref().map(|(drafter, _)| *drafter)
    }

    pub(crate) fn stopwatch(&self, batch: usize) -> Result<Stopwatch<'_>> {
        stopwatch(&self.kit, &self.roles, &self.config.run, &self.tokenizer, batch)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes another `[run]`: what is generated and how tokens are chosen may change while models stay.
    pub(crate) fn set_run(&mut self, run: RunConfig) {
        self.config.run = run;
    }

    /// The prompt of each binding as text.
    pub fn prompts(&self, fields: &Value) -> Result<Vec<String>> {
        self.prompters.iter().map(|p| p.text(fields)).collect()
    }

    /// The beginning of a binding's prompt as tokens.
    pub(crate) fn encode(&self, binding: usize, text: &str) -> Result<Vec<TokenId>> {
        self.prompters[binding].encode(text)
    }

    /// The request that generates for the sample at `index`.
    pub fn request(&self, index: usize, fields: &Value) -> Result<Request> {
        let run = &self.config.run;
        let prompts = self.prompters.iter().map(|p| p.tokens(fields)).collect::<Result<Vec<_>>>()?;
        let sampling = sampling(run, index)?;
        let mut request = Request::new(prompts)
            .max_new_tokens(run.max_new_tokens)
            .sampling(sampling)
            .text(DetokenizeOptions { tokenizer: self.tokenizer.clone(), stop: run.stop.clone() });
        request.ignore_end_of_sequence = run.ignore_end_of_sequence;
        Ok(request)
    }
}

/// Prompts are one token over and over: another one for each source, whose prompts differ in earnest, too.
fn stopwatch<'a>(
    kit: &'a Kit,
    roles: &[(String, String)],
    run: &RunConfig,
    tokenizer: &Tokenizer,
    batch: usize,
) -> Result<Stopwatch<'a>> {
    let context = kit.sources.iter().map(|source| context(source.info().context_length)).min().unwrap_or(1);
    let mut known: Vec<&str> = Vec::new();
    let mut prompts = Vec::new();
    for (_, source) in roles {
        let place = known.iter().position(|name| name == source).unwrap_or(known.len());
        if place == known.len() {
            known.push(source);
        }
        let token = place % kit.vocabulary.width();
        prompts.push(vec![TokenId::try_from(token).unwrap_or(0); context]);
    }
    let text = DetokenizeOptions { tokenizer: tokenizer.clone(), stop: Vec::new() };
    Ok(Stopwatch { kit, prompts, sampling: sampling(run, 0)?, text: Some(text), batch })
}

/// How the tokens of the sample at `index` are chosen.
pub(crate) fn sampling(run: &RunConfig, index: usize) -> Result<Sampling> {
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

/// Whether two sources may share a session: everything about the model is equal, only prompts differ.
fn same_model(a: &SourceConfig, b: &SourceConfig) -> bool {
    (&a.model, &a.variant, &a.providers, a.context_length) == (&b.model, &b.variant, &b.providers, b.context_length)
}

impl Config {
    /// The strategy in its wrappers, and the plugin that it comes from if it is not built in.
    pub(crate) fn fusion(&self, plugins: &PluginSettings) -> Result<(Arc<dyn FusionStrategy>, Option<PluginUse>)> {
        let plugin = self.plugin_strategy(plugins).map_err(|e| self.underline(e))?;
        let strategy = match &plugin {
            Some(plugin) => strategies::wrapped(&self.strategy, plugins::shared(&plugin.strategy)),
            None => strategies::configured(&self.strategy),
        };
        Ok((strategy.map_err(|e| self.underline(e))?, plugin))
    }
}

impl Opened {
    fn find(source: &SourceConfig) -> Result<Self> {
        let folder = ModelFolder::open(&source.model, source.variant.as_deref())?;
        let tokenizer = Tokenizer::load(folder.tokenizer_dir())?;
        Ok(Self { key: source.clone(), folder, tokenizer, sources: Vec::new() })
    }

    fn open(&self, runtime: &Runtime, threads: usize, alone: bool) -> Result<OnnxSource> {
        let options = OnnxOptions {
            name: Some(self.sources.join("+")),
            threads,
            // Idle workers of one session would steal the cores of the others.
            spin: if alone { Spin::Always } else { Spin::WhileRunning },
            providers: self.key.providers.iter().map(|p| p.parse()).collect::<Result<_>>()?,
            context_length: self.key.context_length,
            ..OnnxOptions::default()
        };
        OnnxSource::open(runtime, &self.folder, &options)
    }
}

fn verdict(models: &[Opened], sources: &[OnnxSource]) -> CompatibilityReport {
    let vocabularies: Vec<SourceVocabulary<'_>> = models
        .iter()
        .zip(sources)
        .map(|(model, source)| SourceVocabulary {
            name: &source.info().name,
            tokenizer: &model.tokenizer,
            logit_width: source.info().logit_width,
            end_of_sequence: &source.info().end_of_sequence,
        })
        .collect();
    compatibility(&vocabularies)
}

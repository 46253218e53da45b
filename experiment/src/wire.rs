//! From a configuration to an engine that runs.

use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result, TokenId};
use logitfuse_engine::{Engine, Request, Role, Sampling, TextRules};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime, SourceReport, Spin};
use logitfuse_text::{SourceVocabulary, Tokenizer, Verdict, compatibility};
use serde_json::Value;

use crate::{
    Config, Plan, PluginSettings, PluginUse, Prompter, RunConfig, SourceConfig, calibration, plugins,
    speculation::{self, Costs, DraftTokens, drafter, settings},
    strategies,
};

/// An experiment's engine, with what is needed to feed it and to explain it.
pub struct Wired {
    /// The engine.
    pub engine: Engine,
    /// The tokenizer that all sources share.
    pub tokenizer: Tokenizer,
    /// What comparing the tokenizers found.
    pub verdict: Verdict,
    /// One report per opened model: provider, cache policy, threads.
    pub models: Vec<SourceReport>,
    /// How they share the cores.
    pub plan: Plan,
    /// The plugin that the strategy comes from, if it is not built in.
    pub plugin: Option<PluginUse>,
    /// How each binding's prompt is written.
    prompters: Vec<Prompter>,
    config: Config,
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
        let calibration = if plugin.is_some() {
            calibration::refuse_for_plugin(&config, &roles)?;
            None
        } else {
            calibration::prompts(&config, strategy.info(), &roles, &prompters)?
        };

        let weights: Vec<u64> = models.iter().map(|m| m.folder.weight_bytes()).collect();
        let plan = Plan::new(&weights, threads);
        let names: Vec<String> = config.sources.keys().cloned().collect();
        let drafter = |speculation| drafter(speculation, &roles, &names, |name| model_of.get(name).copied());
        let drafter = config.speculation.as_ref().map(drafter).transpose()?;
        let mut engine = Engine::builder(strategy).concurrency(plan.concurrency());
        let mut reports = Vec::new();
        let mut sources = Vec::new();
        for (model, &threads) in models.iter().zip(&plan.threads) {
            let source = model.open(runtime, threads, models.len() == 1)?;
            reports.push(source.report().clone());
            sources.push(source);
        }
        let speculation = match (&config.speculation, drafter) {
            (Some(speculation), Some(drafter)) => {
                let ask_the_clock = speculation.tokens == DraftTokens::Auto && config.run.temperature == 0.0;
                let costs = if ask_the_clock {
                    let of = sources.iter_mut().map(|source| speculation::time(source)).collect::<Result<_>>()?;
                    Some(Costs { of, plan: plan.clone() })
                } else {
                    None
                };
                Some(settings(speculation, drafter, costs.as_ref(), &plan, &weights))
            }
            _ => None,
        };
        let verdict = verdict(&models, &sources);
        engine = engine.vocabulary(verdict.vocabulary()?).speculation(speculation);
        for source in sources {
            engine = engine.source(Box::new(source));
        }
        engine = engine.roles(roles.iter().map(|(role, source)| Role::new(role, model_of[source])));
        let mut engine = engine.build()?;
        if let Some(prompts) = calibration {
            engine.calibrate(&prompts)?;
        }
        let tokenizer = models[0].tokenizer.clone();
        Ok(Self { engine, tokenizer, verdict, models: reports, plan, plugin, prompters, config })
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
            .text(TextRules { tokenizer: self.tokenizer.clone(), stop: run.stop.clone() });
        request.ignore_end_of_sequence = run.ignore_end_of_sequence;
        Ok(request)
    }
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

fn verdict(models: &[Opened], sources: &[OnnxSource]) -> Verdict {
    use logitfuse_core::LogitSource;
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

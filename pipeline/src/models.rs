//! Model folders: what is known of them before a weight is loaded, and how they are opened.

use std::collections::BTreeMap;

use logitfuse_core::{LogitSource, Result, SharedVocabulary, TokenId};
use logitfuse_onnx::{LoadReport, ModelFolder, OnnxOptions, OnnxSource, Runtime, Spin};
use logitfuse_text::{CompatibilityReport, SourceVocabulary, Tokenizer, compatibility};

use crate::{ModelFolders, PipelineOptions, PromptFormatter, SourceConfig, ThreadPlan};

/// A model that is opened once, and the sources that use it.
struct Model {
    key: SourceConfig,
    folder: ModelFolder,
    tokenizer: Tokenizer,
    sources: Vec<String>,
}

/// What is known of the models before any weight is loaded.
pub(crate) struct PreparedModels {
    models: Vec<Model>,
    /// By source.
    model_of: BTreeMap<String, usize>,
    formatter_of: BTreeMap<String, PromptFormatter>,
}

/// Models with their weights, in order.
pub(crate) struct OpenedModels {
    pub(crate) sources: Vec<Box<dyn LogitSource>>,
    pub(crate) reports: Vec<LoadReport>,
    pub(crate) compatibility: CompatibilityReport,
}

impl PreparedModels {
    /// Finds the models of the sources that play these roles, and reads their tokenizers and prompts.
    pub(crate) fn new(
        options: &PipelineOptions,
        roles: &[(String, String)],
        folders: &mut ModelFolders,
    ) -> Result<Self> {
        let drafting = options.speculation.as_ref().map(|speculation| speculation.draft.as_str());
        let used: Vec<&str> = roles.iter().map(|(_, source)| source.as_str()).chain(drafting).collect();
        let mut prepared = Self { models: Vec::new(), model_of: BTreeMap::new(), formatter_of: BTreeMap::new() };
        for (name, source) in options.sources.iter().filter(|(name, _)| used.contains(&name.as_str())) {
            let models = &mut prepared.models;
            let known = models.iter().position(|model| is_same(&model.key, source));
            let index = known.unwrap_or(models.len());
            if known.is_none() {
                models.push(Model::find(source, folders).map_err(|e| e.context(format!("sources.{name}.model")))?);
            }
            models[index].sources.push(name.clone());
            prepared.model_of.insert(name.clone(), index);
            let Model { folder, tokenizer, .. } = &models[index];
            let formatter = PromptFormatter::new(name, source, Some(folder.tokenizer_dir()), tokenizer)?;
            prepared.formatter_of.insert(name.clone(), formatter);
        }
        Ok(prepared)
    }

    /// The model that a source is.
    pub(crate) fn model_of(&self, source: &str) -> Option<usize> {
        self.model_of.get(source).copied()
    }

    /// How a source's prompts are written.
    pub(crate) fn formatter(&self, source: &str) -> PromptFormatter {
        self.formatter_of[source].clone()
    }

    /// The tokenizer that all models share.
    pub(crate) fn tokenizer(&self) -> Tokenizer {
        self.models[0].tokenizer.clone()
    }

    /// The most that the models' vocabularies may have in common, before their widths are known.
    pub(crate) fn widest_vocabulary(&self) -> SharedVocabulary {
        let sizes = self.models.iter().map(|model| model.tokenizer.size());
        SharedVocabulary::new(sizes.min().unwrap_or_default(), [])
    }

    /// The models' folders.
    pub(crate) fn folders(&self) -> Vec<ModelFolder> {
        self.models.iter().map(|model| model.folder.clone()).collect()
    }

    /// Bytes of each model's weights.
    pub(crate) fn weights(&self) -> Vec<u64> {
        self.models.iter().map(|model| model.folder.weight_bytes()).collect()
    }

    /// Tokens that fit into one sequence of a source, where that is known.
    pub(crate) fn context_length(&self, source: &str) -> Option<usize> {
        let Model { key, folder, .. } = &self.models[self.model_of(source)?];
        key.context_length.or_else(|| folder.context_length())
    }

    /// The ids that end a text, as the first model's configuration lists them.
    pub(crate) fn end_of_sequence(&self) -> &[TokenId] {
        &self.models[0].folder.config().end_of_sequence
    }

    /// Compares the tokenizers as [`open`](Self::open) does, by what the files of the models state.
    pub(crate) fn compare(&self, folders: &mut ModelFolders) -> Result<()> {
        let keys: Vec<_> =
            self.models.iter().map(|model| (model.key.model.clone(), model.key.variant.clone())).collect();
        if folders.fits(&keys) {
            return Ok(());
        }
        self.stated_vocabulary()?;
        folders.fit(keys);
        Ok(())
    }

    /// The vocabulary that the models share, by what their files state.
    pub(crate) fn stated_vocabulary(&self) -> Result<SharedVocabulary> {
        let names: Vec<String> = self.models.iter().map(|model| model.sources.join("+")).collect();
        let vocabulary = |(model, name): (&Model, &String)| {
            let width =
                model.folder.logit_width().map_err(|e| e.context(format!("sources.{}.model", model.sources[0])))?;
            Ok((model.tokenizer.clone(), name.clone(), width))
        };
        let stated = self.models.iter().zip(&names).map(vocabulary).collect::<Result<Vec<_>>>()?;
        let vocabularies: Vec<SourceVocabulary<'_>> = stated
            .iter()
            .zip(&self.models)
            .map(|((tokenizer, name, width), model)| SourceVocabulary {
                name,
                tokenizer,
                // Where a graph states none, every token may have its column.
                logit_width: width.unwrap_or_else(|| tokenizer.defined_ids().last().map_or(0, |id| id as usize + 1)),
                end_of_sequence: &model.folder.config().end_of_sequence,
            })
            .collect();
        compatibility(&vocabularies).vocabulary()
    }

    /// Loads the weights, and compares the tokenizers.
    pub(crate) fn open(&self, runtime: &Runtime, plan: &ThreadPlan) -> Result<OpenedModels> {
        let alone = self.models.len() == 1;
        let open = |(model, &threads): (&Model, &usize)| model.open(runtime, threads, alone);
        let sources = self.models.iter().zip(&plan.threads).map(open).collect::<Result<Vec<OnnxSource>>>()?;
        Ok(OpenedModels {
            reports: sources.iter().map(|source| source.report().clone()).collect(),
            compatibility: compare(&self.models, &sources),
            sources: sources.into_iter().map(|source| Box::new(source) as Box<dyn LogitSource>).collect(),
        })
    }
}

impl Model {
    fn find(source: &SourceConfig, folders: &mut ModelFolders) -> Result<Self> {
        let (folder, tokenizer) = folders.open(&source.model, source.variant.as_deref())?;
        folder.check()?;
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
            end_of_sequence: self.tokenizer.eos_id().into_iter().collect(),
            ..OnnxOptions::default()
        };
        OnnxSource::open(runtime, &self.folder, &options)
    }
}

/// Whether two sources may share a session: everything about the model is equal, only prompts differ.
fn is_same(a: &SourceConfig, b: &SourceConfig) -> bool {
    (&a.model, &a.variant, &a.providers, a.context_length) == (&b.model, &b.variant, &b.providers, b.context_length)
}

fn compare(models: &[Model], sources: &[OnnxSource]) -> CompatibilityReport {
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

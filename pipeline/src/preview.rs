//! What a pipeline is before its weights are loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use logitfuse_core::{Error, Result, StrategyInfo, TokenId};
use logitfuse_onnx::{ModelFolder, Provider};
use logitfuse_text::Tokenizer;
use serde_json::Value;

use crate::{
    PipelineOptions, PromptFormatter, calibration, models::PreparedModels, pipeline::check_bias, speculation::drafter,
    strategies,
};

/// Model folders that were read: experiments of many variants read each of them once.
#[derive(Default)]
pub struct ModelFolders {
    read: BTreeMap<(PathBuf, Option<String>), (ModelFolder, Tokenizer)>,
    /// Sets of folders whose vocabularies are known to fit.
    fitting: BTreeSet<Vec<(PathBuf, Option<String>)>>,
}

impl ModelFolders {
    pub(crate) fn open(&mut self, path: &std::path::Path, variant: Option<&str>) -> Result<(ModelFolder, Tokenizer)> {
        let key = (path.to_owned(), variant.map(str::to_owned));
        if let Some(known) = self.read.get(&key) {
            return Ok(known.clone());
        }
        let folder = ModelFolder::open(path, variant)?;
        let tokenizer = Tokenizer::load(folder.tokenizer_dir())?;
        self.read.insert(key, (folder.clone(), tokenizer.clone()));
        Ok((folder, tokenizer))
    }

    /// Whether the vocabularies of these were found to fit.
    pub(crate) fn fits(&self, models: &[(PathBuf, Option<String>)]) -> bool {
        self.fitting.contains(models)
    }

    pub(crate) fn fit(&mut self, models: Vec<(PathBuf, Option<String>)>) {
        self.fitting.insert(models);
    }
}

/// Sources with their prompts and tokenizers, without weights: enough to see what each model would read.
pub struct Preview {
    roles: Vec<(String, String)>,
    formatters: Vec<PromptFormatter>,
    contexts: Vec<Option<usize>>,
    tokenizer: Tokenizer,
    end_of_sequence: Vec<TokenId>,
}

impl Preview {
    /// Which source plays which role, in the order of the bindings.
    pub fn roles(&self) -> &[(String, String)] {
        &self.roles
    }

    /// The prompt of each binding as text.
    ///
    /// # Errors
    /// Where a template fails on these fields.
    pub fn prompts(&self, fields: &Value) -> Result<Vec<String>> {
        self.formatters.iter().map(|formatter| formatter.text(fields)).collect()
    }

    /// A binding's prompt, or the beginning of one, as tokens.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, binding: usize, text: &str) -> Result<Vec<TokenId>> {
        self.formatters[binding].encode(text)
    }

    /// Whether a binding's prompt ends where an answer begins, as [`PromptFormatter::awaits_answer`] has it.
    ///
    /// # Errors
    /// Where a template fails on these fields.
    pub fn awaits_answer(&self, binding: usize, fields: &Value) -> Result<bool> {
        self.formatters[binding].awaits_answer(fields)
    }

    /// Tokens that fit into one sequence of a binding's model, where that is known.
    pub fn context_length(&self, binding: usize) -> Option<usize> {
        self.contexts[binding]
    }

    /// The tokenizer that all sources share.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The ids that end a text, as the first model's configuration lists them.
    pub fn end_of_sequence(&self) -> &[TokenId] {
        &self.end_of_sequence
    }
}

impl PipelineOptions {
    /// Checks what can be wrong before a weight is loaded, without ONNX Runtime: the strategy has its roles, model folders
    /// are there with tokenizers that fit, templates compile, settings are in range. Says what the models would read.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn preview_with(&self, info: &StrategyInfo, folders: &mut ModelFolders) -> Result<Preview> {
        let roles = strategies::assign(self, info)?;
        let prepared = PreparedModels::new(self, &roles, folders)?;
        let names: Vec<String> = self.sources.keys().cloned().collect();
        if let Some(speculation) = &self.speculation {
            drafter(speculation, &roles, &names, |name| prepared.model_of(name))?;
        }
        for (name, source) in &self.sources {
            let all = source.providers.iter().map(|provider| provider.parse::<Provider>());
            all.collect::<Result<Vec<_>>>().map_err(|e: Error| e.context(format!("sources.{name}.providers")))?;
        }
        prepared.compare(folders)?;
        let tokenizer = prepared.tokenizer();
        check_bias(&self.run, &prepared.widest_vocabulary())?;
        let formatters: Vec<_> = roles.iter().map(|(_, source)| prepared.formatter(source)).collect();
        calibration::prompts(self, info, &roles, &formatters)?;
        Ok(Preview {
            contexts: roles.iter().map(|(_, source)| prepared.context_length(source)).collect(),
            end_of_sequence: prepared.end_of_sequence().to_vec(),
            roles,
            formatters,
            tokenizer,
        })
    }
}

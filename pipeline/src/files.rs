//! What a fusion is on disk, for what turns it into other files.

use logitfuse_core::{Result, RoleBinding, SessionInfo, StrategyInfo, TokenId};
use logitfuse_onnx::ModelFolder;
use logitfuse_text::Tokenizer;
use serde_json::json;

use crate::{ModelFolders, PipelineOptions, SourceConfig, models::PreparedModels, strategies};

/// The models and the vocabulary of a fusion, found without loading a weight.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FusionFiles {
    /// The bindings, in the order of the strategy's roles, and the vocabulary that the models share.
    pub session: SessionInfo,
    /// The model folders, each once.
    pub models: Vec<ModelFolder>,
    /// The place among the models of each binding's.
    pub model_of: Vec<usize>,
    /// Whether each binding's source reads the same prompt as the first one's.
    pub shares_prompt: Vec<bool>,
    /// The ids that end a text, as the first model's configuration lists them.
    pub end_of_sequence: Vec<TokenId>,
    /// The tokenizer that all models share.
    pub tokenizer: Tokenizer,
    /// Tokens that fit into a sequence of every source, as its settings or its model's configuration state; none where no
    /// source states any.
    pub context_length: Option<usize>,
}

impl PipelineOptions {
    /// Finds the models of a strategy's roles and compares their tokenizers, as opening does.
    ///
    /// # Errors
    /// What is wrong with a source, a folder, or the set of them.
    pub fn files(&self, info: &StrategyInfo) -> Result<FusionFiles> {
        let roles = strategies::assign(self, info)?;
        let prepared = PreparedModels::new(self, &roles, &mut ModelFolders::default())?;
        let vocabulary = prepared.stated_vocabulary()?;
        let probe = json!({ "prompt": "a prompt" });
        let first = &roles[0].1;
        let rendered = |source: &str| prepared.formatter(source).text(&probe).ok();
        let shares = |source: &str| {
            prompt_of(&self.sources[source]) == prompt_of(&self.sources[first.as_str()])
                && rendered(source) == rendered(first)
        };
        Ok(FusionFiles {
            shares_prompt: roles.iter().map(|(_, source)| shares(source)).collect(),
            model_of: roles.iter().map(|(_, source)| prepared.model_of(source).unwrap_or(0)).collect(),
            models: prepared.folders(),
            end_of_sequence: prepared.end_of_sequence().to_vec(),
            tokenizer: prepared.tokenizer(),
            context_length: roles.iter().filter_map(|(_, source)| prepared.context_length(source)).min(),
            session: SessionInfo::new(roles.into_iter().map(|(role, source)| RoleBinding { role, source }), vocabulary),
        })
    }
}

/// What decides a source's prompt, beside its model's own template.
fn prompt_of(source: &SourceConfig) -> impl PartialEq + use<> {
    let SourceConfig { chat_template, chat_template_kwargs, date, system, user, assistant, .. } = source.clone();
    let SourceConfig { demonstrations, shots, answer, separator, .. } = source.clone();
    let message = (chat_template, chat_template_kwargs, date, system, user, assistant);
    (message, demonstrations, shots, answer, separator)
}

use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, LogitSource, Result};
use logitfuse_engine::SourcePool;
use logitfuse_text::{SourceVocabulary, Tokenizer, compatibility};

use crate::{
    Names, Pipeline, PipelineOptions, PromptFormatter, SourceConfig, ThreadPlan, pipeline::Opened,
    speculation::drafter, strategies::assign,
};

impl Pipeline {
    /// A pipeline over sources of the program's own, by role: any [`LogitSource`], no model folder, no ONNX Runtime. They
    /// share a tokenizer. Prompts, limits, sampling and drafts are those of `options`, whose sources have the names of roles;
    /// a role without options reads the prompt as it is.
    ///
    /// # Errors
    /// If the strategy's roles do not fit, or an option is wrong.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use logitfuse_pipeline::{Pipeline, PipelineOptions, strategy};
    /// use logitfuse_replay::SyntheticSource;
    /// use logitfuse_text::Tokenizer;
    ///
    /// let tokenizer = Tokenizer::from_json(r#"{"model": {"type": "WordLevel", "unk_token": "?",
    ///     "vocab": {"?": 0, "one": 1, "two": 2, "three": 3}}, "pre_tokenizer": {"type": "Whitespace"}}"#)?;
    /// let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), 4, seed));
    /// let mut options = PipelineOptions::default();
    /// options.run.max_new_tokens = 5;
    /// let pipeline = Pipeline::from_sources(
    ///     options,
    ///     strategy("static-proxy", &serde_json::json!({ "alpha": 0.5 }))?,
    ///     [("base", source(1) as _), ("expert", source(2) as _), ("anti", source(3) as _)],
    ///     &tokenizer,
    /// )?;
    /// assert_eq!(pipeline.generate("one two")?.tokens.len(), 5);
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn from_sources<'a>(
        mut options: PipelineOptions,
        strategy: Arc<dyn FusionStrategy>,
        sources: impl IntoIterator<Item = (&'a str, Box<dyn LogitSource>)>,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let mut pool = SourcePool::builder();
        let mut model_of: BTreeMap<String, usize> = BTreeMap::new();
        let mut infos = Vec::new();
        for (role, source) in sources {
            let names = options.strategy.roles.entry(role.to_owned()).or_insert_with(|| Names(Vec::new()));
            let name = if names.0.is_empty() { role.to_owned() } else { format!("{role}-{}", names.0.len() + 1) };
            names.0.push(name.clone());
            options.sources.entry(name.clone()).or_insert_with(|| SourceConfig::new(""));
            model_of.insert(name, infos.len());
            infos.push(source.info().clone());
            pool = pool.source(source);
        }
        if infos.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfig, "a pipeline needs a source"));
        }
        let roles = assign(&options, strategy.info())?;
        let vocabularies: Vec<SourceVocabulary<'_>> = infos
            .iter()
            .map(|info| SourceVocabulary {
                name: &info.name,
                tokenizer,
                logit_width: info.logit_width,
                end_of_sequence: &info.end_of_sequence,
            })
            .collect();
        let compatibility = compatibility(&vocabularies);
        let names: Vec<String> = options.sources.keys().cloned().collect();
        let find = |speculation| drafter(speculation, &roles, &names, |name| model_of.get(name).copied());
        let drafter = options.speculation.as_ref().map(find).transpose()?;
        let formatter =
            |(_, name): &(String, String)| PromptFormatter::new(name, &options.sources[name], None, tokenizer);
        let formatters = roles.iter().map(formatter).collect::<Result<_>>()?;
        let opened = Opened {
            pool: pool.vocabulary(compatibility.vocabulary()?).build()?,
            tokenizer: tokenizer.clone(),
            compatibility,
            #[cfg(feature = "onnx")]
            reports: Vec::new(),
            thread_plan: ThreadPlan { threads: vec![1; infos.len()], waves: vec![(0..infos.len()).collect()] },
            weights: vec![0; infos.len()],
            strategy,
            #[cfg(feature = "plugins")]
            plugin: None,
            models: roles.iter().map(|(_, name)| model_of[name]).collect(),
            roles,
            formatters,
            calibration: None,
            drafter,
        };
        Self::assemble(options, opened)
    }
}

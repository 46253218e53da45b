//! The models on disk, and how they are opened.

use std::{collections::BTreeMap, fmt, path::Path};

use logitfuse_config::Config;
use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use logitfuse_engine::Concurrency;
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource, Runtime, Spin};
use logitfuse_pipeline::{PluginSettings, SourceConfig, StrategyConfig};
use logitfuse_text::Tokenizer;

use crate::machine::cores;

/// English prose that every checkout has; long enough for the longest prompt.
const TEXT: &str = include_str!("../../../LICENSE-APACHE");

/// How a session uses the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads {
    pub(crate) count: usize,
    pub(crate) spin: Spin,
}

impl Threads {
    /// What is worth a try for a model that runs alone. A single thread has nobody to spin for.
    pub(crate) fn candidates() -> Vec<Self> {
        let mut counts = vec![1, cores() / 2, cores()];
        counts.retain(|&count| count > 0);
        counts.sort_unstable();
        counts.dedup();
        let both = |count| [Spin::Always, Spin::Never].map(|spin| Self { count, spin });
        counts.into_iter().flat_map(both).filter(|t| t.count > 1 || t.spin == Spin::Never).collect()
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { count: 1, .. } => f.write_str("1 thread"),
            Self { count, spin: Spin::Never } => write!(f, "{count} threads, spin off"),
            Self { count, spin: Spin::WhileRunning } => write!(f, "{count} threads, spin while running"),
            Self { count, .. } => write!(f, "{count} threads, spin on"),
        }
    }
}

/// A model, not yet loaded.
pub(crate) struct Model {
    /// `int8` or `fp32`.
    pub(crate) weights: &'static str,
    pub(crate) folder: ModelFolder,
    text: Vec<TokenId>,
}

impl Model {
    pub(crate) fn find(models: &Path, weights: &'static str) -> Result<Self> {
        let folder = ModelFolder::open(&models.join(format!("smollm2-{weights}")), None)?;
        let text = Tokenizer::load(folder.tokenizer_dir())?.encode(TEXT, false)?;
        Ok(Self { weights, folder, text })
    }

    /// A prompt of `len` tokens that begins `skip` tokens into the text.
    pub(crate) fn prompt(&self, skip: usize, len: usize) -> Result<Vec<TokenId>> {
        let found = self.text.get(skip..skip + len).map(<[TokenId]>::to_vec);
        found.ok_or_else(|| {
            let message = format!("a prompt of {len} tokens after {skip}: the text has {} tokens", self.text.len());
            Error::new(ErrorKind::InvalidConfig, message).with_help("ask for a shorter context")
        })
    }

    pub(crate) fn open(&self, runtime: &Runtime, threads: Threads) -> Result<OnnxSource> {
        let options = OnnxOptions { threads: threads.count, spin: threads.spin, ..OnnxOptions::default() };
        OnnxSource::open(runtime, &self.folder, &options)
    }

    /// How the product itself opens this model, alone or three times: read off sources that it opened.
    pub(crate) fn plan(
        &self,
        runtime: &Runtime,
        roles: &[&str],
        strategy: &str,
    ) -> Result<(Vec<Threads>, Concurrency)> {
        let source = |limit| {
            let mut source = SourceConfig::new(self.folder.root());
            // Sources of one model share a session unless something about the model differs.
            source.context_length = Some(limit);
            source
        };
        let sources: BTreeMap<_, _> =
            roles.iter().enumerate().map(|(i, r)| ((*r).to_owned(), source(2048 - i))).collect();
        let strategy = StrategyConfig { id: Some(strategy.to_owned()), ..StrategyConfig::default() };
        let pipeline = Config::new(sources, strategy).open(runtime, 0, &PluginSettings::default())?;
        let threads = pipeline.models().iter().map(|m| Threads { count: m.threads, spin: m.spin }).collect();
        Ok((threads, pipeline.thread_plan().concurrency()))
    }
}

//! Steer a large language model that was never fine-tuned with small ones that were, while it decodes, on ONNX Runtime.
//!
//! At every token logitfuse runs several models, fuses their next-token distributions, samples from the result, and feeds the
//! token back to all of them: `fused = base + α · (expert − anti)`, with α fixed (proxy tuning), or solved at every token so
//! that the fused model moves as far from the base as the expert moved from its own (dynamic logits fusion).
//!
//! # Fuse three models
//!
//! ```no_run
//! use logitfuse::{Pipeline, json};
//!
//! let pipeline = Pipeline::builder()
//!     .model("base", "models/large")
//!     .model("expert", "models/small-tuned")
//!     .model("anti", "models/small")
//!     .strategy("dynamic-kl", json!({}))
//!     .build()?;
//! println!("{}", pipeline.generate("Why is the sky blue?")?.text);
//! # Ok::<(), logitfuse::Error>(())
//! ```
//!
//! # From here
//!
//! | | |
//! |---|---|
//! | [`Pipeline`] | opened models with a strategy: text in, text out; [`stream`](Pipeline::stream), [`score`](Pipeline::score) |
//! | [`FusionStrategy`], [`Memoryless`] | a rule of your own, see the example `custom_strategy` |
//! | [`LogitsProcessor`] | what changes the fused row before a token is sampled |
//! | [`Request`] | one text: limits, sampling, processors, traces, another fusion over the same models |
//! | [`Decoder`], [`SourcePool`] | the decode loop itself, for any [`LogitSource`] |
//!
//! # Features
//!
//! `onnx` (default): models in ONNX Runtime, which is looked for on the machine (`pip install onnxruntime` is enough).
//! `plugins`: strategies from shared libraries. `eval`: experiments in TOML, tasks, metrics, resumable runs. `report`: a run
//! as a page and figures.

#![deny(missing_docs)]

pub use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, LogitsProcessor, Memoryless,
    ProcessorContext, ProcessorFactory, Result, RoleRow, RoleSpec, SamplingRow, SessionInfo, SharedVocabulary,
    StrategyInfo, TokenId,
};
pub use logitfuse_engine::{
    Cancel, Decoder, Event, FinishReason, Fusion, Generation, Request, Role, RoleReport, Sampling, Score, ScoreRequest,
    SourcePool, TokenReport, TokenScore,
};
#[cfg(feature = "onnx")]
pub use logitfuse_pipeline::PipelineBuilder;
pub use logitfuse_pipeline::{
    Pipeline, PipelineOptions, Prompt, RunConfig, Sample, SourceConfig, SpeculationConfig, StrategyConfig, TokenStream,
    built_in, strategy,
};
/// A strategy's parameters, or a prompt's fields, as JSON.
pub use serde_json::json;

/// Traits, rows, the shared vocabulary, and the kernels that compare distributions.
pub use logitfuse_core as core;
/// The decode loop.
pub use logitfuse_engine as engine;
/// From model folders to text.
pub use logitfuse_pipeline as pipeline;
/// Tokenizers, chat templates, streamed text.
pub use logitfuse_text as text;

/// TOML to typed configuration.
#[cfg(feature = "eval")]
pub use logitfuse_config as config;
/// Tasks and runs.
#[cfg(feature = "eval")]
pub use logitfuse_eval as eval;
/// Models in ONNX Runtime.
#[cfg(feature = "onnx")]
pub use logitfuse_onnx as onnx;
/// Strategies from shared libraries.
#[cfg(feature = "plugins")]
pub use logitfuse_plugin_host as plugins;
/// A run as a page and figures.
#[cfg(feature = "report")]
pub use logitfuse_report as report;
/// What a run leaves behind.
#[cfg(any(feature = "eval", feature = "report"))]
pub use logitfuse_rundir as rundir;

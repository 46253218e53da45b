//! From model folders to text: opens models, binds a strategy to them, writes prompts, decodes.
//!
//! # Why this crate exists
//!
//! Backends, strategies, plugins, tokenizers and the decode loop know nothing of each other. This is the one crate that joins
//! them; front ends, evaluation and tapes build on it. Programs use it through the façade `logitfuse`.
//!
//! [`Pipeline`] is what is opened; [`PipelineOptions`] are the plain values it is opened from, which a builder, a TOML or a
//! language binding fills; [`profile`] measures what decoding costs on a machine.
//!
//! # Features
//!
//! `onnx` (default): models in ONNX Runtime. `plugins`: strategies from shared libraries.

#![deny(missing_docs)]

#[cfg(feature = "onnx")]
mod builder;
#[cfg(feature = "onnx")]
mod calibration;
mod changed;
mod chat;
mod chunk_consistency;
mod costs;
mod demonstrations;
mod effect;
#[cfg(feature = "onnx")]
mod files;
mod from_sources;
#[cfg(feature = "onnx")]
mod models;
#[cfg(feature = "onnx")]
mod open;
mod options;
mod parameters;
mod parts;
mod pipeline;
#[cfg(feature = "plugins")]
mod plugins;
#[cfg(feature = "onnx")]
mod preview;
pub mod profile;
mod prompt_formatter;
mod samples;
mod service;
mod speculation;
mod step_profiler;
mod strategies;
mod thread_plan;

#[cfg(feature = "onnx")]
pub use builder::PipelineBuilder;
pub use chunk_consistency::ChunkConsistency;
#[cfg(feature = "onnx")]
pub use files::FusionFiles;
#[cfg(feature = "onnx")]
pub use logitfuse_onnx::{LoadReport, ModelFolder, Runtime};
/// Model files by their inputs and outputs, for what turns them into other files.
#[cfg(feature = "onnx")]
pub mod model_files {
    pub use logitfuse_onnx::{CacheTensor, Dim, Element, LogitRows, OnnxOptions, OnnxSource, Signature, TensorInfo};
}
#[cfg(feature = "plugins")]
pub use logitfuse_plugin_host::{PluginFile, SearchPath, is_plugin_failure};
pub use logitfuse_text::{did_you_mean, nearest, read_text_file};
pub use options::{Names, PipelineOptions, PluginConfig, RunConfig, SourceConfig, StrategyConfig};
pub use parameters::{Choice, Parameter, parameters};
pub use pipeline::{Pipeline, sampling};
#[cfg(feature = "plugins")]
pub use plugins::{PluginRecord, PluginSettings, PluginUse};
#[cfg(feature = "onnx")]
pub use preview::{ModelFolders, Preview};
pub use prompt_formatter::PromptFormatter;
pub use samples::{Sample, read_jsonl};
pub use service::{Prompt, TokenStream};
pub use speculation::{DraftTokens, SpeculationConfig};
pub use strategies::{assign, built_in, configured, strategy, wrapped, wrappers};
pub use thread_plan::ThreadPlan;

// A pipeline is used from several threads, and a stream goes to where it is read.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Pipeline>();
    sent::<TokenStream>();
};

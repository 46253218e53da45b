//! TOML to typed configuration: layers, variants, sweeps, tasks, and the place of everything that is wrong.
//!
//! # Why this crate exists
//!
//! An experiment is a file. This crate knows its keys and where each value was written, whichever layer it came from, so that
//! an error that is found much later, by a strategy or a model folder, still underlines the line that caused it. What comes
//! out are plain values: [`PipelineOptions`](logitfuse_pipeline::PipelineOptions) for every pair of variant and task.
//!
//! # Example
//!
//! ```
//! use logitfuse_config::Config;
//!
//! let config = Config::from_toml(
//!     r#"
//!     schema = 1
//!     [run]
//!     prompts = ["What is the capital of France?"]
//!     max_new_tokens = 32
//!     [sources.base]
//!     model = "models/large"
//!     [sources.expert]
//!     model = "models/small-tuned"
//!     [sources.anti]
//!     model = "models/small"
//!     [strategy]
//!     use = "static-proxy"
//!     params = { alpha = 1.0 }
//!     "#,
//! )?;
//! assert_eq!(config.samples()?.len(), 1);
//!
//! let typo = Config::from_toml("schema = 1\n[sources.base]\nmodle = 'x'\n").unwrap_err();
//! assert!(typo.to_string().starts_with("3:1: unknown key `modle` in [sources.base]"), "{typo}");
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! Nothing that changes a result comes from the environment: a file is the experiment. Threads and the place of ONNX
//! Runtime are the machine's and are passed in beside it.

#![deny(missing_docs)]

mod check;
mod config;
mod diagnostic;
mod document;
mod example;
mod experiment;
mod extends;
mod idle;
mod names;
mod origin;
mod overrides;
mod paths;
mod place;
mod render;
mod schema;
mod served;
mod suite;
mod sweep;
mod task;
mod variants;

pub use config::Config;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use example::example;
pub use experiment::{Cell, Experiment};
pub use logitfuse_pipeline::{
    DraftTokens, Names, PluginConfig, RunConfig, SourceConfig, SpeculationConfig, StrategyConfig,
};
pub use origin::ConfigOrigin;
pub use overrides::Overrides;
pub use place::Place;
pub use schema::{json_schema, json_schema_with};
pub use served::ModelConfig;
pub use suite::{ExpectConfig, GapConfig, GapMetric};
pub use task::{Choices, FewshotConfig, MetricConfig, OutputType, Sampler, TaskConfig, Tokenization};

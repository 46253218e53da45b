//! Experiments: from a TOML to a wired engine.
//!
//! # Why this crate exists
//!
//! A front end (the command line today, a server or a language binding tomorrow) should not know how a model folder
//! becomes a source, how a prompt is written for each role, or which strategy an id names. This crate is the one place
//! where backends, strategies and text meet the engine, and the one place that knows the keys of the configuration.
//!
//! # Example
//!
//! ```
//! use logitfuse_experiment::Config;
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

mod calibration;
mod config;
mod costs;
mod demonstrations;
mod example;
mod kit;
mod load;
mod parameters;
mod plan;
mod plugins;
mod preflight;
mod prompter;
mod rounds;
pub mod run;
mod speculation;
mod strategies;
pub mod survey;
pub mod tape;
pub mod task;
mod wire;

pub use config::{
    Config, Names, RunConfig, SourceConfig, StrategyConfig,
    diagnostic::{Diagnostic, Diagnostics},
    experiment::{Cell, Experiment},
    nearest::nearest,
    origin::ConfigOrigin,
    overrides::Overrides,
    place::Place,
    schema::{json_schema, json_schema_with},
    suite::{ExpectConfig, GapConfig, GapMetric},
    task::{Choices, FewshotConfig, MetricConfig, OutputType, Sampler, TaskConfig},
};
pub use example::example;
pub use load::Sample;
pub use parameters::{Choice, Parameter, parameters};
pub use plan::Plan;
pub use plugins::{PluginConfig, PluginRecord, PluginSettings, PluginUse};
pub use preflight::preflight;
pub use prompter::Prompter;
pub use speculation::{DraftTokens, SpeculationConfig};
pub use strategies::{built_in, configured, strategy, wrappers};
pub use task::{Doc, Outcome, Task, TaskRequest};
pub use wire::Wired;

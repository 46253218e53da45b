//! The decode loop: asks every source for a row, has the strategy fuse them, samples, commits.
//!
//! # Why this crate exists
//!
//! Ordinary engines own one model and call a hook on its logits. Fusion needs several models, each with its own prompt,
//! template and key/value cache, to advance in step on the *same* generated tokens. That is the [`Engine`]: it gives
//! every source an owner thread, runs them side by side, batches roles that share a model, and keeps the order of
//! operations that makes fused numbers mean something: mask → fuse on temperature-1 rows → penalties → temperature →
//! truncation → sample.
//!
//! It does no I/O and knows neither ONNX Runtime nor any strategy. What goes in are [`LogitSource`]s and a
//! [`FusionStrategy`]; what comes out are [`Event`]s and [`Generation`]s.
//!
//! # Example
//!
//! Two synthetic "models" (no ONNX needed) steered by proxy tuning:
//!
//! ```
//! use std::sync::Arc;
//! use logitfuse_core::SharedVocabulary;
//! use logitfuse_engine::{Engine, Request, Role};
//! use logitfuse_replay::SyntheticSource;
//! use logitfuse_static_proxy::{Params, StaticProxy};
//!
//! let mut engine = Engine::builder(Arc::new(StaticProxy::new(Params { alpha: 1.0, ..Params::default() })?))
//!     .source(Box::new(SyntheticSource::new("large", 64, 1)))
//!     .source(Box::new(SyntheticSource::new("expert", 64, 2)))
//!     .source(Box::new(SyntheticSource::new("small", 64, 3)))
//!     .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
//!     .vocabulary(SharedVocabulary::new(64, []))
//!     .build()?;
//!
//! let request = Request::new([vec![5, 6, 7], vec![5, 6, 7], vec![5, 6, 7]]).max_new_tokens(8);
//! let generation = engine.generate_one(&request)?;
//! assert_eq!(generation.tokens.len(), 8);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Sources that rest
//!
//! A strategy may name a leading role ([`StrategyInfo::lead_role`](logitfuse_core::StrategyInfo::lead)). Then that source
//! runs first, and where its row settles the step, the others are not run at all. A source that rested is fed what it
//! missed, several tokens in one call, as soon as a step needs it; its running log-probability is exact then.
//!
//! # What a strategy is told of a prompt
//!
//! Its end always, see [`FusionState::begin`](logitfuse_core::FusionState::begin). A strategy that asks for more
//! ([`StrategyInfo::prompt`](logitfuse_core::StrategyInfo::prompt)) has every prompt run for its rows, 64 positions at a
//! time, and no beginning that prompts share is reused: their logits are what is asked for. One that wants to know its sources
//! before it starts is given unlabelled prompts by [`Engine::calibrate`].
//!
//! # Determinism
//!
//! The same request gives the same tokens whatever runs beside it: a sequence's random stream depends on its own seed
//! alone, rows are fused one sequence at a time in a fixed order, and concurrency only overlaps sources, never splits a
//! sum.
//!
//! [`LogitSource`]: logitfuse_core::LogitSource
//! [`FusionStrategy`]: logitfuse_core::FusionStrategy

#![deny(missing_docs)]

mod base_only;
mod build;
mod calibrate;
mod cancel;
mod emit;
mod generate;
mod pace;
mod prefixes;
mod prompt;
mod report;
mod request;
mod running;
mod sampling;
mod score;
mod scoring;
mod sequence;
mod speculate;
mod step;
mod worker;

pub use base_only::BaseOnly;
pub use build::{Concurrency, Engine, EngineBuilder, Role};
pub use calibrate::CalibrationPrompts;
pub use cancel::Cancel;
pub use report::{Event, FinishReason, Generation, RoleReport, Timings, TokenReport};
pub use request::{DetokenizeOptions, Request};
pub use sampling::{Candidates, Sampler, Sampling};
pub use score::{Score, ScoreRequest, Scored, TokenScore};
pub use speculate::{Draft, DraftCosts, DraftLength, Drafted, Speculation};

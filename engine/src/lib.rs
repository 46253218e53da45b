//! The decode loop: asks every source for a row, has the strategy fuse them, samples, commits.
//!
//! # Why this crate exists
//!
//! Ordinary engines own one model and call a hook on its logits. Fusion needs several models, each with its own prompt,
//! template and key/value cache, to advance in step on the *same* generated tokens, and it keeps an order of operations that
//! makes fused numbers mean something: mask → fuse on temperature-1 rows → logits processors → sample → commit.
//!
//! | | |
//! |---|---|
//! | [`SourcePool`] | opened sources with their threads; runs one pass over several of them, side by side or in turn |
//! | [`Fusion`] | a strategy with the sources that play its roles, and how tokens are drafted |
//! | [`Decoder`] | runs requests, of one fusion or many, in one continuous batch |
//! | [`Request`], [`ScoreRequest`] | a text to generate or to score, with its fusion, sampling, [`LogitsProcessor`]s and limits |
//! | [`request_queue`] | submits and cancels requests from any thread |
//!
//! The crate does no I/O and knows neither ONNX Runtime nor a tokenizer nor any strategy.
//!
//! # Example
//!
//! Two synthetic "models" (no ONNX needed) steered by proxy tuning:
//!
//! ```
//! use std::sync::Arc;
//! use logitfuse_core::SharedVocabulary;
//! use logitfuse_engine::{Decoder, Request, Role};
//! use logitfuse_replay::SyntheticSource;
//! use logitfuse_static_proxy::{Params, StaticProxy};
//!
//! let mut decoder = Decoder::builder(Arc::new(StaticProxy::new(Params { alpha: 1.0, ..Params::default() })?))
//!     .source(Box::new(SyntheticSource::new("large", 64, 1)))
//!     .source(Box::new(SyntheticSource::new("expert", 64, 2)))
//!     .source(Box::new(SyntheticSource::new("small", 64, 3)))
//!     .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
//!     .vocabulary(SharedVocabulary::new(64, []))
//!     .build()?;
//!
//! let request = Request::new([vec![5, 6, 7], vec![5, 6, 7], vec![5, 6, 7]]).max_new_tokens(8);
//! let generation = decoder.generate_one(&request)?;
//! assert_eq!(generation.tokens.len(), 8);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Early exit
//!
//! A strategy may name a [lead role](logitfuse_core::StrategyInfo::lead_role). Then that role's source runs first, and
//! where its row decides the step, the others stay idle. An idle source is fed what it missed, several tokens in one pass,
//! as soon as a step needs it; its running log-probability is exact then.
//!
//! # What a strategy is told of a prompt
//!
//! Its end always, see [`FusionState::begin`](logitfuse_core::FusionState::begin). A strategy that asks for more
//! ([`StrategyInfo::prompt`](logitfuse_core::StrategyInfo::prompt)) has every prompt run for its rows, 64 positions at a
//! time, and no beginning that prompts share is reused: their logits are what is asked for. One that wants to know its
//! sources before it starts is given unlabelled prompts by [`Decoder::calibrated`].
//!
//! # Failures
//!
//! A request fails alone: where its prompt does not fit, or its strategy or a logits processor returns an error. A source
//! that fails ends the requests that used it in that pass. Others go on; an [`Event::Failed`] tells.
//!
//! # Determinism
//!
//! The same request gives the same tokens whatever runs beside it: a sequence's random stream depends on its own seed
//! alone, rows are fused one sequence at a time in a fixed order, and concurrency only overlaps sources, never splits a
//! sum.

#![deny(missing_docs)]

mod active;
mod base_only;
mod calibration;
mod cancel;
mod decoder;
mod draft;
mod fusion;
mod observing;
mod pool;
mod prefix_cache;
mod queue;
mod report;
mod request;
mod sampling;
mod score;
mod sequence;

pub use base_only::BaseOnly;
pub use calibration::CalibrationPrompts;
pub use cancel::Cancel;
pub use decoder::{Decoder, DecoderBuilder};
pub use draft::{Draft, DraftCosts, DraftLength, Drafted, Speculation};
pub use fusion::{Fusion, Role};
pub use logitfuse_core::{Candidates, LogitsProcessor, ProcessorContext, ProcessorFactory, SamplingRow};
pub use observing::Observing;
pub use pool::{Concurrency, SourcePool, SourcePoolBuilder};
pub use queue::{EventSink, RequestQueue, Submitter, request_queue};
pub use report::{Event, FinishReason, Generation, ObservedRows, RoleReport, Timings, TokenReport};
pub use request::Request;
pub use sampling::{LogitBias, MinP, Penalties, Sampler, Sampling, Temperature, TopK, TopP};
pub use score::{Score, ScoreRequest, Scored, TokenScore};

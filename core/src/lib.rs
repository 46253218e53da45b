//! What every part of logitfuse agrees on: sources of logits, fusion strategies, rows, the vocabulary they share, and
//! the numerics that compare distributions.
//!
//! # Why this crate exists
//!
//! Fusing the next-token distributions of several language models needs three things that know nothing of each other:
//! something that *yields* logits (ONNX Runtime, a recording, a script), something that *combines* them (proxy tuning,
//! context-aware decoding, a plugin), and a loop that samples and commits. They meet here, in two traits,
//! [`LogitSource`] and [`FusionStrategy`], and nowhere else. This crate does no I/O and knows no backend.
//!
//! # A strategy in twenty lines
//!
//! The mean of two models' logits, which is the (unnormalised) geometric mean of their distributions:
//!
//! ```
//! use logitfuse_core::{
//!     FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, Result, RoleSpec, SessionInfo, StrategyInfo,
//! };
//!
//! struct Mean(StrategyInfo);
//! #[derive(Clone)]
//! struct MeanState;
//!
//! impl FusionStrategy for Mean {
//!     fn info(&self) -> &StrategyInfo {
//!         &self.0
//!     }
//!     fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
//!         Ok(Box::new(MeanState))
//!     }
//! }
//!
//! impl Memoryless for MeanState {
//!     fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
//!         let (a, b) = (step.row(0).logits(), step.row(1).logits());
//!         for ((out, a), b) in out.logits.iter_mut().zip(a).zip(b) {
//!             *out = 0.5 * (a + b);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let strategy = Mean(StrategyInfo::new("mean", [RoleSpec::one("base"), RoleSpec::one("expert")]));
//! assert_eq!(strategy.info().roles[1].name, "expert");
//! ```
//!
//! # Units and conventions
//!
//! Logits and log-probabilities are natural logarithms; divergences and entropies are in nats. A [`Rows`] is
//! `[rows, vocab]`, f32, row-major. Sums over the vocabulary run in a fixed order with f64 accumulators, and the kernels
//! in [`numerics`] give the same bits on every instruction set.

#![deny(missing_docs)]

mod calibration;
mod detokenizer;
mod error;
pub mod fusion_graph;
mod interrupt;
mod law;
mod memoryless;
pub mod numerics;
pub mod params;
mod processor;
mod prompt;
mod proxy_rows;
mod python_json;
mod round_costs;
mod rows;
mod source;
mod strategy;
mod vocabulary;

pub use calibration::{CalibrationRows, CalibrationSpec};
pub use detokenizer::{Detokenize, Detokenizer, TextDelta};
pub use error::{Error, ErrorKind, Result, ResultExt};
pub use fusion_graph::FusionGraph;
pub use interrupt::Interrupt;
pub use law::Law;
pub use memoryless::Memoryless;
pub use processor::{Candidates, LogitsProcessor, ProcessorContext, ProcessorFactory, SamplingRow};
pub use prompt::{PromptReading, PromptScore};
pub use proxy_rows::ProxyRows;
pub use python_json::python_json;
pub use round_costs::{DraftStats, RoundCosts};
pub use rows::Rows;
pub use source::{LogitSource, SequenceId, SourceInfo, Step};
pub use strategy::{
    Arity, FusedRow, FusionState, FusionStep, FusionStrategy, RoleBinding, RoleRow, RoleSpec, SessionInfo,
    StrategyInfo, TraceColumn,
};
pub use vocabulary::SharedVocabulary;

/// A token's id in the vocabulary that all sources of an engine share.
pub type TokenId = u32;

//! What every fusion strategy and every logit source must obey, as functions that a test calls.
//!
//! # Why
//!
//! An engine speculates, searches, batches and replays. It can do so only because `fuse` may be repeated, `rollback`
//! undoes `commit`, a fork is a copy, and a row depends on its own sequence alone. These promises are easy to make and
//! easy to break, so they are written down here once, executable, together with generators of rows on which they tend
//! to break: masked ids, ties, extreme scales, one-id vocabularies. Our own strategies and sources are tested with
//! them, and so should yours be.
//!
//! # Example
//!
//! A strategy's whole test suite can be this short:
//!
//! ```
//! # use logitfuse_core::*;
//! # struct Mean(StrategyInfo);
//! # struct MeanState;
//! # impl FusionStrategy for Mean {
//! #     fn info(&self) -> &StrategyInfo { &self.0 }
//! #     fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> { Ok(Box::new(MeanState)) }
//! # }
//! # impl FusionState for MeanState {
//! #     fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
//! #         let (a, b) = (step.row(0).logits(), step.row(1).logits());
//! #         for ((out, a), b) in out.logits.iter_mut().zip(a).zip(b) { *out = 0.5 * a + 0.5 * b; }
//! #         Ok(())
//! #     }
//! #     fn commit(&mut self, _: &[TokenId]) -> Result<()> { Ok(()) }
//! #     fn rollback(&mut self, _: usize) -> Result<()> { Ok(()) }
//! #     fn fork(&self) -> Result<Box<dyn FusionState>> { Ok(Box::new(MeanState)) }
//! # }
//! # let mean = || Mean(StrategyInfo::new("mean", [RoleSpec::one("base"), RoleSpec::one("expert")])
//! #     .with_laws([Law::ShiftInvariant, Law::VocabEquivariant, Law::MaskPreserving]));
//! use logitfuse_conformance::{generators, strategy_laws};
//! use proptest::prelude::*;
//!
//! proptest!(|(case in generators::case(&[("base", 1), ("expert", 1)]))| {
//!     strategy_laws::contract(&mean(), &case)?;
//!     strategy_laws::claimed(&mean(), &case)?;
//! });
//! ```
//!
//! # Reference
//!
//! * [`generators`]: rows shaped like a language model's, and whole [`Case`]s of them.
//! * [`strategy_laws`]: [`contract`](strategy_laws::contract) holds for every strategy,
//!   [`claimed`](strategy_laws::claimed) for those that claim it in `StrategyInfo::laws`; each law is also a function.
//!   [`calibration_is_repeatable`](strategy_laws::calibration_is_repeatable) is for strategies that take calibration prompts.
//! * [`lowered`]: computes a strategy that was written as a graph.
//! * [`oracles`]: two strategies that must agree where one rule contains the other, on one case.
//! * [`source_laws`]: what a `LogitSource` must obey, with a tolerance for kernels that round differently by batch.
//!
//! A broken law is a [`Violation`], which `?` turns into a failed property test.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod case;
pub mod generators;
pub mod lowered;
pub mod oracles;
pub mod source_laws;
pub mod strategy_laws;
mod violation;

pub use case::Case;
pub use violation::Violation;

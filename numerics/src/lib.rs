//! The strength of a fusion: how far to tilt a base distribution along a direction, solved at every token.
//!
//! A strategy that fuses `base + alpha · direction` at a strength `alpha` of its own for every token asks two questions.
//! [`Targets`] measures how far an expert is from its anti-expert; [`TiltFamily`] evaluates any strength, and its solvers find
//! the one that minimises an [`Objective`] or spends a budget. Either takes one pass over the vocabulary; everything after
//! works on a summary of a few hundred numbers. [`Grid`] is the published search over the whole vocabulary.
//!
//! ```
//! use logitfuse_core::RoleRow;
//! use logitfuse_core::numerics::log_sum_exp;
//! use logitfuse_numerics::{Bounds, Objective, Targets, TiltFamily, exponential_tilt_in_place};
//!
//! let row = |logits| RoleRow::new(logits, log_sum_exp(logits), 0.0);
//! let (base, expert, anti) = (row(&[2.0, 0.0]), row(&[0.0, 1.0]), row(&[1.0, 0.0]));
//!
//! let mut direction = [0.0; 2];
//! let targets = Targets::with_direction(&expert, &anti, &mut direction);
//! let mut family = TiltFamily::new(4.0);
//! family.summarise(base.logits(), base.log_normaliser, &direction);
//! let alpha = family.solve(Objective::BothDivergences, &targets, Bounds { low: 0.0, high: 4.0 }).alpha;
//! assert!((1.0..1.5).contains(&alpha));
//!
//! let mut fused = direction;
//! exponential_tilt_in_place(base.logits(), &mut fused, alpha);
//! ```
//!
//! # Conventions
//!
//! Those of [`logitfuse_core::numerics`], on whose kernels these stand: rows hold finite values or `-inf`; logarithms are
//! natural and divergences in nats; rows of one call have equal lengths, or it panics; every instruction set gives the same
//! bits.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![expect(clippy::float_cmp, reason = "a maximum is one of the entries, and promises about bits are about equality")]
#![expect(clippy::inline_always, reason = "only what is inlined into the dispatched function uses the wide registers")]

mod bins;
#[cfg(test)]
mod bits;
mod dispatch;
mod family;
mod geometric;
mod grid;
pub mod lowered;
mod objective;
mod solve;
mod summary;
mod support_points;
mod tail_moments;
mod targets;
mod tilt;

pub use family::{TiltFamily, TiltPoint};
pub use grid::Grid;
pub use objective::Objective;
pub use solve::{Bounds, Solution};
pub use targets::Targets;
pub use tilt::{TiltMoments, exponential_tilt, exponential_tilt_in_place, tilt_moments};

/// The largest difference of log-probabilities, in nats, that the solver tells from larger ones. Its square still is an
/// f32, and no sum over a vocabulary overflows.
const LIMIT: f32 = 1_048_576.0;

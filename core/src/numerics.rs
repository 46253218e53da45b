//! Kernels over rows of logits: normalisers, divergences, differences, ranks. What solves for the strength of a fusion is in
//! the crate `logitfuse-numerics`.
//!
//! # Why not a loop over `exp`
//!
//! A row has 32 000 to 262 000 entries and a strategy reads several rows for every token, so what looks like bookkeeping
//! becomes a visible share of the step. The kernels here run at 16 entries an instruction where the machine can, and
//! keep three promises that a plain loop breaks one by one:
//!
//! * **The same bits everywhere.** Entries are always dealt out to sixteen lanes, every lane sums its entries in the
//!   order of their ids, and lanes are added in a fixed order. No multiply-add is fused. SSE2, AVX2, AVX-512 and NEON
//!   therefore give identical results, and so does any number of threads: a kernel is one thread's work. (Only the one
//!   f64 logarithm at the end of a normaliser is the platform's own.)
//! * **f64 where it matters.** Entries are f32; a lane sums 32 of them in f32 and hands the sum to an f64 accumulator.
//!   Normalisers are f64 and are subtracted in two parts, so that logits of size 1e4 lose nothing.
//! * **Masked ids are ordinary.** An entry of `-inf` has probability zero: it adds nothing to a sum, is never ranked,
//!   and a difference of two masked entries is not NaN.
//!
//! ```
//! use logitfuse_core::numerics::{argmax, kl_divergence, log_sum_exp, top_k};
//!
//! let p = [2.0, 0.0, f32::NEG_INFINITY, 1.0];
//! let q = [1.0, 0.0, 3.0, 2.0];
//! let (zp, zq) = (log_sum_exp(&p), log_sum_exp(&q));
//!
//! assert!((zp - (2f64.exp() + 1.0 + 1f64.exp()).ln()).abs() < 1e-6);
//! assert_eq!(argmax(&p), 0);
//! assert_eq!(top_k(&p, 2), [(0, 2.0), (3, 1.0)]);
//! // Token 2 is possible under q and impossible under p: one divergence is finite, the other is not.
//! assert!(kl_divergence(&p, zp, &q, zq).is_finite());
//! assert_eq!(kl_divergence(&q, zq, &p, zp), f64::INFINITY);
//! ```
//!
//! # Conventions
//!
//! Rows hold finite values or `-inf`, one finite value at least. [`log_sum_exp`] is finite for no other row; [`check_row`]
//! says what is wrong with one.
//! Logarithms are natural, divergences and entropies are in nats. A function that takes a row's `log_normaliser` wants
//! what [`log_sum_exp`] returns for it. Rows of one call have equal lengths; a mismatch panics, because it is a mistake
//! of the caller that no input file can cause. Probabilities below e^-87 count as zero.

#![expect(clippy::float_cmp, reason = "a maximum is one of the entries, and promises about bits are about equality")]
#![expect(clippy::inline_always, reason = "only what is inlined into the dispatched function uses the wide registers")]

#[cfg(test)]
mod bits;
mod check;
mod combine;
mod dispatch;
mod divergence;
pub mod lanes;
mod logarithm;
mod normalise;
mod rank;

pub use check::check_row;
pub use combine::{Contrast, linear_combination, mask_implausible, masked_difference};
pub use divergence::{jensen_shannon, kl_both, kl_divergence};
pub use logarithm::ln;
pub use normalise::{entropy, log_softmax, log_sum_exp, softmax};
pub use rank::{argmax, top_k};

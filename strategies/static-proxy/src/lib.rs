//! Proxy tuning: steers an untuned large model by the difference between a tuned small model and the same small model
//! before tuning.
//!
//! # Why
//!
//! Tuning a large model is expensive, and often its weights may not be touched at all. A small model of the same
//! vocabulary is cheap to tune, and its logits show what the tuning changed: `expert − anti`. Added to the large model's
//! logits, that change is applied where the large model's own knowledge stays. This is the rule of DExperts, proxy
//! tuning and emulated fine-tuning, with a strength `alpha` that is the same at every token:
//!
//! ```text
//! fused = base_weight · base + alpha · Σ weights[t] · (expert[t] − anti[t])
//! ```
//!
//! # Example
//!
//! ```
//! use logitfuse_core::numerics::log_sum_exp;
//! use logitfuse_core::{
//!     SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
//! };
//! use logitfuse_static_proxy::{Params, StaticProxy};
//!
//! let strategy = StaticProxy::new(Params { alpha: 2.0, ..Params::default() })?;
//!
//! let binding = |role: &str| RoleBinding { role: role.into(), source: format!("model of {role}") };
//! let session = SessionInfo::new(["base", "expert", "anti"].map(binding), SharedVocabulary::new(3, []));
//! let mut state = strategy.start(&session)?;
//!
//! let rows = [[3.0, 2.0, 1.0], [0.0, 1.0, 0.0], [0.5, 0.0, 0.0]];
//! let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//! let (mut logits, mut trace) = ([0.0; 3], [f64::NAN; 4]);
//! state.fuse(&FusionStep::new(&rows, &[]), &mut FusedRow { logits: &mut logits, trace: &mut trace })?;
//! assert_eq!(logits, [2.0, 4.0, 1.0]);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Reference
//!
//! | role | sources | meaning |
//! |---|---|---|
//! | `base` | one | the large model |
//! | `expert` | one or more | tuned small models |
//! | `anti` | one, or one for each expert in the same order | the small model before tuning |
//!
//! | trace | unit | meaning |
//! |---|---|---|
//! | `alpha` | 1 | the strength used |
//! | `kl_fused_base` | nats | KL(fused‖base): how far fusion went |
//! | `kl_base_fused` | nats | KL(base‖fused); `+inf` when a head filter masks something |
//! | `kl_expert_anti` | nats | mean over experts of KL(expert‖anti): how much tuning changed |
//!
//! Parameters are the fields of [`Params`]. The strategy keeps nothing between steps.
//!
//! Two head filters keep a strong contrast from promoting what the base finds improbable: `plausibility` keeps what is not
//! much less probable than the base's most probable token, `top_p` keeps the base's nucleus. With both, an id must pass both.
//!
//! Cost: one pass over the rows to fuse. `top_p` adds four passes over the base's row and no sort; neither allocates. The
//! trace, where it is asked for, adds a normaliser and two passes for divergences.
//!
//! Ids masked in the base stay masked. Where an expert or its anti lacks an id, their log-probabilities count as equal
//! there, so the base decides. With `alpha` 0, and wherever expert and anti agree bit for bit, the result is the base bit
//! for bit (`base_weight` being 1), and `alpha` may have any finite sign and size.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod nucleus;
mod params;
mod strategy;

pub use params::Params;
pub use strategy::StaticProxy;

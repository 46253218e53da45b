//! Combinations of several models: a mean of their distributions, a contrast with an amateur, and a three-way mixture.
//!
//! # Why
//!
//! Models of one vocabulary err in different places. A **mean** keeps what several of them find probable (ensembling, products of
//! experts, mixtures). A **contrast** with a much smaller model removes what even that one finds probable: repetition, truisms
//! (contrastive decoding). And where a small model that was tuned knows *more* than the large one, as in a language that
//! the large one hardly saw, it should carry most of the weight and the large one only help (`TriMix`).
//!
//! | strategy | rule |
//! |---|---|
//! | [`Ensemble`] (`ensemble`) | `fused = (Σ w · p^power)^(1/power)`; `power` 1 is the arithmetic mean, → 0 the geometric |
//! | [`Contrastive`] (`contrastive`) | `fused = (1 + beta) · base − beta · anti / amateur_temperature`, among what the base finds plausible |
//! | [`TriMix`] (`trimix`) | `fused = alpha · base + beta · expert + (1 − alpha − beta) · anti` |
//!
//! # Example
//!
//! Two models are sure of different tokens, and both find token 2 possible. A geometric mean is a conjunction, so the
//! compromise wins; an arithmetic mean is a disjunction, so the surer model wins:
//!
//! ```
//! use logitfuse_core::numerics::{argmax, log_sum_exp};
//! use logitfuse_core::{
//!     SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
//! };
//! use logitfuse_ensemble::{Ensemble, EnsembleParams, Mean};
//!
//! let rows = [[6.0, -4.0, 4.0], [-4.0, 6.0, 4.5]];
//! let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//! let binding = |role: &str| RoleBinding { role: role.into(), source: format!("model of {role}") };
//! let session =
//!     SessionInfo::new(["base", "expert"].map(binding), SharedVocabulary::new(3, []));
//!
//! let top_token = |mean| {
//!     let mut state = Ensemble::new(EnsembleParams { mean, ..EnsembleParams::default() })?.start(&session)?;
//!     let mut logits = [0.0; 3];
//!     state.fuse(&FusionStep::new(&rows, &[]), &mut FusedRow { logits: &mut logits, trace: &mut [] })?;
//!     Ok::<_, logitfuse_core::Error>(argmax(&logits))
//! };
//! assert_eq!(top_token(Mean::Geometric)?, 2);
//! assert_eq!(top_token(Mean::Arithmetic)?, 0);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Reference
//!
//! | role | `ensemble` | `contrastive` | `trimix` |
//! |---|---|---|---|
//! | `base` | one model | the model that is decoded | the large model |
//! | `expert` | one or more other models | – | the small model that was tuned |
//! | `anti` | – | the amateur | the small model before tuning |
//!
//! | trace | unit | of | meaning |
//! |---|---|---|---|
//! | `kl_fused_base` | nats | all | KL(fused‖base): how far fusion went |
//! | `kl_base_fused` | nats | all | KL(base‖fused); `+inf` when `plausibility` masks something |
//! | `disagreement` | nats | `ensemble` | weighted mean of KL(member‖fused) |
//! | `kl_base_anti` | nats | `contrastive` | KL(base‖anti): the size of the contrast |
//! | `plausible` | 1 | `contrastive` | ids that stay possible |
//! | `kl_expert_anti` | nats | `trimix` | KL(expert‖anti): how much tuning changed |
//! | `alpha`, `beta` | 1 | `trimix`, `calibration = "prompt"` | the weights that the prompt decided |
//!
//! Parameters are the fields of [`EnsembleParams`], [`ContrastiveParams`] and [`TriMixParams`]. Nothing is kept between
//! steps but those weights. Ids masked in the base stay masked; where only another model lacks an id, its log-probability
//! counts as equal to that of the model that it is compared with, and the base decides. So a `weight` of 1 for the
//! base, `beta` 0 without plausibility, or `alpha` 1 with `beta` 0 is the base, bit for bit.
//!
//! Cost: `contrastive`, `trimix` and the geometric mean are one pass over the rows. The other means add one exponential per
//! entry and member and one logarithm per entry. Nothing is allocated.
//!
//! For `trimix`, [`fit_weights`] finds the weights under which a prompt itself is most probable. With `calibration = "prompt"`
//! that is done for every text: all three roles read the same prompt, every position of which costs its logits and 36
//! mixtures, and the trace names the weights.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod contrastive;
mod ensemble;
mod fit;
mod mean;
mod roles;
mod trimix;

pub use contrastive::{Contrastive, ContrastiveParams};
pub use ensemble::{Ensemble, EnsembleParams, Mean};
pub use fit::{FittedWeights, PromptRow, WEIGHTS, fit_weights};
pub use trimix::{TriMix, TriMixCalibration, TriMixParams};

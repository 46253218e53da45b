//! Task arithmetic on logits: several small models, each tuned for one task, are added up, and the sum steers a large one.
//!
//! # Why
//!
//! With one expert for arithmetic and one for dialogue, both skills are wanted at once, without training a third. What tuning
//! changed is a vector, `expert − anti`, and such vectors can be added, scaled and, with a negative factor, taken away.
//! Added up in logit space they need no access to weights and no common architecture, only a common vocabulary:
//!
//! ```text
//! merged = anti + Σ lambda[t] · (expert[t] − anti[t])
//! fused  = base + alpha · (merged − anti)
//! ```
//!
//! The strength `alpha` is fixed, or solved at every token by dynamic logit fusion with the merged model for its expert.
//!
//! # Example
//!
//! Two tasks, and the first counts twice as much:
//!
//! ```
//! use logitfuse_core::numerics::log_sum_exp;
//! use logitfuse_core::{
//!     SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
//! };
//! use logitfuse_task_arithmetic::{Params, TaskArithmetic};
//!
//! let strategy = TaskArithmetic::new(Params { lambda: Some(vec![1.0, 0.5]), ..Params::default() })?;
//!
//! let binding = |role: &str| RoleBinding { role: role.into(), source: format!("model of {role}") };
//! let session = SessionInfo::new(["base", "expert", "expert", "anti"].map(binding), SharedVocabulary::new(3, []));
//! let mut state = strategy.start(&session)?;
//!
//! let rows = [[3.0, 2.0, 1.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]];
//! let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//! let (mut logits, mut trace) = ([0.0; 3], [f64::NAN; 7]);
//! state.fuse(&FusionStep::new(&rows, &[]), &mut FusedRow { logits: &mut logits, trace: &mut trace })?;
//! assert_eq!(logits, [5.0, 3.0, 1.0]);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Reference
//!
//! | role | sources | meaning |
//! |---|---|---|
//! | `base` | one | the large model |
//! | `expert` | one or more | small models, each tuned for a task |
//! | `anti` | one; with a fixed strength also one for each expert, in the same order | the small model before tuning |
//!
//! | trace | unit | meaning |
//! |---|---|---|
//! | `alpha` | 1 | the strength used |
//! | `kl_fused_base` | nats | KL(fused‖base): how far fusion went |
//! | `kl_base_fused` | nats | KL(base‖fused) |
//! | `kl_expert_anti` | nats | KL(merged‖anti): how much tuning changed |
//! | `kl_anti_expert` | nats | KL(anti‖merged) |
//! | `saturated` | 0 or 1 | a bound stopped the solver |
//! | `inactive` | 0 or 1 | no strength would change anything, so that the base is the answer |
//!
//! Parameters are the fields of [`Params`]. The strategy keeps nothing between tokens.
//!
//! Ids masked in the base stay masked. Where an expert or its anti lacks an id, their log-probabilities count as equal
//! there, so the base decides. One expert with a `lambda` of 1 is static proxy tuning at a fixed strength and dynamic
//! fusion at a dynamic one, bit for bit.
//!
//! # What it costs
//!
//! At a fixed strength, one pass over all rows; a trace adds the divergences. A dynamic strength adds a pass that writes
//! the merged row and the solver's two, whatever the number of tasks.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod lower;
mod merge;
mod params;
mod state;
mod strategy;

pub use logitfuse_numerics::Objective;
pub use params::{Params, Strength};
pub use strategy::TaskArithmetic;

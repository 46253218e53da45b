//! In-context fusion: the difference that a *prompt* makes, amplified.
//!
//! # Why
//!
//! A model that reads a passage often answers from memory all the same; one that sees demonstrations follows them half
//! way. Running it twice, with and without the passage, shows what the passage changed, and that change can be
//! amplified without training anything. Both runs are one model with two prompts, which the engine decodes as one
//! batch.
//!
//! | mode | result | known as |
//! |---|---|---|
//! | `cad` | `(1 + alpha) · base − alpha · anti`, `alpha` 0.5 | context-aware decoding |
//! | `adacad` | as `cad`; at every token `alpha` is the Jensen–Shannon divergence of the two rows, `floor` at least | adaptive context-aware decoding |
//! | `cfg` | `anti + gamma · (base − anti)`, `gamma` 1.5 | classifier-free guidance, negative prompts |
//! | `icl_expert` | `base + alpha · (expert − anti)`, `alpha` 1 | a small model's in-context learning, added to a large one |
//!
//! # Example
//!
//! ```
//! use logitfuse_core::numerics::log_sum_exp;
//! use logitfuse_core::{
//!     SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
//! };
//! use logitfuse_in_context::{InContext, Params};
//!
//! let strategy = InContext::new(Params { alpha: Some(1.0), ..Params::default() })?;
//!
//! // One model, two prompts: `base` has the passage, `anti` has not.
//! let binding = |role: &str| RoleBinding { role: role.into(), source: "model".into() };
//! let session = SessionInfo::new(["base", "anti"].map(binding), SharedVocabulary::new(2, []));
//! let mut state = strategy.start(&session)?;
//!
//! // The passage raises token 1; without it, token 0 is more probable.
//! let rows = [[2.0, 1.5], [3.0, 0.0]];
//! let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//! let (mut logits, mut trace) = ([0.0; 2], [f64::NAN; 4]);
//! state.fuse(&FusionStep::new(&rows, &[]), &mut FusedRow { logits: &mut logits, trace: &mut trace })?;
//! assert_eq!(logits, [1.0, 3.0]);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Reference
//!
//! Roles are named by what they do in the result, as everywhere: `base` is what would be decoded without fusion.
//!
//! | role | `cad`, `adacad` | `cfg` | `icl_expert` |
//! |---|---|---|---|
//! | `base` | prompt *with* the passage | the prompt that is wanted | the large model |
//! | `expert` | – | – | the small model, prompt *with* demonstrations |
//! | `anti` | the same prompt *without* | the negative or empty prompt | the small model *without* |
//!
//! | trace | unit | meaning |
//! |---|---|---|
//! | `alpha` | 1 | the factor of the difference that is added to the base: `alpha`, `gamma − 1`, or the divergence in nats |
//! | `kl_fused_base` | nats | KL(fused‖base): how far fusion went |
//! | `kl_base_fused` | nats | KL(base‖fused); `+inf` when `plausibility` masks something |
//! | `kl_with_without` | nats | KL between the two rows of the difference: how much the context changed |
//!
//! Every mode is computed as `base + alpha · (towards − away)` on logits. For `cad` and `cfg` that is the equation above
//! rearranged, and log-probabilities would only add a constant. So `alpha` 0 and `gamma` 1 give the base bit for bit, and
//! so do two rows that are equal bit for bit. Ids masked in the base stay masked; where only another row lacks an id, its
//! log-probabilities count as equal there, so the base decides. The strategy keeps nothing between steps.
//!
//! `adacad` asks how much the passage changes *this* token: where the two prompts agree nothing is amplified, so a strong
//! `alpha` no longer harms what needs no context. The divergence is between 0 and log 2 = 0.693 nats and belongs to one
//! row of one sequence: what else is in a batch does not show in it.
//!
//! Cost: one pass over two rows (three for `icl_expert`), one more with two exponentials and two logarithms an entry for
//! `adacad`; nothing is allocated. The trace, where it is asked for, adds a normaliser and two passes for divergences.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod divergence;
mod params;
mod strategy;

pub use params::{Mode, Params};
pub use strategy::InContext;

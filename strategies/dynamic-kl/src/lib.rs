//! Dynamic logit fusion: the strength of the experts solved afresh at every token.
//!
//! # Why
//!
//! Proxy tuning adds what tuning changed in a small model, `expert − anti`, to a large model, times a strength that is a
//! parameter. No fixed strength is right: where the large model is certain the same difference does next to nothing,
//! where it hesitates the same difference decides. This strategy solves for the strength at every token such that the
//! large model moves as far from itself, in nats, as the small one did when it was tuned:
//!
//! ```text
//! fused = base + alpha · (expert − anti)
//! alpha = argmin (KL(fused‖base) − KL(expert‖anti))² + (KL(base‖fused) − KL(anti‖expert))²   within bounds
//! ```
//!
//! # Example
//!
//! The large model is twice as certain as the small one was, so its move takes about twice the logits:
//!
//! ```
//! use logitfuse_core::numerics::log_sum_exp;
//! use logitfuse_core::{
//!     SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
//! };
//! use logitfuse_dynamic_kl::{DynamicKl, Params};
//!
//! let strategy = DynamicKl::new(Params { bounds: [0.0, 4.0], ..Params::default() })?;
//!
//! let binding = |role: &str| RoleBinding { role: role.into(), source: format!("model of {role}") };
//! let session = SessionInfo::new(["base", "expert", "anti"].map(binding), SharedVocabulary::new(2, []));
//! let mut state = strategy.start(&session)?;
//!
//! // Tuning turned an odds of e to 1 around; the base has an odds of e² to 1.
//! let rows = [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]];
//! let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//! let (mut logits, mut trace) = ([0.0; 2], [f64::NAN; 11]);
//! state.fuse(&FusionStep::new(&rows, &[]), &mut FusedRow { logits: &mut logits, trace: &mut trace })?;
//!
//! let [alpha, kl_fused_base, kl_base_fused, kl_expert_anti, kl_anti_expert, ..] = trace;
//! assert!((1.0..1.5).contains(&alpha));
//! assert!((kl_fused_base - kl_expert_anti).abs() < 0.1 && (kl_base_fused - kl_anti_expert).abs() < 0.1);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Several experts
//!
//! The published rule tries one expert at a time and sums its objective over all experts' targets. That sum is
//! `T · [(F − mean a)² + (R − mean b)²]` and a constant: it depends on the experts' divergences by their means only, and so
//! the expert that it picks need not be the one that fits. Here experts are pooled first, weighted by how well each predicted
//! the text so far, and the pool takes the place of the one expert:
//!
//! ```
//! # use logitfuse_core::numerics::{argmax, log_sum_exp};
//! # use logitfuse_core::{SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo};
//! use logitfuse_dynamic_kl::{DynamicKl, Experts, Params};
//!
//! // Two experts that were tuned by as much: one wants token 0, the other token 1. The text so far was written by the
//! // first: it expected it by 7 nats better than the second. One logit, of an improbable token, is noise.
//! let top_token = |experts: Experts, noise: f32| {
//!     let rows = [
//!         [1.0, 1.0, 0.5, 0.5],          // base
//!         [2.0, 0.0, -1.0 + noise, 0.0], // first expert
//!         [0.0, 2.0, 0.0, -1.0],         // second expert
//!         [0.0, 0.0, 0.0, 0.0],          // anti
//!     ];
//!     let text_so_far = [-5.0, -2.0, -9.0, -8.0];
//!     let strategy = DynamicKl::new(Params { experts, bounds: Params::PAPER_BOUNDS, ..Params::default() })?;
//! #   let binding = |role: &str| RoleBinding { role: role.into(), source: role.into() };
//! #   let session = SessionInfo::new(["base", "expert", "expert", "anti"].map(binding), SharedVocabulary::new(4, []));
//! #   let row = |i: usize| RoleRow::new(&rows[i], log_sum_exp(&rows[i]), text_so_far[i]);
//! #   let rows = [row(0), row(1), row(2), row(3)];
//! #   let mut logits = [0.0; 4];
//! #   let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
//! #   strategy.start(&session)?.fuse(&FusionStep::new(&rows, &[]), &mut out)?;
//!     // … fuse, as above …
//! #   Ok::<usize, logitfuse_core::Error>(argmax(&logits))
//! };
//!
//! // The published search follows the noise, and against all evidence.
//! assert_eq!([top_token(Experts::OneExpert, 0.05)?, top_token(Experts::OneExpert, -0.05)?], [0, 1]);
//! // The pool follows the evidence.
//! assert_eq!([top_token(Experts::Pool, 0.05)?, top_token(Experts::Pool, -0.05)?], [0, 0]);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! The weights come from a [`Selector`], which is given all rows, the evidence and the possibility that no expert fits;
//! [`DynamicKl::with_selector`] takes one of yours. Evidence starts with the first generated token, unless
//! [`PosteriorParams::evidence`] asks how likely the prompt was.
//!
//! # An expert for a prompt, or none
//!
//! Experts that were tuned on answers alone do not discriminate prompts: each is sure of its own format, whatever it is asked.
//! What does discriminate them is how *all* small models react, above all the untuned one. So each expert has a handful of
//! unlabelled prompts of its kind, and weights `fingerprint` send a text to the expert whose prompts are most like
//! its own, or to none, which leaves the large model alone to the last bit. With `q_m(x)` what small model `m`, an anti or an
//! expert, expects after prompt `x`, and `x_1 … x_K` the prompts of expert `t`:
//!
//! ```text
//! centre     c_tm  = mean over k of q_m(x_k)
//! distance   D_t(x) = sum over m of JS(q_m(x), c_tm)                       in nats
//! radius     r_t   = max over k of sum over m of JS(q_m(x_k), c_tm without x_k)
//! choice     t = argmin D_t(x), the first of equals;   none if D_t(x) > slack · r_t
//! ```
//!
//! The choice is made once, at the end of the prompt, and held for the text. The large model takes no part in it, nor in the
//! calibration. These are the weights by default where every expert's source has `calibration` prompts
//! ([`FusionStrategy::calibrated`](logitfuse_core::FusionStrategy::calibrated)); without any, the default is `posterior`.
//!
//! ```
//! # use logitfuse_core::numerics::{argmax, log_sum_exp};
//! # use logitfuse_core::{CalibrationRows, SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo};
//! use logitfuse_dynamic_kl::{DynamicKl, Params};
//!
//! // After prompts of the first kind the anti expects token 0, after those of the second token 1. The experts expect, after any
//! // prompt, what they were tuned to generate: tokens 2 and 3.
//! let after = |kind: usize, sure: f32| {
//!     let mut anti = [0.0; 4];
//!     anti[kind] = sure;
//!     [[0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 5.0, 0.0], [0.0, 0.0, 0.0, 5.0], anti] // base, two experts, anti
//! };
//! # let binding = |role: &str| RoleBinding { role: role.into(), source: role.into() };
//! # let session = SessionInfo::new(["base", "expert", "expert", "anti"].map(binding), SharedVocabulary::new(4, []));
//! let strategy = DynamicKl::new(Params::default())?.calibrated(&session, &mut |expert| {
//!     let mut rows = CalibrationRows::new(2);
//!     for (prompt, sure) in [3.0, 4.0].into_iter().enumerate() {
//!         for (binding, row) in after(expert - 1, sure).iter().enumerate() {
//!             rows.push(prompt, binding, row);
//!         }
//!     }
//!     Ok(rows)
//! })?;
//! let top_token = |kind: usize| {
//!     let rows = after(kind, 3.5);
//!     let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//!     let (step, mut state) = (FusionStep::new(&rows, &[]), strategy.start(&session)?);
//!     state.begin(&step, &[])?; // the prompt is over
//!     let mut logits = [0.0; 4];
//!     state.fuse(&step, &mut FusedRow { logits: &mut logits, trace: &mut [] })?;
//!     Ok::<_, logitfuse_core::Error>((argmax(&logits), logits == rows[0].logits()))
//! };
//! assert_eq!(top_token(0)?, (2, false));
//! assert_eq!(top_token(1)?, (3, false));
//! // A prompt after which the anti expects another token fits no expert, and the base is left alone.
//! assert_eq!(top_token(2)?, (3, true));
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Bounds
//!
//! The published search goes up to a strength of 2, where the large model exaggerates what tuning did to the small one. Where it
//! knows the answer by itself, from demonstrations in its prompt above all, that is lost, so by default the strength is at most 1;
//! `bounds = "paper"` is the published range. Exact match and ROUGE-2 in per cent, on the first 64 test items of each task of
//! `examples/family` and on 10 of each of `examples/experiments/smollm2-helper.toml`, whose large model is SmolLM2 in int8:
//!
//! | bounds | family (qa, math, sum, mc) | … with demonstrations for the base | SmolLM2 and helper | … with five examples for SmolLM2 |
//! |---|---|---|---|---|
//! | [0, 0.5] | 97, 86, 75, 97 | 100, 84, 75, 100 | 3 | 58 |
//! | **[0, 1]** | 97, 84, 92, 97 | 100, 86, 92, 100 | 23 | 45 |
//! | [0, 2] | 97, 83, 92, 97 | 98, 84, 95, 100 | 5 | 25 |
//! | the base alone | 55, 56, 67, 3 | 97, 61, 69, 100 | | 10 |
//!
//! A strength at a bound is not solved for: `saturated` counts such tokens, and reports say where they are most of all. With
//! [0, 1] they usually are (65 to 100 % in this table), and the rule is then near `static-proxy` with `alpha = 1`, but for the
//! tokens that need less.
//!
//! # Reference
//!
//! | role | sources | meaning |
//! |---|---|---|
//! | `base` | one | the large model |
//! | `expert` | one or more | tuned small models |
//! | `anti` | one, or one for each expert in the same order | the small model before tuning |
//!
//! With `F = KL(fused‖base)`, `R = KL(base‖fused)` and the targets `a = KL(expert‖anti)`, `b = KL(anti‖expert)`:
//!
//! | objective | minimises | |
//! |---|---|---|
//! | `paper` | `(F − a)² + (R − b)²` | as published; may have several minima, of which the global one is found |
//! | `crossed` | `(F − b)² + (R − a)²` | as the published appendix prints it |
//! | `forward` | `(F − a)²` | |
//! | `reverse` | `(R − b)²` | one root always |
//! | `jeffreys` | `(F + R − a − b)²` | one root always |
//! | `sqrt` | `(√F − √a)² + (√R − √b)²` | small divergences count beside large ones |
//! | `variance_ratio` | – | `alpha = sd_anti(d) / sd_base(d)`, the limit of the others for mild experts |
//! | `budget` | – | the largest `alpha` with `F` within `budget_nats` |
//!
//! | trace | unit | meaning |
//! |---|---|---|
//! | `alpha` | 1 | the strength used; of `joint_minnorm`, the sum of its strengths |
//! | `kl_fused_base` | nats | `F`: how far fusion went |
//! | `kl_base_fused` | nats | `R` |
//! | `kl_expert_anti` | nats | `a` of the expert or the pool; without a pool, the mean over experts |
//! | `kl_anti_expert` | nats | `b`, likewise |
//! | `loss` | nats², nats for `sqrt` | what is left of the objective; NaN where there is none |
//! | `saturated` | 0 or 1 | a bound stopped the solver: do not read `alpha` as a measure of the expert |
//! | `inactive` | 0 or 1 | no strength would change anything, so that the base is the answer |
//! | `no_expert_weight` | 1 | weight of the possibility that no expert fits |
//! | `top_expert` | 1 | the expert that counts most, from 0 |
//! | `top_weight` | 1 | its weight |
//! | `selected_expert` | 1 | weights `fingerprint`: the expert of the whole text, from 0; -1 is none |
//! | `fingerprint_distance` | nats | weights `fingerprint`: how far the prompt is from the nearest expert's, that one or not |
//!
//! Divergences are at `kl_temperature`. Parameters are the fields of [`Params`].
//!
//! A budget for the sequence bounds `Σ F` over its tokens, and so the divergence of the whole fused text from the base's,
//! whatever is sampled. With it, every token earns `budget_nats`, and what it does not spend later ones may; without it,
//! every token has its own. Fusing spends nothing, committing does, and a rollback gives back. Divergences are known to
//! about 1e-6 nats a token, and so are budgets kept.
//!
//! Ids masked in the base stay masked. Where an expert or its anti lacks an id, their log-probabilities count as equal
//! there, so the base decides. Where expert and anti agree, and with a budget of 0, the result is the base bit for bit.
//!
//! # What it costs
//!
//! One expert: a pass over expert and anti for the targets, one over base and direction that summarises them (for solver
//! `grid` too), a solution that costs next to nothing, and a pass that writes the result. A pool adds one pass over all
//! experts and one over its own row; weights `kl` and `entropy` one pass for each expert, an arithmetic pool several. Weights
//! `fingerprint` run `K` prompts of each of `T` experts through the small models once, keep `T (T + 1)` rows, and read them for
//! the first token of a text; after that there is one expert. Evidence of the prompt costs the logits of all of its positions,
//! and that beginnings are not shared between prompts.
//! `one_expert` costs as many single experts; `joint_minnorm`, some tens of passes over all of them. Nothing is allocated
//! after the first step but the memory of committed tokens.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod decide;
mod joint;
mod lower;
mod memory;
mod params;
mod pool;
mod roles;
mod select;
mod state;
mod strategy;
mod strength;

pub use params::{
    Evidence, Experts, FingerprintParams, Goal, Params, Pool, PosteriorParams, Solver, Tempering, Weights,
};
pub use roles::StepRows;
pub use select::Selector;
pub use strategy::DynamicKl;

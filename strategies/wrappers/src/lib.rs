//! Gates and schedules: wrappers that decide *when* to fuse, around a strategy that decides *how*.
//!
//! # Why
//!
//! Few tokens of a large model gain by fusion. Fusing the others costs a forward pass of every other source, and over a long
//! text it can do harm: an expert's biases add up. A [`Gate`] lets the wrapped strategy act only where the base is unsure
//! or the sources disagree, and while it is closed the other sources may stay idle: they catch up, several tokens at once,
//! when it opens. A [`Schedule`] scales the wrapped strategy with the length of the text: nothing during the first tokens, half
//! strength later, on and off in turns.
//!
//! Both wrap any strategy, built in or plugin, and each other. The base is the first role of what they wrap.
//!
//! # Example
//!
//! A gate around proxy tuning. Where the base is sure its row is the result, before any other source has run (an early
//! exit); where it is not, the experts decide:
//!
//! ```
//! use std::sync::Arc;
//!
//! use logitfuse_core::numerics::{argmax, log_sum_exp};
//! use logitfuse_core::{
//!     SharedVocabulary, FusedRow, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
//! };
//! use logitfuse_static_proxy::{Params, StaticProxy};
//! use logitfuse_wrappers::{Gate, GateParams};
//!
//! let proxy = Arc::new(StaticProxy::new(Params::default())?);
//! let gated = Gate::new(GateParams { max_prob: Some(0.6), ..GateParams::default() }, proxy)?;
//! assert_eq!(gated.info().lead_role.as_deref(), Some("base"));
//!
//! let binding = |role: &str| RoleBinding { role: role.into(), source: format!("model of {role}") };
//! let session = SessionInfo::new(["base", "expert", "anti"].map(binding), SharedVocabulary::new(2, []));
//! let mut state = gated.start(&session)?;
//! let mut top_token = |base: [f32; 2]| {
//!     let rows = [base, [0.0, 3.0], [0.0, 0.0]];
//!     let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
//!     let mut logits = [0.0; 2];
//!     let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
//!     let exited = state.early_exit(&rows[0], &[], &mut out)?;
//!     if !exited {
//!         state.fuse(&FusionStep::new(&rows, &[]), &mut out)?;
//!     }
//!     Ok::<_, logitfuse_core::Error>((exited, argmax(&logits)))
//! };
//! assert_eq!(top_token([2.0, 0.0])?, (true, 0));
//! assert_eq!(top_token([0.2, 0.0])?, (false, 1));
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Reference
//!
//! | wrapper | rule |
//! |---|---|
//! | [`Gate`] | the wrapped strategy where one of the conditions of [`GateParams`] holds, else the base |
//! | [`Schedule`] | `base + s · (wrapped − base)`, where `s` follows [`ScheduleParams`] with the number of tokens generated |
//!
//! | trace | unit | of | meaning |
//! |---|---|---|---|
//! | `gate_open` | 1 | gate | 1 where the wrapped strategy acted, 0 where the result is the base |
//! | `gate_changed` | 1 | gate, `audit` | 1 where the gate was closed and greedy decoding would have chosen another token |
//! | `schedule` | 1 | schedule | `s` |
//!
//! The wrapped strategy's columns come first; where it did not run, they are not available. Its laws are kept where they
//! stay true. `s = 0` and a closed gate are the base bit for bit, `s = 1` and an open gate the wrapped strategy. What the
//! wrapped strategy masks stays masked at every other `s`.
//!
//! A wrapped strategy with memory is told of every token, also of those for which it was not asked: such a `commit` comes
//! without a `fuse` before it. It is told of the prompt, and calibrated, as if it were alone, whether or not it acts at the
//! first position.
//!
//! Cost: a gate reads the base's row once (`max_prob`, `entropy_nats`) or every row once (`disagreement`); a schedule reads
//! two rows and writes one where `s` is neither 0 nor 1. Nothing is allocated, except for an audit, which forks the wrapped
//! strategy's state wherever the gate is closed.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod gate;
mod schedule;
mod signal;
mod wrapped;

pub use gate::{Gate, GateParams};
pub use schedule::{Schedule, ScheduleParams, Shape};

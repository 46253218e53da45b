//! Write a fusion strategy for logitfuse as a shared library, in safe Rust.
//!
//! # Why
//!
//! A strategy is a rule that turns several models' logits into one row. Yours should not need a fork of logitfuse, nor a
//! line of `unsafe`: implement the two traits that built-in strategies implement, [`FusionStrategy`] and [`FusionState`]
//! (or [`Memoryless`], if a step is all it looks at), add two lines, and `cargo build` makes a library that any logitfuse of
//! this ABI loads. The very same type also links statically and gives the same bits.
//!
//! What this crate adds around your code: the C table, checks of every pointer and length, a guard that turns a panic into
//! an error which names its place, a bridge from the `log` crate to the host's log, and metadata that can be read without
//! running anything.
//!
//! # A worked example
//!
//! Proxy tuning that leaves a confident base alone. `src/strategy.rs`:
//!
//! ```
//! use logitfuse_plugin::numerics::{Contrast, entropy, linear_combination};
//! use logitfuse_plugin::serde_json::Value;
//! use logitfuse_plugin::{
//!     Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result, RoleSpec, SessionInfo,
//!     StrategyInfo, params,
//! };
//!
//! pub struct Gate {
//!     entropy: f64,
//!     info: StrategyInfo,
//! }
//!
//! impl Gate {
//!     pub fn from_json(value: &Value) -> Result<Self> {
//!         let table: std::collections::BTreeMap<String, f64> = params::parse(value)?;
//!         let entropy = params::not_negative("/entropy_nats", table.get("entropy_nats").copied().unwrap_or(1.0))?;
//!         if let Some(key) = table.keys().find(|key| *key != "entropy_nats") {
//!             return Err(params::invalid(&format!("/{key}"), "unknown; there is `entropy_nats`"));
//!         }
//!         let info = StrategyInfo::new("gate", [RoleSpec::one("base"), RoleSpec::one("expert"), RoleSpec::one("anti")])
//!             .with_summary("proxy tuning where the base is uncertain")
//!             .with_equation("fused = base + (expert − anti) where H(base) ≥ entropy_nats, else base")
//!             .with_params_schema(
//!                 r#"{"type":"object","additionalProperties":false,"properties":{"entropy_nats":{"type":"number","minimum":0}}}"#,
//!             )
//!             .with_laws([Law::Deterministic, Law::Stateless, Law::MaskPreserving])
//!             .with_trace("entropy", "nats");
//!         Ok(Self { entropy, info })
//!     }
//! }
//!
//! impl FusionStrategy for Gate {
//!     fn info(&self) -> &StrategyInfo {
//!         &self.info
//!     }
//!
//!     fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
//!         let row = |role| {
//!             session.row_of(role).ok_or_else(|| Error::new(ErrorKind::Incompatible, format!("{role}: no source takes it")))
//!         };
//!         Ok(Box::new(State { least: self.entropy, base: row("base")?, expert: row("expert")?, anti: row("anti")? }))
//!     }
//! }
//!
//! #[derive(Clone)]
//! struct State {
//!     least: f64,
//!     base: usize,
//!     expert: usize,
//!     anti: usize,
//! }
//!
//! impl Memoryless for State {
//!     fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
//!         let [base, expert, anti] = [self.base, self.expert, self.anti].map(|row| step.row(row));
//!         let uncertainty = entropy(base.logits(), base.log_normaliser);
//!         let strength = if uncertainty >= self.least { 1.0 } else { 0.0 };
//!         linear_combination(base.logits(), 1.0, &[Contrast::between(strength, expert, anti)], out.logits);
//!         if let [column] = out.trace {
//!             *column = uncertainty;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! // In a test of the plugin: every law that a host relies on, on rows made to break them.
//! logitfuse_plugin::testing::check_in_process(&Gate::from_json(&logitfuse_plugin::serde_json::json!({}))?, 64).unwrap();
//! # Ok::<(), logitfuse_plugin::Error>(())
//! ```
//!
//! `src/lib.rs` and `build.rs`:
//!
//! ```text
//! mod strategy;                                      #[path = "src/strategy.rs"]
//! logitfuse_plugin::export!(strategy::Gate);         mod strategy;
//!                                                    logitfuse_plugin::metadata!(strategy::Gate);
//! ```
//!
//! `Cargo.toml`: the crate is a `cdylib`, and needs this one twice, since a build script has dependencies of its own:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! logitfuse-plugin = { path = "…/plugins/sdk" }
//!
//! [build-dependencies]
//! logitfuse-plugin = { path = "…/plugins/sdk" }
//!
//! [dev-dependencies]
//! logitfuse-plugin = { path = "…/plugins/sdk", features = ["testing"] }
//! ```
//!
//! `logitfuse plugin new --lang rust NAME` writes all of this. `examples/plugins/rust` has a strategy with memory.
//!
//! # Reference
//!
//! * [`export!`] and [`metadata!`](macro@metadata): the two lines. [`metadata`](mod@metadata) is what the second one calls.
//! * Core's traits, rows and errors are re-exported here, as are [`numerics`] (kernels that know masks; note
//!   [`masked_difference`](numerics::masked_difference)) and [`params`] (errors that point at a key).
//! * [`log`]: `log::warn!(…)` and the like reach the host's log at level debug and above.
//! * `testing::check_in_process` (feature `testing`): the laws that every strategy must obey.
//!
//! # What happens to …
//!
//! | | |
//! |---|---|
//! | a panic | an error of status `LF_E_PANIC` with message, file and line; the state takes no further calls and is leaked, not dropped. With `RUST_BACKTRACE=1` the backtrace goes to the log |
//! | `panic = "abort"` | does not compile |
//! | an [`Error`] | its kind becomes the nearest status, its message and help travel along; `/pointer: …` becomes the path of a configuration error |
//! | a null, misaligned or overlapping pointer, a wrong length, text that is not UTF-8 | an error of status `LF_E_ARGUMENT`; your code is not called |
//! | an overflow of the stack, an endless loop, `abort` | cannot be caught within the process; `logitfuse plugin check` looks for them |
//! | the cost | a few nanoseconds a call; a step of up to sixteen rows allocates nothing here |

#![deny(missing_docs)]

mod arguments;
mod calls;
mod extensions;
mod failure;
mod guard;
mod handle;
mod log_bridge;
mod macros;
pub mod metadata;
mod objects;
mod table;
#[cfg(feature = "testing")]
pub mod testing;

#[doc(no_inline)]
pub use logitfuse_core::{
    Arity, CalibrationRows, CalibrationSpec, Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law,
    Memoryless, PromptReading, PromptScore, Result, ResultExt, RoleBinding, RoleRow, RoleSpec, SessionInfo,
    SharedVocabulary, StrategyInfo, TokenId, TraceColumn, numerics, params,
};
#[doc(no_inline)]
pub use {log, serde_json};

/// What the macros expand to.
#[doc(hidden)]
pub mod __private {
    pub use logitfuse_plugin_abi::{lf_error, lf_host_v1, lf_plugin_v1};

    pub use crate::calls::Make;
    pub use crate::table::{Plugin, strategy};
}

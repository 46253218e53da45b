//! The host of fusion strategies in shared libraries: finds, examines, loads and calls them.
//!
//! # Why this crate exists
//!
//! A fusion rule should run in an engine that does not know it at build time, and a badly written one must not corrupt a
//! result in silence. So a library is examined before any of its code runs, loaded from exactly the bytes that were
//! examined, and every row that it computes is validated before it is sampled from. Towards the engine a plugin is
//! core's [`FusionStrategy`](logitfuse_core::FusionStrategy), like a strategy that is built in: it is told prompts and
//! calibrated as one, where it has the extensions for it.
//!
//! # Example
//!
//! ```no_run
//! use logitfuse_core::FusionStrategy;
//! use logitfuse_plugin_host::{OnError, PluginFile, Policy};
//! use serde_json::json;
//!
//! // Nothing of the plugin runs here: bytes are read.
//! let file = PluginFile::read("plugins/libentropy_gate.so".as_ref())?;
//! println!("{} {} offers {}", file.metadata().id, file.metadata().version, file.metadata().strategies[0].info.id);
//!
//! // From here on the plugin has all rights that this process has.
//! if let Some(warning) = Policy::Warn.admit(&file, &[])? {
//!     eprintln!("warning: {warning}");
//! }
//! let strategy = file.load()?.strategy("entropy-gate", &json!({ "alpha": 1.0 }), OnError::Fail)?;
//! assert_eq!(strategy.info().roles[0].name, "base");
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # What is survived, and what is not
//!
//! | a plugin that … | here |
//! |---|---|
//! | is no library, of another machine, truncated, without metadata, of another ABI, not the one that was pinned | is refused unexecuted |
//! | has a missing symbol, a broken table, metadata that differ from the file's | is refused when it is loaded |
//! | returns an error or an unknown status, panics within its guard | fails its text with an error that names plugin, call and position |
//! | writes NaN, `+inf` or nothing but `-inf`, or leaves an entry of a row unwritten | the same |
//! | changes floating-point control bits in any call | the same; the bits are restored. `state_free` and `destroy`, which can return nothing, are told in the log and by [`faults`] |
//! | changes them while it is loaded (gcc's `-ffast-math` does) | is refused; the bits are restored |
//! | floods its log, writes control codes | is limited and cleaned |
//! | is overwritten on disk while it runs | runs on, from a private copy |
//! | writes past its buffers, keeps pointers, calls `exit` or `abort`, loops for ever, overflows its stack, crashes in a constructor, or means harm | **is not survived**: it is code of this process. `logitfuse plugin check` runs every case in a process of its own and finds these, as far as they are mistakes |
//!
//! # Reference
//!
//! * Finding: [`SearchPath`], [`PluginFile`], [`Metadata`], [`Dependency`].
//! * Admitting: [`Policy`], [`Pin`], [`Lock`], [`struct@Hash`].
//! * Running: [`Plugin`], [`PluginStrategy`], [`OnError`], [`Timing`], [`forward_log`].
//! * When one fails, and at the end: [`is_plugin_failure`], [`faults`], [`exit_past_plugins`].
//! * For tools that test plugins, such as `logitfuse-plugin-check`: [`StrategyMetadata::schema`], [`FpControl`], [`printable`].

#![deny(missing_docs)]

mod calibration;
mod dependencies;
mod discover;
mod exit;
mod extensions;
mod faults;
mod fenv;
mod ffi;
#[doc(hidden)]
pub mod fuzzing;
mod host_table;
mod image;
mod library;
mod metadata;
mod object_file;
mod plugin;
mod scan;
mod state;
mod strategy;
mod text;
mod timing;
mod trust;
mod validate_row;

pub use dependencies::Dependency;
pub use discover::{Found, Place, SearchPath};
pub use exit::exit_past_plugins;
pub use faults::{faults, is_plugin_failure};
pub use fenv::FpControl;
pub use host_table::{LINES_PER_SECOND, LogLevel, forward_log};
pub use metadata::{Metadata, StrategyMetadata};
pub use plugin::{OnError, Plugin};
pub use scan::{Hash, PluginFile};
pub use strategy::PluginStrategy;
pub use text::printable;
pub use timing::Timing;
pub use trust::{Lock, Locked, Pin, Policy};

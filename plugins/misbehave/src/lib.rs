//! A plugin that breaks every rule on request.
//!
//! A checker that never saw a bad plugin proves nothing. This one is written against the bare C table, without the SDK whose
//! guards it would have to defeat. By default it is well behaved: it moves the base towards the expert, further with every
//! token that was committed. The parameter `mode` names one rule that it then breaks; rules of loading are broken by the
//! environment variable `LOGITFUSE_MISBEHAVE`, because they come before parameters. `tests/integration/plugin_misbehave.rs`
//! holds the table of modes and verdicts.

#![expect(unsafe_code, reason = "implements the C table by hand, and breaks it")]

mod entry;
mod mode;
mod strategy;

pub use entry::{LF_PLUGIN_META, lf_plugin_entry_v1};

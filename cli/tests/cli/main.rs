//! Tests of the command: one binary, started as its users start it.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod commands;
mod config_diagnostics;
mod directories;
mod effect;
mod merge;
mod model_folders;
mod planted;
#[cfg(feature = "serve")]
mod serve;
mod support;

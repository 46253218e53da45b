//! Plugins in the host: what is loaded, called, contained and refused.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

#[path = "../../abi/tests/compiler/mod.rs"]
#[expect(dead_code, reason = "tests here compile files that exist")]
mod compiler;
mod earlier_plugin;
#[path = "support/libraries.rs"]
mod libraries;
mod misbehave;
mod parity;
mod prompts;

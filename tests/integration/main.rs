//! Integration tests.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod architecture;
mod effects;
#[path = "../../engine/tests/decoder/exactness.rs"]
mod exactness;
mod export;
mod export_nested;
mod export_refusals;
mod fingerprints;
mod interrupt;
#[path = "../../plugins/host/tests/support/libraries.rs"]
mod libraries;
#[cfg(target_os = "linux")]
mod memory;
mod merge;
mod oracles;
mod peers;
mod plan;
mod plugin_batch;
mod plugin_check;
mod plugin_failures;
mod plugin_messages;
mod plugin_new;
mod plugin_parity;
mod plugin_real_decode;
mod plugins;
mod preflight;
mod real_model;
mod run_bytes;
mod run_directories;
mod run_kills;
mod run_support;
mod rust_examples;
mod said;
mod second_opinion;
mod speculation_every;
mod strategies;
mod support;
mod tape;
mod tasks;
mod weak_to_strong;

//! Integration tests.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod architecture;
mod cli;
mod engine;
mod engine_lazy;
mod engine_prefixes;
mod engine_speculation;
mod onnx_bad_input;
mod onnx_matrix;
mod onnx_programs;
mod oracles;
mod peers;
mod plugin_messages;
mod plugin_misbehave;
mod plugin_new;
mod plugin_parity;
mod plugins;
mod real_model;
mod second_opinion;
mod strategies;
mod support;

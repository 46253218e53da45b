//! Integration tests.

mod architecture;
mod cli;
mod engine;
mod onnx_bad_input;
mod onnx_matrix;
mod support;

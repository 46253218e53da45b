//! Integration tests.

mod onnx_matrix;
mod support;

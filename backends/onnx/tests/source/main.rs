//! `OnnxSource` on decoders of every form that exporters write.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod bad_input;
mod by_hand;
mod hostile;
mod interrupt;
mod matrix;
#[path = "../../../../tests/prepared.rs"]
mod prepared;
mod programs;
mod rewritten;

use logitfuse_onnx::Runtime;
use prepared::tiny;

/// The ONNX Runtime that all tests of this process share.
fn runtime() -> Runtime {
    Runtime::load(&prepared::runtime_library()).unwrap()
}

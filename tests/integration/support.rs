//! The runtime, models and Python that `cargo xtask test` prepares.

use std::path::PathBuf;

use logitfuse_onnx::Runtime;
use logitfuse_setup::env;

#[path = "../prepared.rs"]
mod prepared;

pub(crate) use prepared::tiny;
use prepared::{prepared, runtime_library};

/// The ONNX Runtime that all tests of this process share.
pub(crate) fn runtime() -> Runtime {
    Runtime::load(&runtime_library()).expect("the prepared runtime loads")
}

/// The folder of a real model.
pub(crate) fn model(name: &str) -> PathBuf {
    prepared(&env::MODELS, name)
}

/// The interpreter that runs `tests/peers/reference.py`.
pub(crate) fn peer_python() -> PathBuf {
    prepared(&env::PEER_PYTHON, "")
}

//! Where tests find what `cargo xtask test` prepares: the runtime, models, a Python with the peers' packages.
//!
//! What is missing fails the test. A test that skips itself proves nothing and looks as if it did.

use std::path::PathBuf;

use logitfuse_onnx::Runtime;
use logitfuse_setup::{Environment, env, env::Variable, find_runtime};

const PREPARE: &str = "run the tests with `cargo xtask test`, which prepares what they need";

/// The ONNX Runtime that all tests of this process share.
pub(crate) fn runtime() -> Runtime {
    let found = find_runtime(&Environment::of_process(), None).unwrap_or_else(|e| panic!("{e}; {PREPARE}"));
    Runtime::load(&found.library).unwrap_or_else(|e| panic!("{e}; {PREPARE}"))
}

/// The folder of a decoder that `tests/models/tiny_decoders.py` wrote.
pub(crate) fn tiny(name: &str) -> PathBuf {
    prepared(&env::TINY_MODELS, name)
}

/// The folder of a real model.
pub(crate) fn model(name: &str) -> PathBuf {
    prepared(&env::MODELS, name)
}

/// The interpreter that runs `tests/peers/reference.py`.
pub(crate) fn peer_python() -> PathBuf {
    prepared(&env::PEER_PYTHON, "")
}

fn prepared(variable: &Variable, name: &str) -> PathBuf {
    let Some(base) = Environment::of_process().path(variable) else {
        panic!("{} is not set; {PREPARE}", variable.name);
    };
    let path = if name.is_empty() { base } else { base.join(name) };
    assert!(path.exists(), "{}: does not exist; {PREPARE}", path.display());
    path
}

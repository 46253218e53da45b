//! Where the tests of several crates find what `cargo xtask test` prepares: ONNX Runtime, models.
//!
//! What is missing fails the test. A test that skips itself proves nothing and looks as if it did.

use std::path::PathBuf;

use logitfuse_setup::{Environment, env, env::Variable, find_runtime};

const PREPARE: &str = "run the tests with `cargo xtask test`, which prepares what they need";

/// The library of ONNX Runtime.
pub(crate) fn runtime_library() -> PathBuf {
    find_runtime(&Environment::of_process(), None).unwrap_or_else(|e| panic!("{e}; {PREPARE}")).library
}

/// The folder of a decoder that `tests/models/tiny_decoders.py` wrote.
pub(crate) fn tiny(name: &str) -> PathBuf {
    prepared(&env::TINY_MODELS, name)
}

/// A file or folder below the one that an environment variable names; that one itself if `name` is empty.
pub(crate) fn prepared(variable: &Variable, name: &str) -> PathBuf {
    let Some(base) = Environment::of_process().path(variable) else {
        panic!("{} is not set; {PREPARE}", variable.name);
    };
    let path = if name.is_empty() { base } else { base.join(name) };
    assert!(path.exists(), "{}: does not exist; {PREPARE}", path.display());
    path
}

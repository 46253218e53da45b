//! The command under test, and the fixtures that `cargo xtask test` prepares. What is missing fails the test.

use std::path::PathBuf;

use logitfuse_setup::{Environment, env, find_runtime};

const PREPARE: &str = "run the tests with `cargo xtask test`, which prepares what they need";

/// The binary that cargo built for these tests.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_logitfuse"))
}

/// The library of ONNX Runtime.
pub(crate) fn runtime_library() -> PathBuf {
    find_runtime(&Environment::of_process(), None).unwrap_or_else(|e| panic!("{e}; {PREPARE}")).library
}

/// The folder of a decoder that `tests/models/tiny_decoders.py` wrote.
pub(crate) fn tiny(name: &str) -> PathBuf {
    let variable = &env::TINY_MODELS;
    let Some(models) = Environment::of_process().path(variable) else {
        panic!("{} is not set; {PREPARE}", variable.name);
    };
    let path = models.join(name);
    assert!(path.exists(), "{}: does not exist; {PREPARE}", path.display());
    path
}

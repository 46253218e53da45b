//! The command under test, and the fixtures that `cargo xtask test` prepares.

use std::path::PathBuf;

#[path = "../../../tests/prepared.rs"]
mod prepared;

pub(crate) use prepared::{runtime_library, tiny};

/// The binary that cargo built for these tests.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_logitfuse"))
}

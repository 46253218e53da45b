mod find;
mod install;
mod library;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use find::{find_runtime, runtime_candidates};
pub use install::install_runtime;
use logitfuse_core::{ErrorKind, Result};

use crate::Environment;

/// Where an ONNX Runtime library was found, in the order in which the places are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A path that the caller gave.
    Explicit,
    /// `LOGITFUSE_ORT_LIB`.
    Variable,
    /// `ORT_DYLIB_PATH`, which other programs use too.
    ForeignVariable,
    /// Our cache, filled by [`install_runtime`].
    Cache,
    /// The `onnxruntime` or `onnxruntime-gpu` package of the active Python.
    PythonPackage,
    /// The machine's library folders.
    System,
}

impl Origin {
    pub(crate) const ALL: [Self; 6] =
        [Self::Explicit, Self::Variable, Self::ForeignVariable, Self::Cache, Self::PythonPackage, Self::System];
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Explicit => "given path",
            Self::Variable => "LOGITFUSE_ORT_LIB",
            Self::ForeignVariable => "ORT_DYLIB_PATH",
            Self::Cache => "logitfuse's cache",
            Self::PythonPackage => "Python package",
            Self::System => "system library",
        })
    }
}

/// An ONNX Runtime library that exists. Whether its version serves is for the ONNX backend to say, which can load it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRuntime {
    /// The shared library.
    pub library: PathBuf,
    /// Where it was found.
    pub origin: Origin,
}

/// One place and what is there.
#[derive(Debug)]
pub struct Candidate {
    /// The place's kind.
    pub origin: Origin,
    /// The place, in words.
    pub looked_in: String,
    /// The library; `None` if there is none; an error if the user named a place that holds none.
    pub outcome: Result<Option<PathBuf>>,
}

/// What [`find_runtime`] finds, else what [`install_runtime`] installs (the CPU build): for commands that set a fresh
/// machine up by themselves. It says so through `progress`.
pub fn find_or_install_runtime(
    env: &Environment,
    explicit: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<FoundRuntime> {
    match find_runtime(env, explicit) {
        // A place that the user named and that holds nothing is an error: installing another library would hide it.
        Err(e) if e.kind() == ErrorKind::NotFound && find::nothing_named(env, explicit) => {
            progress("no ONNX Runtime on this machine, installing one");
            install_runtime(env, false, progress)
        }
        found => found,
    }
}

//! Whether a file is still the one that was opened.

use std::{fs::Metadata, path::Path, time::SystemTime};

use logitfuse_core::{Error, ErrorKind};

/// What a file's size and time of change were. A model is its header in memory and places in files: bytes from another file
/// under the same name would be a model that never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// The error for a file that is another one by now.
pub(crate) fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{}: was changed since it was opened", path.display())).with_help(
        "leave the model's files alone until the command has ended; open a model again that was saved over itself",
    )
}

//! What is said of a file that is wrong.

use logitfuse_core::{Error, ErrorKind};

/// Characters of a message. Names come from files and may be megabytes.
const LONGEST: usize = 600;

/// A file that is not what it should be.
pub(crate) fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidData, clipped(what)).with_help("the file is damaged or was cut: export it again")
}

pub(crate) fn clipped(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

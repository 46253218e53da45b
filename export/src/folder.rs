//! Files of the target folder.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

/// A folder within a folder, made if it is not there.
pub(crate) fn subfolder(folder: &Path, name: &str) -> Result<PathBuf> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).map_err(|e| failed(&folder, &e))?;
    Ok(folder)
}

/// A hard link, or a copy where the file system has none.
pub(crate) fn link(from: &Path, to: &Path) -> Result<()> {
    // A link to a link would lead out of the folder, which runtimes refuse.
    let from = fs::canonicalize(from).map_err(|e| failed(from, &e))?;
    if fs::hard_link(&from, to).is_ok() { Ok(()) } else { copy(&from, to) }
}

/// A copy: of small files, which people edit.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(|e| failed(to, &e))
}

/// A small file of our own.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| failed(path, &e))
}

/// The sha256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(|e| failed(path, &e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(|e| failed(path, &e))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

pub(crate) fn failed(path: &Path, e: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {e}", path.display()))
}

//! Atomic writes, and hashes of files.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// sha256 as 64 lower-case hexadecimal digits.
///
/// ```
/// use logitfuse_rundir::sha256;
///
/// assert!(sha256(b"abc").starts_with("ba7816bf"));
/// ```
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes and [`sha256`] of a file's content; the file may be larger than the memory.
pub fn sha256_of_file(path: &Path) -> Result<(u64, String)> {
    let read = || -> io::Result<(u64, String)> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((bytes, hex::encode(hasher.finalize()))),
                n => {
                    hasher.update(&buffer[..n]);
                    bytes += n as u64;
                }
            }
        }
    };
    read().map_err(|e| unreadable(path, &e))
}

/// Replaces a file atomically: a reader sees the old content or the new, also after a power cut.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    };
    write().map_err(|e| {
        // What was half written is of no use, and may be what filled the disk.
        let _ = fs::remove_file(&temporary);
        unwritable(path, &e)
    })
}

/// As indented JSON with a final newline.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("{}: cannot be written as JSON: {e}", path.display())))?;
    text.push('\n');
    write_atomically(path, text.as_bytes())
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::InvalidData, format!("{}: not what a run writes: {e}", path.display()))
            .with_help("this version reads what it writes; start the run again in another directory")
    })
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub(crate) fn unreadable(path: &Path, e: &io::Error) -> Error {
    let kind = if e.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
    Error::new(kind, format!("{}: cannot be read: {e}", path.display()))
        .with_help("check that it is there and readable")
}

pub(crate) fn unwritable(path: &Path, e: &io::Error) -> Error {
    let help = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, then the same command goes on"
        }
        _ => "check the directory's permissions, or name another one with `-o`",
    };
    Error::new(ErrorKind::Io, format!("{}: cannot be written: {e}", path.display())).with_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        write_atomically(&path, b"one").unwrap();
        write_json(&path, &[1, 2]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  1,\n  2\n]\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary stays");
        // A folder in the way of the rename.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("full")).unwrap();
        assert_eq!(write_atomically(&taken, b"two").unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_has_the_hash_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes = vec![7; 3_000_000];
        fs::write(&path, &bytes).unwrap();
        assert_eq!(sha256_of_file(&path).unwrap(), (3_000_000, sha256(&bytes)));
        assert_eq!(sha256_of_file(&folder.path().join("y")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

//! Files of a run directory: opened if they are plain, read as far as they may be long, replaced atomically, hashed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// Bytes of a file that is read as a whole. The table of a thousand variants on twenty tasks has half of it.
pub(crate) const DOCUMENT_LIMIT: u64 = 32 << 20;

/// Opens a file to read it. A pipe or a device in its place has no end, or none that comes, so it is not opened at all.
pub(crate) fn open(path: &Path) -> Result<File> {
    let kind = fs::metadata(path).map_err(|e| unreadable(path, &e))?;
    if !kind.is_file() {
        return Err(not_plain(path, if kind.is_dir() { "is a folder" } else { "is no file but a pipe or a device" }));
    }
    File::open(path).map_err(|e| unreadable(path, &e))
}

/// The text of a file that is read as a whole.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    open(path)?.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| unreadable(path, &e))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        let message = format!("{}: is longer than {} MiB", path.display(), DOCUMENT_LIMIT >> 20);
        return Err(Error::new(ErrorKind::InvalidData, message).with_help("a run writes no such file; restore it"));
    }
    String::from_utf8(bytes).map_err(|e| {
        Error::new(ErrorKind::InvalidData, format!("{}: not UTF-8: {}", path.display(), e.utf8_error()))
            .with_help("a run writes no such file; restore it")
    })
}

/// Refuses to write to what is there and no file of its own: a link leads out of the directory, a pipe waits for a reader.
pub(crate) fn require_plain(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_file() => Ok(()),
        Ok(there) if there.is_symlink() => Err(not_plain(path, "is a link, and nothing is written through links")),
        Ok(there) if there.is_dir() => Err(not_plain(path, "is a folder")),
        Ok(_) => Err(not_plain(path, "is no file but a pipe or a device")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(unreadable(path, &e)),
    }
}

fn not_plain(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()))
        .with_help("put a plain file in its place, or name another directory")
}

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
    let mut file = open(path)?;
    let mut read = || -> io::Result<(u64, String)> {
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
        // What a killed process left; and whatever else has this name, it is not written through.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
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
    let text = read_text(path)?;
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
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, then the same command goes on",
        io::ErrorKind::FileTooLarge => {
            "make room, then the same command goes on; a limit on the size of files (`ulimit -f`) can be raised"
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

//! The target folder: complete under its name, or absent.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

/// A folder that is being written beside the target and takes its name when all of it is there. Dropped before that, it
/// is removed.
pub(crate) struct Staging {
    target: PathBuf,
    own: PathBuf,
    done: bool,
}

impl Staging {
    /// Begins to write what will be `target`, which must not exist or be empty. What a killed export left is removed.
    pub(crate) fn begin(target: &Path) -> Result<Self> {
        match fs::read_dir(target) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let what = format!("{}: there is something in this folder", target.display());
                    return Err(Error::new(ErrorKind::InvalidConfig, what)
                        .with_help("name a folder that does not exist yet, or remove this one"));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(target, &e)),
        }
        let name = target.file_name().filter(|_| target != Path::new("/")).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("{}: no name for a folder", target.display()))
                .with_help("name a folder that does not exist yet")
        })?;
        let mut own = name.to_owned();
        own.push(".partial");
        let own = target.with_file_name(own);
        if own.exists() {
            fs::remove_dir_all(&own).map_err(|e| failed(&own, &e))?;
        }
        fs::create_dir_all(&own).map_err(|e| failed(&own, &e))?;
        Ok(Self { target: target.to_owned(), own, done: false })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.own
    }

    /// Makes a folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.own.join(name);
        fs::create_dir_all(&folder).map_err(|e| failed(&folder, &e))?;
        Ok(folder)
    }

    /// Gives it its name.
    pub(crate) fn finish(mut self) -> Result<PathBuf> {
        sync_all(&self.own).map_err(|e| failed(&self.own, &e))?;
        // An empty folder of that name gives way; on Windows it has to go first.
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(|e| failed(&self.target, &e))?;
        }
        fs::rename(&self.own, &self.target).map_err(|e| failed(&self.target, &e))?;
        self.done = true;
        Ok(self.target.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.done {
            // The error that led here has been reported; a folder that stays is removed by the next export.
            let _ = fs::remove_dir_all(&self.own);
        }
    }
}

/// A killed machine leaves the whole folder or none: files first, then the folders that name them.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            fs::File::open(&path)?.sync_all()?;
        }
    }
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
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

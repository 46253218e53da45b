//! Loading exactly the bytes that were hashed.
//!
//! A path can name another file by the time the loader opens it, and a file that is overwritten while it is mapped kills
//! the process. So the loader gets a private copy of the bytes: on Linux in a sealed memory file that cannot change,
//! elsewhere in a folder that only this user can enter.

use logitfuse_core::{Error, ErrorKind, Result};

/// A copy of a library that lives as long as the library.
///
/// It must not be dropped while the library is loaded. That is more than tidiness: glibc knows a library by the name that it was opened
/// under, here `/proc/self/fd/N`, and would hand out the old library for a new file under a reused number.
pub(crate) struct Image {
    path: std::path::PathBuf,
    #[cfg(target_os = "linux")]
    _file: std::os::fd::OwnedFd,
    #[cfg(not(target_os = "linux"))]
    _folder: tempfile::TempDir,
}

impl Image {
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

#[cfg(target_os = "linux")]
impl Image {
    /// A copy of these bytes.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
        use std::os::fd::AsRawFd;

        let file = sealed(bytes).or_else(|_| private(bytes)).map_err(|e| no_room(&e))?;
        Ok(Self { path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(), _file: file })
    }
}

#[cfg(target_os = "linux")]
fn sealed(bytes: &[u8]) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::io::Write;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    // Kernels from 6.3 on may refuse to map code from a memory file that does not ask for it; older ones do not know the flag.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = "logitfuse-plugin";
    let file = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Where memory files are forbidden: a file without a name.
#[cfg(target_os = "linux")]
fn private(bytes: &[u8]) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::io::Write;

    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    Ok(file.into())
}

#[cfg(not(target_os = "linux"))]
impl Image {
    /// A copy of these bytes.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("logitfuse-plugin-").tempdir().map_err(|e| no_room(&e))?;
        let path = folder.path().join(format!("plugin.{}", std::env::consts::DLL_EXTENSION));
        std::fs::write(&path, bytes).map_err(|e| no_room(&e))?;
        Ok(Self { path, _folder: folder })
    }
}

fn no_room(e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("a private copy could not be made: {e}")).with_help(
        "a plugin is loaded from a copy that cannot change; look for room in memory and in the temporary folder",
    )
}

//! A folder that is there complete or not at all.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

/// A folder under way, beside the one that it is to become: the target is there complete or not at all, whenever the process
/// ends.
///
/// ```
/// # fn main() -> logitfuse_core::Result<()> {
/// use logitfuse_onnx_graph::Staging;
///
/// let workspace = tempfile::tempdir().unwrap();
/// let target = workspace.path().join("model");
/// let staging = Staging::begin(&target, &mut |leftover| eprintln!("removed {}", leftover.display()))?;
/// std::fs::write(staging.made().join("config.json"), "{}").unwrap();
/// assert!(!target.exists());
/// staging.publish()?;
/// assert!(target.join("config.json").exists());
/// # Ok(())
/// # }
/// ```
///
/// The outer folder holds a lock for as long as the process lives; what has none was left behind by one that was killed.
pub struct Staging {
    outer: TempDir,
    _lock: File,
    target: PathBuf,
}

const LOCK: &str = "lock";

impl Staging {
    /// Begins; `leftover` is told of what an earlier, killed attempt left, which is removed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the target is no name or there is something in it, [`ErrorKind::Io`] if nothing can be
    /// written beside it.
    pub fn begin(target: &Path, leftover: &mut dyn FnMut(&Path)) -> Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{}: is no folder that could be made", target.display()),
            )
            .with_help("name a folder that does not exist yet"));
        };
        refuse_occupied(target)?;
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|e| unwritable(parent, &e))?;
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".partial-");
        remove_leftovers(parent, &prefix, leftover);
        let outer = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(|e| unwritable(parent, &e))?;
        let path = outer.path().join(LOCK);
        let lock = File::create(&path).map_err(|e| unwritable(&path, &e))?;
        // Some network file systems have no locks. There, two commands into one folder at a time may end each other's, never half.
        let _ = lock.try_lock();
        let staging = Self { outer, _lock: lock, target: target.to_owned() };
        let made = staging.made();
        fs::create_dir(&made).map_err(|e| unwritable(&made, &e))?;
        Ok(staging)
    }

    /// What becomes the target.
    pub fn made(&self) -> PathBuf {
        self.outer.path().join("made")
    }

    /// A file that is not kept.
    pub fn scratch(&self) -> PathBuf {
        self.outer.path().join("weights")
    }

    /// Writes what is in memory to the disk and gives the folder its name.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], and [`ErrorKind::InvalidConfig`] if the target came to be occupied meanwhile.
    pub fn publish(self) -> Result<()> {
        let (made, target) = (self.made(), &self.target);
        sync(&made).map_err(|e| unwritable(&made, &e))?;
        refuse_occupied(target)?;
        fs::rename(&made, target).map_err(|e| unwritable(target, &e))?;
        // The name is on the disk once its folder is; where folders cannot be opened, the system sees to that.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = File::open(parent).and_then(|parent| parent.sync_all());
        Ok(())
    }
}

fn refuse_occupied(target: &Path) -> Result<()> {
    let occupied = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    };
    if occupied {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{}: exists and is not an empty folder", target.display()),
        )
        .with_help("remove it, or choose another folder"));
    }
    Ok(())
}

fn remove_leftovers(parent: &Path, prefix: &OsString, leftover: &mut dyn FnMut(&Path)) {
    let prefix = prefix.as_encoded_bytes();
    let ours = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(prefix);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten().filter(ours) {
        let path = entry.path();
        let alive = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
        if !alive && fs::remove_dir_all(&path).is_ok() {
            leftover(&path);
        }
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn unwritable(path: &Path, e: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written: {e}", path.display()))
        .with_help("check permissions and free space, or choose another folder")
}

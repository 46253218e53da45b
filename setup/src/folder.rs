use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

use crate::{
    cache::{cannot_write, create_dir},
    manifest::Manifest,
};

/// How thoroughly a finished folder is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// That every file directly in it has its size.
    Sizes,
    /// That every file directly in it has its sha256.
    Hashes,
}

impl Check {
    fn passes(self, dir: &Path, recipe: &str) -> bool {
        match self {
            Self::Sizes => Manifest::sizes_match(dir, recipe),
            Self::Hashes => Manifest::hashes_match(dir, recipe),
        }
    }
}

/// Makes the folder `target` once: `make` fills a folder beside it that takes its name only when whole.
///
/// Half a model looks like a model to a loader, so nothing half made may ever carry the final name.
///
/// ```
/// use logitfuse_setup::{Check, make_once};
///
/// let dir = tempfile::tempdir()?;
/// let target = dir.path().join("greetings");
/// for _ in 0..2 {
///     make_once(&target, "greetings in English, version 1", Check::Hashes, &mut |_| {}, |fresh, _| {
///         std::fs::write(fresh.join("hello.txt"), "hello").expect("a fresh folder can be written");
///         Ok(())
///     })?;
/// }
/// assert!(target.join("hello.txt").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A folder that is there, was made by the same `recipe` and passes `check` is left alone, even where nothing can be
/// written. A folder that logitfuse did not make is refused. Two processes take turns, and the second finds the work
/// done. What a killed process left behind is removed by the next one. `make` may use the folder that the fresh one
/// lies in for what is not to be kept.
pub fn make_once(
    target: &Path,
    recipe: &str,
    check: Check,
    progress: &mut dyn FnMut(&str),
    make: impl FnOnce(&Path, &mut dyn FnMut(&str)) -> Result<()>,
) -> Result<()> {
    if check.passes(target, recipe) {
        return Ok(());
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        let message = format!("{}: is not a folder that could be made", target.display());
        return Err(Error::new(ErrorKind::InvalidConfig, message).with_help("name a folder that does not exist yet"));
    };
    refuse_foreign(target)?;
    create_dir(parent)?;
    let _lock = lock(parent, &hidden(name, "lock"), progress)?;
    if check.passes(target, recipe) {
        return Ok(());
    }

    let prefix = hidden(name, "partial-");
    remove_stale(parent, &prefix);
    let staging = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(|e| cannot_write(parent, e))?;
    // Its permissions are those of a secret; what is made here is none.
    let fresh = staging.path().join("made");
    create_dir(&fresh)?;
    make(&fresh, progress)?;
    Manifest::write(&fresh, recipe)?;
    publish(&fresh, target, &staging).map_err(|e| cannot_write(target, e))
}

fn hidden(name: &std::ffi::OsStr, suffix: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    hidden
}

/// Refuses a folder that is not empty and has no manifest: it is the user's.
fn refuse_foreign(target: &Path) -> Result<()> {
    let occupied = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.exists(),
    };
    if occupied && !Manifest::exists_in(target) {
        let message = format!("{}: exists and was not made by logitfuse", target.display());
        return Err(Error::new(ErrorKind::InvalidConfig, message).with_help("remove it, or choose another folder"));
    }
    Ok(())
}

/// Held until the file is dropped; the operating system releases it if we are killed.
fn lock(parent: &Path, name: &OsString, progress: &mut dyn FnMut(&str)) -> Result<File> {
    let file = File::create(parent.join(name)).map_err(|e| cannot_write(parent, e))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        progress("waiting for another process that makes the same");
        file.lock().map_err(|e| cannot_write(parent, e))?;
    }
    // Some network file systems have no locks. Without one, work may be done twice but is never seen half done.
    Ok(file)
}

/// Removes what killed processes left. The lock is held, so no other process works on it.
fn remove_stale(parent: &Path, prefix: &OsString) {
    let prefix = prefix.as_encoded_bytes();
    let stale = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(prefix);
    for entry in fs::read_dir(parent).into_iter().flatten().flatten().filter(stale) {
        // Only disk space is at stake.
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Renames `fresh` to `target`; a damaged predecessor moves into `staging` and goes with it.
fn publish(fresh: &Path, target: &Path, staging: &TempDir) -> io::Result<()> {
    if target.exists() {
        fs::rename(target, staging.path().join("replaced"))?;
    }
    fs::rename(fresh, target)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn make(target: &Path, content: &str) -> Result<()> {
        make_once(target, "r", Check::Hashes, &mut |_| {}, |dir, _| {
            fs::write(dir.join("file"), content).map_err(|e| cannot_write(dir, e))
        })
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_whole_folder_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a/b");
        make(&target, "first").unwrap();
        make(&target, "second").unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "first");
    }

    #[test]
    fn a_damaged_folder_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("b");
        make(&target, "first").unwrap();
        fs::write(target.join("file"), "FIRST").unwrap();
        make(&target, "second").unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "second");
        assert_eq!(names(dir.path()), [".b.lock", "b"]);
    }

    #[test]
    fn a_failure_leaves_neither_target_nor_rubbish() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("b");
        fs::create_dir(dir.path().join(".b.partial-killed")).unwrap();
        let failed = make_once(&target, "r", Check::Sizes, &mut |_| {}, |dir, _| {
            fs::write(dir.join("half"), "").map_err(|e| cannot_write(dir, e))?;
            Err(Error::new(ErrorKind::Io, "x: broke"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "x: broke");
        assert_eq!(names(dir.path()), [".b.lock"]);
    }

    #[test]
    fn a_foreign_folder_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let error = make(dir.path(), "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert_eq!(names(dir.path()), ["thesis.tex"]);
    }

    #[test]
    fn many_at_once_make_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("b");
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    make_once(&target, "r", Check::Hashes, &mut |_| {}, |dir, _| {
                        made.fetch_add(1, Ordering::Relaxed);
                        fs::write(dir.join("file"), "x").map_err(|e| cannot_write(dir, e))
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_parent_that_cannot_be_written_is_one_line_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        // A file where a folder should be fails for every user, root included.
        fs::write(dir.path().join("cache"), "").unwrap();
        let error = make(&dir.path().join("cache/runtime/x"), "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(!error.to_string().contains('\n'));
        assert!(error.help().unwrap().contains("LOGITFUSE_CACHE_DIR"));
    }
}

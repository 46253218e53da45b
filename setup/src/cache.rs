use std::path::{Path, PathBuf};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{Environment, env};

/// The folder for what logitfuse installs; it need not exist yet.
///
/// `LOGITFUSE_CACHE_DIR`, else `logitfuse` in the user's cache folder: `XDG_CACHE_HOME`, `~/Library/Caches` on macOS,
/// `LOCALAPPDATA` on Windows, `~/.cache` elsewhere.
///
/// ```
/// use logitfuse_setup::{Environment, cache_dir, env};
///
/// let env = Environment::empty("/").with(&env::XDG_CACHE_HOME, "/var/cache/me");
/// assert_eq!(cache_dir(&env)?, std::path::Path::new("/var/cache/me/logitfuse"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub fn cache_dir(env: &Environment) -> Result<PathBuf> {
    if let Some(dir) = env.path(&env::CACHE_DIR) {
        return Ok(dir);
    }
    let of_user = env.path(&env::XDG_CACHE_HOME).or_else(|| {
        if cfg!(windows) {
            env.path(&env::LOCALAPPDATA)
        } else {
            let below_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
            env.path(&env::HOME).map(|home| home.join(below_home))
        }
    });
    of_user.map(|dir| dir.join("logitfuse")).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "cache folder: neither LOGITFUSE_CACHE_DIR nor a home folder is set")
            .with_help("set LOGITFUSE_CACHE_DIR to a folder that can be written")
    })
}

/// Makes a folder and all above it.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| cannot_write(dir, e))
}

/// The error of a folder that is read-only, full, or not a folder.
pub(crate) fn cannot_write(dir: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: cannot be written: {e}", dir.display()))
        .with_help("make the folder writable, or set LOGITFUSE_CACHE_DIR (models: --out) to one that is")
        .with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_variable_wins_and_no_home_is_an_error() {
        let env = Environment::empty("/x").with(&env::XDG_CACHE_HOME, "/xdg").with(&env::CACHE_DIR, "ours");
        assert_eq!(cache_dir(&env).unwrap(), Path::new("/x/ours"));
        let error = cache_dir(&Environment::empty("/x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.help().unwrap().contains("LOGITFUSE_CACHE_DIR"));
    }
}

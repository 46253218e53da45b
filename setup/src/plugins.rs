//! Where plugins are looked for on a machine.

use std::path::{Path, PathBuf};

use crate::{Environment, env};

/// The folders of plugins of this machine, in the order in which they are searched, each with its origin: those of
/// `LOGITFUSE_PLUGIN_PATH`, the user's own, and the one that belongs to the program `executable`. They need not exist.
///
/// ```
/// use std::path::Path;
///
/// use logitfuse_setup::{Environment, env, plugin_dirs};
///
/// let env = Environment::empty("/").with(&env::PLUGIN_PATH, "/a:/b").with(&env::HOME, "/home/me");
/// let dirs = plugin_dirs(&env, Some(Path::new("/usr/bin/logitfuse")));
/// # #[cfg(target_os = "linux")]
/// assert_eq!(dirs[2], ("/home/me/.local/share/logitfuse/plugins".into(), "the user's data folder"));
/// # #[cfg(target_os = "linux")]
/// assert_eq!(dirs[3], ("/usr/lib/logitfuse/plugins".into(), "the installation"));
/// ```
pub fn plugin_dirs(env: &Environment, executable: Option<&Path>) -> Vec<(PathBuf, &'static str)> {
    let mut dirs: Vec<(PathBuf, &str)> =
        env.path_list(&env::PLUGIN_PATH).into_iter().map(|dir| (dir, env::PLUGIN_PATH.name)).collect();
    let data = if cfg!(windows) {
        env.path(&env::LOCALAPPDATA)
    } else if cfg!(target_os = "macos") {
        env.path(&env::HOME).map(|home| home.join("Library/Application Support"))
    } else {
        env.path(&env::XDG_DATA_HOME).or_else(|| env.path(&env::HOME).map(|home| home.join(".local/share")))
    };
    dirs.extend(data.map(|data| (data.join("logitfuse").join("plugins"), "the user's data folder")));
    let prefix = executable.and_then(Path::parent).and_then(Path::parent);
    dirs.extend(prefix.map(|prefix| (prefix.join("lib").join("logitfuse").join("plugins"), "the installation")));
    dirs
}

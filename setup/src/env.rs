//! The environment variables that logitfuse reads, declared once, and the [`Environment`] they are read from.
//!
//! Nothing that changes a result comes from the environment: these say where things are on this machine.
//!
//! ```
//! use logitfuse_setup::{Environment, cache_dir, env};
//!
//! let env = Environment::empty("/work").with(&env::CACHE_DIR, "/tmp/cache");
//! assert_eq!(cache_dir(&env)?, std::path::Path::new("/tmp/cache"));
//! # Ok::<(), logitfuse_core::Error>(())
//! ```

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

/// An environment variable and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// One line for people.
    pub purpose: &'static str,
}

macro_rules! variables {
    ($($constant:ident = $name:literal: $purpose:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $purpose, ".")]
            pub const $constant: Variable = Variable { name: $name, purpose: $purpose };
        )*
        /// Every variable that logitfuse reads, its own first.
        pub const ALL: &[Variable] = &[$($constant),*];
    };
}

variables! {
    CACHE_DIR = "LOGITFUSE_CACHE_DIR": "folder for what logitfuse installs";
    ORT_LIB = "LOGITFUSE_ORT_LIB": "the ONNX Runtime library to load, or a folder that holds it";
    MODELS = "LOGITFUSE_MODELS": "folder that models are made in and looked for";
    TINY_MODELS = "LOGITFUSE_TINY_MODELS": "generated decoders that the tests run on";
    TEST_PLUGINS = "LOGITFUSE_TEST_PLUGINS": "folder of the built libraries of plugins that the tests load";
    PEER_PYTHON = "LOGITFUSE_PEER_PYTHON": "Python with the packages that the tests compare with";
    API_KEYS = "LOGITFUSE_API_KEYS": "API keys that a server admits, one a line";
    PLUGIN_PATH = "LOGITFUSE_PLUGIN_PATH": "folders of plugins, before those of the user and of the installation";
    ORT_DYLIB_PATH = "ORT_DYLIB_PATH": "as LOGITFUSE_ORT_LIB, which goes before it; other programs know this name";
    XDG_CACHE_HOME = "XDG_CACHE_HOME": "parent of the cache folder, if LOGITFUSE_CACHE_DIR is not set";
    XDG_DATA_HOME = "XDG_DATA_HOME": "parent of the user's folder of plugins";
    HOME = "HOME": "home folder, parent of the cache folder on Unix";
    LOCALAPPDATA = "LOCALAPPDATA": "parent of the cache folder on Windows";
    PATH = "PATH": "where python3 is looked for";
    VIRTUAL_ENV = "VIRTUAL_ENV": "the active Python environment; its Python goes before the one on PATH";
    LD_LIBRARY_PATH = "LD_LIBRARY_PATH": "folders that are searched for a system-wide ONNX Runtime first";
}

/// The environment of a process: its variables, its folder, the machine's library folders.
///
/// Functions take one instead of reading `std::env`, so that a host application or a test decides what they see. Child
/// processes get exactly these variables too.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    current_dir: PathBuf,
    system_lib_dirs: Vec<PathBuf>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            // A process can outlive its folder; relative paths then fail where they are used, with their name.
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            system_lib_dirs: system_lib_dirs(),
        }
    }

    /// One with no variables and no system libraries.
    pub fn empty(current_dir: impl Into<PathBuf>) -> Self {
        Self { variables: BTreeMap::new(), current_dir: current_dir.into(), system_lib_dirs: Vec::new() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, variable: &Variable, value: impl Into<OsString>) -> Self {
        self.variables.insert(variable.name.into(), value.into());
        self
    }

    /// Takes a variable away from child processes.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(OsStr::new(name));
        self
    }

    /// Sets the folders that hold the machine's shared libraries.
    #[must_use]
    pub fn with_system_lib_dirs(mut self, dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        self.system_lib_dirs = dirs.into_iter().collect();
        self
    }

    /// A variable's value; one that is empty counts as not set.
    pub fn get(&self, variable: &Variable) -> Option<&OsStr> {
        let same = |name: &OsStr| name == variable.name || (cfg!(windows) && name.eq_ignore_ascii_case(variable.name));
        let (_, value) = self.variables.iter().find(|(name, _)| same(name))?;
        (!value.is_empty()).then_some(value)
    }

    /// A variable that holds a path, made absolute.
    pub fn path(&self, variable: &Variable) -> Option<PathBuf> {
        self.get(variable).map(|value| self.absolute(Path::new(value)))
    }

    /// A variable that holds a list of folders.
    pub(crate) fn path_list(&self, variable: &Variable) -> Vec<PathBuf> {
        let dirs = self.get(variable).map(std::env::split_paths);
        dirs.into_iter().flatten().filter(|dir| !dir.as_os_str().is_empty()).map(|dir| self.absolute(&dir)).collect()
    }

    /// The folder that relative paths start from.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        self.current_dir.join(path)
    }

    pub(crate) fn system_lib_dirs(&self) -> &[PathBuf] {
        &self.system_lib_dirs
    }

    /// A program to be started with these variables in `dir`.
    pub(crate) fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir(dir);
        command
    }
}

fn system_lib_dirs() -> Vec<PathBuf> {
    let dirs: &[&str] = if cfg!(target_os = "macos") {
        &["/opt/homebrew/lib", "/usr/local/lib"]
    } else if cfg!(windows) {
        // Not System32: the onnxruntime.dll that Windows keeps there is its own, old one.
        &[]
    } else if cfg!(target_arch = "aarch64") {
        &["/usr/local/lib", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib"]
    } else {
        &["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib"]
    };
    dirs.iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_declared_once_with_a_purpose() {
        let mut names: Vec<_> = ALL.iter().map(|v| v.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|v| v.purpose.len() > 10));
    }

    #[test]
    fn an_empty_value_counts_as_not_set_and_relative_paths_start_from_the_current_dir() {
        let env = Environment::empty("/here").with(&CACHE_DIR, "").with(&ORT_LIB, "lib/x.so");
        assert_eq!(env.get(&CACHE_DIR), None);
        assert_eq!(env.path(&ORT_LIB).unwrap(), Path::new("/here/lib/x.so"));
        assert_eq!(env.path_list(&LD_LIBRARY_PATH), Vec::<PathBuf>::new());
    }

    #[cfg(unix)]
    #[test]
    fn a_child_sees_these_variables_and_no_others() {
        let env = Environment::empty("/").with(&ORT_LIB, "x");
        let output = env.command(Path::new("/usr/bin/env"), Path::new("/")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "LOGITFUSE_ORT_LIB=x");
    }
}

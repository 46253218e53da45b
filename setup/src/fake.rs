//! A machine for tests: a `python3` that is a shell script.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Environment, env};

/// An environment in `dir` whose only program beside the system's is a `python3` with this body.
pub(crate) fn machine(dir: &Path, python: &str) -> Environment {
    program(&dir.join("bin/python3"), python);
    let path = format!("{}:/usr/bin:/bin", dir.join("bin").display());
    Environment::empty(dir).with(&env::PATH, path).with(&env::CACHE_DIR, "cache")
}

/// Writes an executable script.
///
/// A child process does the writing: had we the file open for writing while another test forks, executing it could fail
/// as busy.
pub(crate) fn program(path: &Path, body: &str) {
    let script = "mkdir -p \"$(dirname \"$0\")\" && cat > \"$0\" && chmod 755 \"$0\"";
    let mut shell = Command::new("sh").args(["-c", script]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    write!(shell.stdin.take().unwrap(), "#!/bin/sh\n{body}\n").unwrap();
    assert!(shell.wait().unwrap().success());
}

//! How every Python is started: nothing that lies in the working directory of the user may become its code.

use std::{ffi::OsStr, path::Path, process::Output};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use tempfile::TempDir;

use crate::Environment;

/// What an interpreter may import besides its own library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Imports {
    /// Nothing.
    Nothing,
    /// What the user installed: pip and packages are often in the user's own folder alone.
    Installed,
    /// What lies beside the script that is run.
    BesideScript,
}

/// Runs a Python to its end, in a folder of its own that is empty. So every path in `args` has to be absolute.
///
/// `-c` and `-m` import from the working directory before anything else, and so do empty and relative parts of
/// `PYTHONPATH`; only from 3.11 on can a Python be told otherwise and still find what the user installed. The wrappers of
/// version managers read their settings there, too. In an empty folder none of them finds anything.
pub(crate) fn output(
    env: &Environment,
    program: &Path,
    imports: Imports,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Output> {
    let empty = TempDir::new().map_err(|e| {
        Error::new(ErrorKind::Io, format!("{}: no folder can be made in it: {e}", std::env::temp_dir().display()))
            .with_help("Python is started in an empty folder: set TMPDIR to a folder that can be written")
            .with_source(e)
    })?;
    let mut command = env.command(program, empty.path());
    match imports {
        Imports::Nothing => command.arg("-I"),
        Imports::Installed => command.env("PYTHONSAFEPATH", "1"),
        // It would take the script's own folder away.
        Imports::BesideScript => command.env_remove("PYTHONSAFEPATH").env_remove("PYTHONPATH"),
    };
    // These would make pip install elsewhere than where it is told to.
    command.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0").env_remove("PIP_TARGET").env_remove("PIP_PREFIX");
    command.args(args).output().or_err(ErrorKind::Io, program.display())
}

#[cfg(test)]
mod planted;

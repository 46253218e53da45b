use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    Environment, cache, env,
    folder::{Check, make_once},
    interpreter::{self, Imports},
    manifest::sha256_of_texts,
};

/// The oldest Python that the packages we pin have wheels for.
const OLDEST: (u32, u32) = (3, 10);

/// A Python interpreter, the one tool that a machine needs for set-up.
///
/// Only pip and venv *without* its bundled pip are used, so that a distribution's plain `python3` and `python3-pip` are
/// enough and nothing is ever installed into the user's own environment.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
    env: Environment,
}

impl Python {
    /// That of the active virtual environment, else `python3` or `python` on PATH. Relative folders on PATH do not count: what lies
    /// in them depends on the working directory, which may be a stranger's. For the same reason every Python is started in an empty
    /// folder of its own, where version managers find none of their settings for single projects.
    ///
    /// ```
    /// use logitfuse_setup::{Environment, Python};
    ///
    /// let error = Python::find(&Environment::empty("/")).unwrap_err();
    /// assert!(error.help().unwrap().contains("python3"));
    /// ```
    pub fn find(env: &Environment) -> Result<Self> {
        let Some(program) = program(env) else {
            return Err(Error::new(ErrorKind::NotFound, "python3: not found on PATH").with_help(INSTALL_PYTHON));
        };
        let python = Self { program, env: env.clone() };
        // Not isolated: a Python 2 does not know the flag and could not say what it is.
        let version = python.run(Imports::Installed, ["-c", VERSION])?;
        let mut numbers = version.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            let message = format!("{}: says version {version:?}, which is none", python.program.display());
            return Err(Error::new(ErrorKind::Io, message).with_help(INSTALL_PYTHON));
        };
        if (major, minor) < OLDEST {
            let message = format!("{}: is Python {major}.{minor}, 3.10 is needed", python.program.display());
            return Err(Error::new(ErrorKind::Unsupported, message).with_help(INSTALL_PYTHON));
        }
        Ok(python)
    }

    /// The interpreter.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a script to its end; gives back what it wrote to stdout. If it fails, the error is the last line of its stderr.
    ///
    /// It imports what lies beside it and what is installed, and works in an empty folder, so paths among `args` have to be absolute.
    pub fn run_script(&self, script: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.run(Imports::BesideScript, std::iter::once(script.as_os_str().to_owned()).chain(args))
    }

    pub(crate) fn run(&self, imports: Imports, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let output = interpreter::output(&self.env, &self.program, imports, args)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let program = self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy();
        Err(Error::new(ErrorKind::Io, format!("{program}: {}", last_line(&output))))
    }

    /// A Python that sees the packages in `requirements` (the text of a requirements file) and nothing else, made in
    /// `dir` on first use.
    pub fn with_packages(&self, dir: &Path, requirements: &str, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let version = self.run(Imports::Nothing, ["-c", "import sys; print(sys.version, sys.base_prefix)"])?;
        let recipe = format!("python packages {}", sha256_of_texts([requirements, &version]));
        make_once(dir, &recipe, Check::Sizes, progress, |fresh, progress| {
            progress(&format!("pip: installing packages into an environment of their own, {}", dir.display()));
            let venv = ["-m", "venv", "--without-pip"].map(OsStr::new);
            self.run(Imports::Nothing, venv.into_iter().chain([fresh.as_os_str()])).map_err(|e| {
                e.with_help("Python's venv module is needed: on Debian and Ubuntu, `apt install python3-venv`")
            })?;
            let inside = self.inside(fresh);
            let packages =
                inside.run(Imports::Nothing, ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])?;
            let list = fresh.join("requirements.txt");
            fs::write(&list, requirements).map_err(|e| cache::cannot_write(fresh, e))?;
            // The user's pip installs into the folder that the new environment imports from: that needs no pip inside it.
            let args = ["install", "--only-binary=:all:", "--target", &packages, "--requirement"];
            self.pip(args.iter().map(OsStr::new).chain([list.as_os_str()]))
        })?;
        Ok(self.inside(dir))
    }

    /// The user's pip, with the user's indexes and mirrors.
    pub(crate) fn pip(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
        let pip = ["-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"].map(Into::into);
        let args: Vec<OsString> = pip.into_iter().chain(args.into_iter().map(|a| a.as_ref().to_owned())).collect();
        let output = interpreter::output(&self.env, &self.program, Imports::Installed, &args)?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let help = if stderr.contains("No module named pip") {
            "install pip: `apt install python3-pip`, `dnf install python3-pip` or `python3 -m ensurepip`"
        } else if ["Retrying (", "Temporary failure in name resolution", "NewConnectionError"]
            .iter()
            .any(|s| stderr.contains(s))
        {
            "pip could not reach its package index: check the network, a proxy, and `python3 -m pip config list`"
        } else {
            "pip's own settings decide where it looks: see `python3 -m pip config list`"
        };
        Err(Error::new(ErrorKind::Io, format!("pip: {}", last_line(&output))).with_help(help))
    }

    /// The interpreter of a virtual environment.
    fn inside(&self, venv: &Path) -> Self {
        // Both would let other packages shadow the ones in there.
        let env = ["PYTHONPATH", "PYTHONHOME"].iter().fold(self.env.clone(), |env, name| env.without(name));
        Self { program: venv_program(venv), env }
    }
}

/// In words of every Python, of 2 too.
const VERSION: &str = "import sys; print('%d %d' % sys.version_info[:2])";
const INSTALL_PYTHON: &str = "install Python 3.10 or newer with pip, so that `python3 -m pip --version` works";

fn venv_program(venv: &Path) -> PathBuf {
    venv.join(if cfg!(windows) { r"Scripts\python.exe" } else { "bin/python" })
}

fn program(env: &Environment) -> Option<PathBuf> {
    let active = env.path(&env::VIRTUAL_ENV).map(|venv| venv_program(&venv));
    let suffix = std::env::consts::EXE_SUFFIX;
    let dirs: Vec<PathBuf> = env.get(&env::PATH).map(std::env::split_paths).into_iter().flatten().collect();
    let on_path = ["python3", "python"].into_iter().flat_map(|name| {
        let absolute = dirs.iter().filter(|dir| dir.is_absolute());
        absolute.map(move |dir| dir.join(format!("{name}{suffix}")))
    });
    active.into_iter().chain(on_path).find(|program| program.is_file())
}

/// The message of a failed program: the last `ERROR:` line, else the last line at all.
fn last_line(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().filter_map(|line| line.strip_prefix("ERROR:")).next_back();
    error.or_else(|| lines().next_back()).map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    fn find(script: &str) -> Result<Python> {
        let dir = tempfile::tempdir().unwrap();
        Python::find(&fake::machine(dir.path(), script))
    }

    fn pip_error(script: &str) -> Error {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("case $* in *version_info*) echo 3 12;; *) {script}; exit 1;; esac");
        Python::find(&fake::machine(dir.path(), &script)).unwrap().pip(["download", "x"]).unwrap_err()
    }

    #[test]
    fn the_active_virtual_environment_goes_before_path() {
        let dir = tempfile::tempdir().unwrap();
        let env = fake::machine(dir.path(), "echo 3 12");
        assert_eq!(Python::find(&env).unwrap().program(), dir.path().join("bin/python3"));
        fake::program(&dir.path().join("venv/bin/python"), "echo 3 13");
        let env = env.with(&env::VIRTUAL_ENV, "venv");
        assert_eq!(Python::find(&env).unwrap().program(), dir.path().join("venv/bin/python"));
    }

    #[test]
    fn an_old_python_is_refused_with_both_versions() {
        let error = find("echo 3 8").unwrap_err();
        assert!(error.to_string().ends_with("is Python 3.8, 3.10 is needed"), "{error}");
    }

    #[test]
    fn something_that_is_no_python_is_an_error() {
        assert!(find("echo hello").unwrap_err().to_string().contains("hello"));
        assert_eq!(
            find("echo 'broken: no libpython' >&2; exit 1").unwrap_err().to_string(),
            "python3: broken: no libpython"
        );
    }

    #[test]
    fn a_missing_pip_says_how_to_get_it() {
        let error = pip_error("echo /usr/bin/python3: No module named pip >&2");
        assert_eq!(error.to_string(), "pip: /usr/bin/python3: No module named pip");
        assert!(error.help().unwrap().contains("python3-pip"));
    }

    #[test]
    fn offline_is_told_by_pips_last_error_line() {
        let error = pip_error(
            "echo 'WARNING: Retrying (Retry(total=0))' >&2; echo 'ERROR: No matching distribution found for x' >&2; echo >&2",
        );
        assert_eq!(error.to_string(), "pip: No matching distribution found for x");
        assert!(error.help().unwrap().contains("network"));
    }

    #[test]
    fn packages_are_installed_once_per_requirements() {
        let dir = tempfile::tempdir().unwrap();
        let env = fake::machine(
            dir.path(),
            "echo \"$*\" >> \"${0%/bin/*}/log\"
             case \"$*\" in
               *'-m venv'*) mkdir -p \"$5/bin\"; printf '#!/bin/sh\\necho site' > \"$5/bin/python\"; chmod +x \"$5/bin/python\";;
               *version_info*) echo 3 12;;
             esac",
        );
        let python = Python::find(&env).unwrap();
        let venv = dir.path().join("tools");
        for requirements in ["a==1", "a==1", "a==2"] {
            let inside = python.with_packages(&venv, requirements, &mut |_| {}).unwrap();
            assert_eq!(inside.program(), venv.join("bin/python"));
        }
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(log.lines().filter(|line| line.contains("--target site")).count(), 2, "{log}");
        assert_eq!(fs::read_to_string(venv.join("requirements.txt")).unwrap(), "a==2");
    }
}

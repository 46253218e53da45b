//! The command in a working directory that holds modules which Python would import.

use std::{fs, path::Path};

use assert_cmd::Command;

use crate::support::binary;

#[test]
fn no_command_runs_what_lies_in_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("MARKS");
    for name in ["pip", "warnings", "types", "importlib", "encodings", "site", "sitecustomize", "onnxruntime"] {
        let body = format!("open(r'{}', 'a').write('{name}\\n')\n", marks.display());
        fs::write(folder.path().join(format!("{name}.py")), body).unwrap();
    }
    fs::write(folder.path().join("x.toml"), "schema = 1\n[[source]]\nid = \"m\"\nmodel = \"m\"\n").unwrap();
    // An empty cache, so that the search goes on to Python and beyond it.
    let cache = tempfile::tempdir().unwrap();
    let run = |args: &[&str], path: &Path| {
        let mut command = Command::new(binary());
        command.current_dir(path).args(args).env("LOGITFUSE_CACHE_DIR", cache.path());
        command.env_remove("LOGITFUSE_ORT_LIB").env_remove("ORT_DYLIB_PATH").env("PYTHONPATH", ":.");
        command.output().unwrap()
    };
    for args in [
        &["doctor"][..],
        &["runtime", "show"],
        &["generate", "--model", "m", "a"],
        &["run", "x.toml"],
        &["plan", "x.toml"],
        &["models", "inspect", "m"],
        &["tape", "record", "x.toml", "-o", "t"],
    ] {
        let output = run(args, folder.path());
        assert!(output.status.code().is_some(), "{args:?}: {output:?}");
        assert_eq!(fs::read_to_string(&marks).unwrap_or_default(), "", "{args:?} ran these");
    }
    let shown = run(&["runtime", "show"], folder.path());
    let shown = String::from_utf8(shown.stdout).unwrap();
    let asked = shown.lines().find(|line| line.starts_with("Python package"));
    assert!(asked.is_some_and(|line| line.contains("python") && !line.contains("not found")), "{shown}");
}

//! How ONNX Runtime's shared library is called, and which of several to take.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Below a folder that a user may name: a release archive keeps the library in `lib`, a Python package in `capi`.
const BELOW: [&str; 4] = ["", "lib", "capi", "onnxruntime/capi"];

/// Whether a file is ONNX Runtime or one of its execution providers, rather than its Python bindings.
pub(super) fn belongs_to_runtime(file_name: &str) -> bool {
    let (start, part) = match std::env::consts::OS {
        "windows" => ("onnxruntime", ".dll"),
        "macos" => ("libonnxruntime", ".dylib"),
        _ => ("libonnxruntime", ".so"),
    };
    file_name.starts_with(start) && file_name.contains(part)
}

/// Whether a file is ONNX Runtime itself: `libonnxruntime.so[.VERSION]`, `libonnxruntime[.VERSION].dylib`,
/// `onnxruntime.dll`.
fn is_runtime(file_name: &str) -> bool {
    belongs_to_runtime(file_name) && !file_name.contains("_providers")
}

/// The library in `dir` or where such folders keep it; of several versions the newest.
pub(super) fn in_folder(dir: &Path) -> Option<PathBuf> {
    BELOW.iter().find_map(|below| directly_in(&dir.join(below)))
}

/// The library that lies in `dir`; of several versions the newest.
pub(super) fn directly_in(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let libraries = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        (is_runtime(&name) && entry.path().is_file()).then(|| (version(&name), name))
    });
    libraries.max().map(|(_, name)| dir.join(name))
}

/// The numbers in a file name, so that 1.9 sorts below 1.32 and a name without a version below both.
fn version(file_name: &str) -> Vec<u32> {
    file_name.split('.').filter_map(|part| part.parse().ok()).collect()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_is_taken_and_providers_and_bindings_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so",
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime_providers_shared.so",
            "onnxruntime_pybind11_state.cpython-312-x86_64-linux-gnu.so",
            "libonnxruntime.so.1.33.0/folder",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(in_folder(dir.path()), Some(dir.path().join("libonnxruntime.so.1.32.0")));
        assert!(belongs_to_runtime("libonnxruntime_providers_cuda.so"));
        assert!(!belongs_to_runtime("onnxruntime_pybind11_state.so"));
    }

    #[test]
    fn a_release_archive_and_a_python_package_may_be_named_by_their_root() {
        for below in ["lib", "onnxruntime/capi"] {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(in_folder(dir.path()), None);
            let library = dir.path().join(below).join("libonnxruntime.so");
            fs::create_dir_all(library.parent().unwrap()).unwrap();
            fs::write(&library, "").unwrap();
            assert_eq!(in_folder(dir.path()), Some(library));
        }
    }
}

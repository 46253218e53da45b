use std::path::{Path, PathBuf};

use logitfuse_core::{Error, ErrorKind, Result};

use super::{Candidate, FoundRuntime, Origin, install, library};
use crate::{Environment, Python, cache_dir, env, interpreter::Imports};

/// Prints the folder of the installed package without importing it; importing would load the library.
const PACKAGE_FOLDER: &str = "\
import importlib.util, sys
sys.path = [p for p in sys.path if p]
spec = importlib.util.find_spec('onnxruntime')
print(next(iter(spec.submodule_search_locations or []), '') if spec else '')";

/// The first ONNX Runtime in this order: `explicit` (a library or a folder that holds one), `LOGITFUSE_ORT_LIB`,
/// `ORT_DYLIB_PATH`, our cache, the `onnxruntime` package of the active Python, the machine's library folders.
///
/// A path that the caller or a variable names must hold a library: nothing else is tried instead.
pub fn find_runtime(env: &Environment, explicit: Option<&Path>) -> Result<FoundRuntime> {
    for origin in Origin::ALL {
        if let Some(library) = look(env, explicit, origin).outcome? {
            return Ok(FoundRuntime { library, origin });
        }
    }
    Err(Error::new(ErrorKind::NotFound, "ONNX Runtime: found nowhere on this machine")
        .with_help("run `logitfuse runtime install`, or set LOGITFUSE_ORT_LIB to a library that you have"))
}

/// Every place that [`find_runtime`] would search, with what is there, in its order.
pub fn runtime_candidates(env: &Environment, explicit: Option<&Path>) -> Vec<Candidate> {
    Origin::ALL.into_iter().map(|origin| look(env, explicit, origin)).collect()
}

/// Whether neither the caller nor a variable names a library.
pub(super) fn nothing_named(env: &Environment, explicit: Option<&Path>) -> bool {
    explicit.is_none() && env.get(&env::ORT_LIB).is_none() && env.get(&env::ORT_DYLIB_PATH).is_none()
}

fn look(env: &Environment, explicit: Option<&Path>, origin: Origin) -> Candidate {
    let (looked_in, outcome) = match origin {
        Origin::Explicit => named(explicit.map(|path| env.absolute(path)), "not given", ""),
        Origin::Variable => named(env.path(&env::ORT_LIB), "not set", "LOGITFUSE_ORT_LIB: "),
        Origin::ForeignVariable => named(env.path(&env::ORT_DYLIB_PATH), "not set", "ORT_DYLIB_PATH: "),
        Origin::Cache => in_cache(env),
        Origin::PythonPackage => in_python(env),
        Origin::System => on_system(env),
    };
    Candidate { origin, looked_in, outcome }
}

type Looked = (String, Result<Option<PathBuf>>);

fn named(path: Option<PathBuf>, absent: &str, prefix: &str) -> Looked {
    let Some(path) = path else { return (absent.to_owned(), Ok(None)) };
    let place = path.display().to_string();
    if path.is_file() {
        return (place, Ok(Some(path)));
    }
    let outcome = library::in_folder(&path).map(Some).ok_or_else(|| {
        let what = if path.is_dir() { "holds no ONNX Runtime library" } else { "no such file or folder" };
        Error::new(ErrorKind::NotFound, format!("{prefix}{place}: {what}"))
            .with_help("name the library file (libonnxruntime.so, .dylib, onnxruntime.dll) or its folder")
    });
    (place, outcome)
}

/// The CUDA build runs on the CPU as well, so it goes first where it is installed.
fn in_cache(env: &Environment) -> Looked {
    let Ok(cache) = cache_dir(env) else { return ("no cache folder".to_owned(), Ok(None)) };
    let folders = [true, false].into_iter().filter_map(|cuda| install::installed(&cache, cuda));
    let library = folders.into_iter().find_map(|folder| library::directly_in(&folder));
    (install::runtimes(&cache).display().to_string(), Ok(library))
}

fn in_python(env: &Environment) -> Looked {
    let python = match Python::find(env) {
        Ok(python) => python,
        Err(e) => return (e.to_string(), Ok(None)),
    };
    let folder = python.run(Imports::Installed, ["-c", PACKAGE_FOLDER]).unwrap_or_default();
    let library = (!folder.is_empty()).then(|| library::in_folder(Path::new(&folder))).flatten();
    (python.program().display().to_string(), Ok(library))
}

fn on_system(env: &Environment) -> Looked {
    let first = env.path_list(&env::LD_LIBRARY_PATH);
    let library = first.iter().chain(env.system_lib_dirs()).find_map(|dir| library::directly_in(dir));
    ("LD_LIBRARY_PATH and the system's library folders".to_owned(), Ok(library))
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{fake, manifest::Manifest};

    /// A machine that has an ONNX Runtime in every place.
    struct Machine {
        dir: tempfile::TempDir,
        env: Environment,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for place in ["explicit", "ours", "foreign", "site/onnxruntime/capi", "system"] {
                library(&at(place));
            }
            let cached = install::runtime_dir(&at("cache"), false);
            library(&cached);
            Manifest::write(&cached, &install::recipe(false).unwrap()).unwrap();

            let site = at("site/onnxruntime");
            let python = format!("case $* in *version_info*) echo 3 12;; *) echo {};; esac", site.display());
            let env = fake::machine(dir.path(), &python)
                .with(&env::ORT_LIB, "ours")
                .with(&env::ORT_DYLIB_PATH, at("foreign/libonnxruntime.so"))
                .with_system_lib_dirs([at("system")]);
            Self { dir, env }
        }

        fn without(mut self, variable: &env::Variable) -> Self {
            self.env = self.env.with(variable, "");
            self
        }

        fn check(&self, explicit: Option<&str>, expected: Origin, folder: &str) {
            let found = find_runtime(&self.env, explicit.map(Path::new)).unwrap();
            let library = self.dir.path().join(folder).join("libonnxruntime.so");
            assert_eq!(found, FoundRuntime { library, origin: expected });
        }
    }

    fn library(dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("libonnxruntime.so"), "").unwrap();
    }

    #[test]
    fn places_are_searched_in_the_documented_order() {
        let machine = Machine::new();
        machine.check(Some("explicit"), Origin::Explicit, "explicit");
        machine.check(None, Origin::Variable, "ours");
        let machine = machine.without(&env::ORT_LIB);
        machine.check(None, Origin::ForeignVariable, "foreign");
        let machine = machine.without(&env::ORT_DYLIB_PATH);
        machine.check(None, Origin::Cache, install::runtime_dir(Path::new("cache"), false).to_str().unwrap());
        let machine = machine.without(&env::CACHE_DIR);
        machine.check(None, Origin::PythonPackage, "site/onnxruntime/capi");
        let machine = machine.without(&env::PATH);
        machine.check(None, Origin::System, "system");
        let nothing = machine.env.clone().with_system_lib_dirs([]);
        assert_eq!(find_runtime(&nothing, None).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_named_place_that_holds_nothing_is_an_error_even_if_others_hold_one() {
        let machine = Machine::new();
        let error = find_runtime(&machine.env, Some(Path::new("nowhere"))).unwrap_err();
        assert!(error.to_string().ends_with("nowhere: no such file or folder"), "{error}");
        let env = machine.env.clone().with(&env::ORT_LIB, "bin");
        let error = find_runtime(&env, None).unwrap_err();
        assert!(error.to_string().starts_with("LOGITFUSE_ORT_LIB: "), "{error}");
        assert!(error.to_string().ends_with("bin: holds no ONNX Runtime library"), "{error}");
        assert!(!nothing_named(&env, None));
    }

    #[test]
    fn a_half_installed_runtime_in_the_cache_is_passed_over() {
        let machine = Machine::new().without(&env::ORT_LIB).without(&env::ORT_DYLIB_PATH);
        let cached = install::runtime_dir(&machine.dir.path().join("cache"), false);
        fs::write(cached.join("libonnxruntime.so"), "another size").unwrap();
        machine.check(None, Origin::PythonPackage, "site/onnxruntime/capi");
    }

    #[test]
    fn the_list_names_every_place() {
        let machine = Machine::new();
        let list = runtime_candidates(&machine.env, None);
        assert_eq!(list.iter().map(|c| c.origin).collect::<Vec<_>>(), Origin::ALL);
        assert_eq!(list.iter().filter(|c| matches!(c.outcome, Ok(Some(_)))).count(), 5);
        assert_eq!(list[0].looked_in, "not given");
    }
}

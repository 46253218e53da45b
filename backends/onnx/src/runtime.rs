use std::{
    error::Error as _,
    ffi::{CStr, c_void},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use logitfuse_core::{Error, ErrorKind, Result};
use ort::{LoadDynamicError, environment::Environment};

use crate::{error, interrupt::RunStops};

/// ONNX Runtime, loaded into this process.
///
/// Why a value and not a side effect: which of several installed libraries runs a model changes numbers in the last
/// digit, so opening a model names it. Why only one: ONNX Runtime's environment is a singleton of the process.
/// Clones are handles to the same runtime. It stays loaded until the process ends. Telemetry is turned off, and
/// ONNX Runtime prints nothing: its errors come back as errors.
///
/// ```no_run
/// use logitfuse_onnx::Runtime;
///
/// let runtime = Runtime::load("/usr/lib/libonnxruntime.so".as_ref())?;
/// println!("ONNX Runtime {}", runtime.version());
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runtime(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    environment: Environment,
    version: String,
    library: PathBuf,
    stops: RunStops,
}

static CURRENT: Mutex<Option<Runtime>> = Mutex::new(None);

const INSTALL: &str = "run `logitfuse runtime install`";
const TOO_OLD: &str = "logitfuse needs ONNX Runtime 1.23 or later";
const BY_HOST: &str = "(provided by the host)";

impl Runtime {
    /// Loads the shared library of ONNX Runtime, 1.23 or later. The same path again gives the same runtime.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `InvalidData` if it is not ONNX Runtime, `Unsupported` if it is too old or
    /// another library was loaded before.
    pub fn load(library: &Path) -> Result<Self> {
        let shown = library.display();
        let library = library.canonicalize().map_err(|e| {
            Error::new(ErrorKind::NotFound, format!("{shown}: no such ONNX Runtime library ({e})")).with_help(INSTALL)
        })?;
        Self::establish(&library, || {
            let environment = ort::init_from(&library).map_err(|e| load_error(&library, &e))?;
            Ok((environment, version_in(&library).unwrap_or_else(|| "1.23 or later".into())))
        })
    }

    /// Adopts the ONNX Runtime that the host application runs already, so that one process holds one runtime:
    /// `base` is what the host's `OrtGetApiBase()` returns. The host's environment is joined, not replaced; ONNX
    /// Runtime keeps the settings that it was created with, except that telemetry is off from now on.
    ///
    /// ```no_run
    /// use std::ffi::c_void;
    ///
    /// unsafe extern "C" {
    ///     fn OrtGetApiBase() -> *const c_void;
    /// }
    /// // SAFETY: the pointer comes from the ONNX Runtime that this application is linked to, which is never unloaded.
    /// let runtime = unsafe { logitfuse_onnx::Runtime::from_api_base(OrtGetApiBase()) }?;
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` if the runtime is older than 1.23 or another one is in use; `InvalidConfig` for a null pointer.
    ///
    /// # Safety
    /// `base` must be null or point to the `OrtApiBase` of a library that stays loaded as long as the process.
    #[expect(unsafe_code, reason = "the host's runtime comes as a C pointer")]
    pub unsafe fn from_api_base(base: *const c_void) -> Result<Self> {
        // SAFETY: the caller promises that a pointer that is not null points to an `OrtApiBase` that lives on.
        let Some(base) = (unsafe { base.cast::<ort::sys::OrtApiBase>().as_ref() }) else {
            return Err(Error::new(ErrorKind::InvalidConfig, "OrtApiBase: the pointer is null")
                .with_help("pass what `OrtGetApiBase()` returns"));
        };
        // SAFETY: both functions are part of every `OrtApiBase`; the string is static and ends with a NUL.
        let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
        // SAFETY: as above. The result is null where the version is not supported, else a static table.
        let api = unsafe { (base.GetApi)(ort::sys::ORT_API_VERSION).as_ref() };
        let Some(api) = api else {
            return Err(Error::new(ErrorKind::Unsupported, format!("ONNX Runtime {version} of the host: {TOO_OLD}"))
                .with_help("update the host's ONNX Runtime"));
        };
        Self::establish(Path::new(BY_HOST), || {
            if !ort::set_api(api.clone()) {
                return Err(Error::new(ErrorKind::Unsupported, "ONNX Runtime: this process uses another one already")
                    .with_help("hand in the host's runtime before any model is opened"));
            }
            Ok((ort::init(), version))
        })
    }

    /// The runtime that this process has loaded, if any.
    pub fn current() -> Option<Self> {
        CURRENT.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The version, `1.32.0`, or `1.23 or later` where neither the library's nor its folder's name tells: the
    /// version check is on the library itself, but ONNX Runtime's API does not give the number out.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// The library, with links resolved; `(provided by the host)` for an adopted runtime.
    pub fn library(&self) -> &Path {
        &self.0.library
    }

    /// Ends what its models run, from any thread and for good: passes that are under way and all later ones end with an error
    /// of kind [`Cancelled`](ErrorKind::Cancelled). For a process that is to end.
    pub fn interrupt(&self) {
        self.0.stops.end();
    }

    pub(crate) fn stops(&self) -> &RunStops {
        &self.0.stops
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// Whatever runtime there is, or the one that `start` describes; never two.
    fn establish(
        library: &Path,
        start: impl FnOnce() -> Result<(ort::environment::EnvironmentBuilder, String)>,
    ) -> Result<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*current {
            if runtime.library() == library {
                return Ok(runtime.clone());
            }
            let (wanted, loaded) = (library.display(), runtime.library().display());
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{wanted}: this process has loaded {loaded} already"),
            )
            .with_help("one process runs one ONNX Runtime; start another process for another library"));
        }
        let (builder, version) = start()?;
        let shown = library.display();
        let environment =
            builder.with_name("logitfuse").with_telemetry(false).build().map_err(error::backend(shown))?;
        if library != Path::new(BY_HOST) {
            environment.set_log_level(ort::logging::LogLevel::Fatal);
        }
        let (library, stops) = (library.to_owned(), RunStops::default());
        let runtime = Self(Arc::new(Loaded { environment, version, library, stops }));
        *current = Some(runtime.clone());
        Ok(runtime)
    }
}

fn load_error(library: &Path, error: &LoadDynamicError) -> Error {
    let shown = library.display();
    let (kind, message) = match error {
        LoadDynamicError::BadVersion { version_str, .. } => {
            (ErrorKind::Unsupported, format!("{shown}: this is ONNX Runtime {version_str}, and {TOO_OLD}"))
        }
        LoadDynamicError::Dlopen { error, .. } => {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            (ErrorKind::InvalidData, format!("{shown}: cannot be loaded: {}", error::one_line(&cause)))
        }
        LoadDynamicError::MissingApi { .. } | LoadDynamicError::InvalidVersionString => {
            (ErrorKind::InvalidData, format!("{shown}: a library, but not ONNX Runtime"))
        }
    };
    Error::new(kind, message).with_help(INSTALL)
}

/// The version that the names of a library and its folders tell: `libonnxruntime.so.1.32.0`, `onnxruntime-1.32.0/…`.
fn version_in(library: &Path) -> Option<String> {
    library.iter().rev().filter_map(|part| part.to_str()).filter(|part| part.contains("onnxruntime")).find_map(|part| {
        let version: Vec<&str> = part
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .find(|run| run.trim_matches('.').split('.').count() == 3)?
            .trim_matches('.')
            .split('.')
            .collect();
        Some(version.join("."))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::version_in;

    #[test]
    fn versions_are_read_off_names() {
        let version = |path: &str| version_in(Path::new(path));
        assert_eq!(version("/x/onnxruntime/capi/libonnxruntime.so.1.32.0").as_deref(), Some("1.32.0"));
        assert_eq!(version("/x/libonnxruntime.1.23.2.dylib").as_deref(), Some("1.23.2"));
        assert_eq!(version("/cache/onnxruntime-1.31.1-gpu/onnxruntime.dll").as_deref(), Some("1.31.1"));
        assert_eq!(version("/python3.11.2/libonnxruntime.so"), None);
    }
}

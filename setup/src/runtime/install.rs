use std::{
    fs,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};

use super::{FoundRuntime, Origin, library};
use crate::{
    Environment, Python, cache_dir,
    folder::{Check, make_once},
    manifest::Manifest,
    wheel::PinnedWheel,
};

const CPU_VERSION: &str = "1.32.0";
/// The newest build with CUDA; it needs CUDA 13.
const CUDA_VERSION: &str = "1.31.1";

/// The wheels that we install, by operating system and processor as Rust calls them.
///
/// Of each platform one wheel is enough: the native library in it is the same whatever Python it was packed for.
const CPU_WHEELS: [(&str, &str, PinnedWheel); 5] = [
    (
        "linux",
        "x86_64",
        cpu("manylinux_2_28_x86_64", "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8"),
    ),
    (
        "linux",
        "aarch64",
        cpu("manylinux_2_28_aarch64", "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054"),
    ),
    ("macos", "aarch64", cpu("macosx_14_0_arm64", "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e")),
    ("windows", "x86_64", cpu("win_amd64", "efe7456952c243a05a53d5b8732953625144642c2f3989094277f6217f0c0c40")),
    ("windows", "aarch64", cpu("win_arm64", "64d394c69d561af3efd4d4f49dcac8f11d0ce135a20701c16d53b74056cd4cf8")),
];
const CUDA_WHEELS: [(&str, &str, PinnedWheel); 2] = [
    (
        "linux",
        "x86_64",
        cuda("manylinux_2_28_x86_64", "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7"),
    ),
    ("windows", "x86_64", cuda("win_amd64", "2bb1e9373baba88f6415257f5b6a589d23e23c16004f7d89adf4344eada5749e")),
];

const fn cpu(platform: &'static str, sha256: &'static str) -> PinnedWheel {
    PinnedWheel { package: "onnxruntime", version: CPU_VERSION, platform, sha256 }
}

const fn cuda(platform: &'static str, sha256: &'static str) -> PinnedWheel {
    PinnedWheel { package: "onnxruntime-gpu", version: CUDA_VERSION, platform, sha256 }
}

/// Installs the pinned ONNX Runtime into our cache and gives back its library; does nothing if it is there already.
///
/// The wheel comes through the user's own pip, is checked against the sha256 pinned here, and only its shared libraries
/// are kept. `cuda` takes the build with the CUDA and TensorRT providers (250 MB to download), which expects an NVIDIA
/// driver and the libraries of CUDA 13 and cuDNN 9 where the loader finds them.
pub fn install_runtime(env: &Environment, cuda: bool, progress: &mut dyn FnMut(&str)) -> Result<FoundRuntime> {
    let cache = cache_dir(env)?;
    let dir = runtime_dir(&cache, cuda);
    let recipe = recipe(cuda)?;
    make_once(&dir, &recipe, Check::Hashes, progress, |fresh, progress| {
        let python = Python::find(env)?;
        let work = fresh.with_file_name("work");
        let unpacked = pinned_wheel(cuda)?.unpack(&python, &work, progress)?;
        keep_libraries(&unpacked.join("onnxruntime/capi"), fresh)
    })?;
    let library = library::directly_in(&dir).ok_or_else(|| no_library(&dir))?;
    progress(&format!("ONNX Runtime {}: {}", if cuda { CUDA_VERSION } else { CPU_VERSION }, library.display()));
    Ok(FoundRuntime { library, origin: Origin::Cache })
}

/// The folder of an installed runtime that is whole, as far as a look at names and sizes can tell.
pub(super) fn installed(cache: &Path, cuda: bool) -> Option<PathBuf> {
    let dir = runtime_dir(cache, cuda);
    Manifest::sizes_match(&dir, &recipe(cuda).ok()?).then_some(dir)
}

pub(super) fn runtimes(cache: &Path) -> PathBuf {
    cache.join("runtime")
}

pub(super) fn runtime_dir(cache: &Path, cuda: bool) -> PathBuf {
    let name = if cuda { format!("onnxruntime-{CUDA_VERSION}-gpu") } else { format!("onnxruntime-{CPU_VERSION}") };
    runtimes(cache).join(name)
}

pub(super) fn recipe(cuda: bool) -> Result<String> {
    let wheel = pinned_wheel(cuda)?;
    Ok(format!("{} {} {}", wheel.package, wheel.version, wheel.sha256))
}

fn pinned_wheel(cuda: bool) -> Result<PinnedWheel> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    // ONNX Runtime is built against glibc; on musl its library does not load.
    let wheels: &[_] = match cuda {
        _ if cfg!(target_env = "musl") => &[],
        true => &CUDA_WHEELS,
        false => &CPU_WHEELS,
    };
    let wheel = wheels.iter().find(|(o, a, _)| (*o, *a) == (os, arch)).map(|(_, _, wheel)| *wheel);
    wheel.ok_or_else(|| {
        let build = if cuda { "with CUDA" } else { "for the CPU" };
        Error::new(ErrorKind::Unsupported, format!("{os}-{arch}: no ONNX Runtime build {build} is known"))
            .with_help("install one by other means and set LOGITFUSE_ORT_LIB to its library")
    })
}

fn keep_libraries(capi: &Path, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(capi).or_err(ErrorKind::InvalidData, capi.display())? {
        let name = entry.or_err(ErrorKind::Io, capi.display())?.file_name();
        if name.to_str().is_some_and(library::belongs_to_runtime) {
            fs::rename(capi.join(&name), dir.join(&name)).or_err(ErrorKind::Io, dir.display())?;
        }
    }
    if library::directly_in(dir).is_some() { Ok(()) } else { Err(no_library(capi)) }
}

fn no_library(dir: &Path) -> Error {
    Error::new(ErrorKind::Internal, format!("{}: no ONNX Runtime library in the pinned wheel", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_a_sha256_and_no_two_are_equal() {
        let mut pins: Vec<_> = CPU_WHEELS.iter().chain(&CUDA_WHEELS).map(|(_, _, wheel)| wheel.sha256).collect();
        assert!(pins.iter().all(|pin| pin.len() == 64 && pin.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
        pins.sort_unstable();
        pins.dedup();
        assert_eq!(pins.len(), CPU_WHEELS.len() + CUDA_WHEELS.len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_wheel_with_another_hash_installs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // A pip that "downloads" something else.
        let env = crate::fake::machine(
            dir.path(),
            "case $* in *version_info*) echo 3 12; exit;; esac
             while [ \"$1\" != --dest ]; do shift; done
             mkdir -p \"$2\"; echo evil > \"$2/x.whl\"",
        );
        let error = install_runtime(&env, false, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().starts_with("x.whl: sha256 is "), "{error}");
        let left: Vec<_> =
            fs::read_dir(dir.path().join("cache/runtime")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".onnxruntime-1.32.0.lock"]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cache"), "a file in the way").unwrap();
        let env = Environment::empty(dir.path()).with(&crate::env::CACHE_DIR, "cache");
        let error = install_runtime(&env, false, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
        assert!(error.help().unwrap().contains("LOGITFUSE_CACHE_DIR"));
    }
}

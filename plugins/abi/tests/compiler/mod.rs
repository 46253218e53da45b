//! C and C++ compilers, as strict as they get. Also a module of the tests of `logitfuse-plugin-host`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Warnings that count as errors, everywhere.
const STRICT: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];

/// What is compiled.
pub(crate) struct Unit<'a> {
    /// `c99`, `c++17`, …; the language follows from it.
    pub(crate) standard: &'a str,
    /// A source file.
    pub(crate) file: &'a Path,
    /// Where the header is.
    pub(crate) include: &'a Path,
    /// Flags beside the strict ones.
    pub(crate) flags: &'a [&'a str],
}

pub(crate) fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of `logitfuse_plugin.h`, of a crate of `plugins/`.
pub(crate) fn include() -> PathBuf {
    crate_folder().join("../abi/include")
}

/// A place for a file that a test makes.
pub(crate) fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A file with this text.
pub(crate) fn source(name: &str, text: &str) -> PathBuf {
    let file = scratch(name);
    std::fs::write(&file, text).expect("the scratch folder takes files");
    file
}

/// Compiles into `output`; the compiler's words if it has any, be they only warnings.
pub(crate) fn compile(unit: &Unit<'_>, output: &Path) -> Result<(), String> {
    let (variable, program, language) =
        if unit.standard.starts_with("c++") { ("CXX", "c++", "c++") } else { ("CC", "cc", "c") };
    let program = std::env::var_os(variable).unwrap_or_else(|| OsString::from(program));
    let mut command = Command::new(program);
    command.arg(format!("-std={}", unit.standard)).args(STRICT).arg("-I").arg(unit.include);
    command.args(["-x", language]).arg(unit.file).args(unit.flags).arg("-o").arg(output).arg("-lm");
    let result = command.output().expect("a C and a C++ compiler are installed");
    let words = String::from_utf8_lossy(&result.stderr).into_owned();
    if result.status.success() && words.is_empty() { Ok(()) } else { Err(words) }
}

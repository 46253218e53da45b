//! Starting cargo and other programs, visibly.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The root of the checkout that this binary was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies directly in the root")
}

/// `target/` or wherever the user keeps it.
pub(crate) fn target_dir() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The cargo that runs us, at the root.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// A cargo command over all crates, with the features that a default build leaves out.
pub(crate) fn everything<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = cargo(args);
    command.args(["--workspace", "--features", "logitfuse-cli/png"]);
    command
}

/// Runs a command to its end, after saying which; an error unless it succeeds.
pub(crate) fn step(command: &mut Command) -> Result<()> {
    let line = words(command);
    eprintln!("\n$ {line}");
    let status = command.status().with_context(|| format!("{line}: cannot be started"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a command to its end and gives back its standard output; an error unless it succeeds.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let line = words(command);
    let output = command.output().with_context(|| format!("{line}: cannot be started"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}: {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

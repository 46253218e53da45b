//! What the tests of plugins share: libraries built once, and copies of them with something patched.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use cargo_metadata::{Message, MetadataCommand};
use serde_json::Value;

/// The library of a package of `plugins/`, built for this test run: `misbehave`, `static-proxy`, ….
pub(crate) fn library(name: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    built.get(name).unwrap_or_else(|| panic!("no plugin {name} was built, only {:?}", built.keys()))
}

/// Every crate of `plugins/bundled` and the misbehaving one. Built here and not by a development dependency, which cargo
/// does not offer for libraries that nobody links.
fn build() -> BTreeMap<String, PathBuf> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let within = |folder: &str| metadata.workspace_root.join(folder);
    let plugins: Vec<String> = metadata
        .workspace_packages()
        .iter()
        .filter(|p| {
            p.manifest_path.starts_with(within("plugins/bundled"))
                || p.manifest_path.starts_with(within("plugins/check/fixtures"))
        })
        .map(|p| p.name.to_string())
        .collect();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--message-format=json-render-diagnostics"]).args(plugins.iter().flat_map(|p| ["-p", p]));
    let output = cargo.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the plugins do not build");
    let mut built = BTreeMap::new();
    for message in Message::parse_stream(&output.stdout[..]) {
        if let Message::CompilerArtifact(artifact) = message.unwrap()
            && let Some(file) =
                artifact.filenames.iter().find(|f| f.extension() == Some(std::env::consts::DLL_EXTENSION))
            && let Some(name) = artifact.target.name.strip_prefix("logitfuse_")
        {
            let name = name.trim_start_matches("plugin_").replace('_', "-");
            built.insert(name, PathBuf::from(file));
        }
    }
    built
}

/// A copy of a library with one sequence of bytes replaced by another, wherever it occurs.
pub(crate) fn patched(name: &str, to: &Path, from: &[u8], with: &[u8]) -> PathBuf {
    let mut bytes = std::fs::read(library(name)).unwrap();
    assert_eq!(from.len(), with.len());
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "{from:?} does not occur in {name}");
    for at in places {
        bytes[at..at + with.len()].copy_from_slice(with);
    }
    let path = to.join(format!("lib{name}.{}", std::env::consts::DLL_EXTENSION));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// `logitfuse plugin …`.
pub(crate) fn plugin(arguments: &[&str], misbehave: Option<&str>) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.arg("plugin").args(arguments).env_remove("RUST_BACKTRACE").env_remove("LOGITFUSE_PLUGIN_PATH");
    command.envs(misbehave.map(|rule| ("LOGITFUSE_MISBEHAVE", rule)));
    command.output().unwrap()
}

/// The results of `plugin check` that are no `passed`: `(group/name, verdict, detail)`.
pub(crate) fn check(file: &Path, arguments: &[&str], misbehave: Option<&str>) -> Vec<(String, String, String)> {
    let arguments = [&["check", file.to_str().unwrap(), "--format", "json"], arguments].concat();
    let output = plugin(&arguments, misbehave);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    let findings = report["findings"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(findings > 0)), "{report:#}");
    let text = |result: &Value, key: &str| result[key].as_str().unwrap_or_default().to_owned();
    report["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["verdict"] != "passed")
        .map(|r| (format!("{}/{}", text(r, "group"), text(r, "name")), text(r, "verdict"), text(r, "detail")))
        .collect()
}

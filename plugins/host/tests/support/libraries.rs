//! Libraries of plugins, built once for a test run, and copies of them with something patched. Also a module of
//! `tests/integration`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use cargo_metadata::{Message, MetadataCommand};
use serde_json::{Value, json};

/// Bundled libraries, each with a strategy, parameters, and the roles to play with: what parity with built-in strategies is
/// tested on. Some must be calibrated, some are told the prompt.
pub(crate) fn bundled() -> Vec<(&'static str, &'static str, Value, Vec<&'static str>)> {
    let proxy = vec!["base", "expert", "anti"];
    let several = vec!["base", "expert", "expert", "anti", "anti"];
    let experts = vec!["base", "expert", "expert", "anti"];
    vec![
        ("static-proxy", "static-proxy", json!({}), proxy.clone()),
        ("static-proxy", "static-proxy", json!({ "alpha": 1.7, "weights": [0.3, 1.1], "top_p": 0.9 }), several.clone()),
        ("dynamic-kl", "dynamic-kl", json!({}), proxy.clone()),
        ("dynamic-kl", "dynamic-kl", json!({ "weights": "fingerprint" }), experts.clone()),
        ("dynamic-kl", "dynamic-kl", json!({ "posterior": { "evidence": "prompt" } }), experts),
        ("in-context", "in-context", json!({}), vec!["base", "anti"]),
        ("task-arithmetic", "task-arithmetic", json!({}), several),
        ("ensemble", "ensemble", json!({}), vec!["base", "expert", "expert"]),
        ("ensemble", "contrastive", json!({}), vec!["base", "anti"]),
        ("ensemble", "trimix", json!({}), proxy.clone()),
        ("ensemble", "trimix", json!({ "calibration": "prompt" }), proxy),
    ]
}

/// The library of a package of `plugins/`, built for this test run: `misbehave`, `static-proxy`, ….
pub(crate) fn library(name: &str) -> &'static Path {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    built.get(name).unwrap_or_else(|| panic!("no plugin {name} was built, only {:?}", built.keys()))
}

/// Builds every crate of `plugins/bundled` and the misbehaving one. Not development dependencies, because cargo builds no
/// `cdylib` for those.
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

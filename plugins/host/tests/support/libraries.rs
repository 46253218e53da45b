//! Libraries of plugins, built once for a test run, and copies of them with something patched. Also a module of
//! `tests/integration`.

use std::{
    collections::BTreeMap,
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

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
    let built = BUILT.get_or_init(|| std::env::var_os("LOGITFUSE_TEST_PLUGINS").map_or_else(build, |at| built(&at)));
    built.get(name).unwrap_or_else(|| panic!("no plugin {name} was built, only {:?}", built.keys()))
}

/// The packages by the names that tests call them: every crate of `plugins/bundled` and the misbehaving one.
fn packages() -> BTreeMap<String, String> {
    let mut bundled = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("plugins/bundled"));
    let bundled = bundled.find_map(|folder| std::fs::read_dir(folder).ok()).expect("a checkout has plugins");
    let folders = bundled.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut packages: BTreeMap<_, _> = folders.map(|name| (name.clone(), format!("logitfuse-plugin-{name}"))).collect();
    packages.insert("misbehave".to_owned(), "logitfuse-misbehave".to_owned());
    packages
}

/// Where `cargo xtask test` built them together with all else.
fn built(folder: &OsStr) -> BTreeMap<String, PathBuf> {
    let file = |package: String| format!("{DLL_PREFIX}{}{DLL_SUFFIX}", package.replace('-', "_"));
    packages().into_iter().map(|(name, package)| (name, Path::new(folder).join(file(package)))).collect()
}

/// Builds them. Not development dependencies, because cargo builds no `cdylib` for those.
fn build() -> BTreeMap<String, PathBuf> {
    let packages = packages();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--message-format=json-render-diagnostics"]).args(packages.values().flat_map(|p| ["-p", p]));
    let output = cargo.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the plugins do not build");
    let mut files = Vec::new();
    for message in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(message).unwrap();
        let of_this = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        files.extend(of_this.filter(|file| file.ends_with(DLL_SUFFIX)).map(PathBuf::from));
    }
    let folder = files.first().and_then(|file| file.parent()).expect("cargo names what it built");
    built(folder.as_os_str())
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

//! Holds the dependency rules D1–D6 of ARCHITECTURE.md against `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::Deserialize;

/// Every workspace crate with the workspace crates it depends on (development dependencies aside) and its folder.
struct Workspace {
    edges: BTreeMap<String, BTreeSet<String>>,
    folders: BTreeMap<String, String>,
    foreign: BTreeMap<String, BTreeSet<String>>,
}

fn workspace() -> Workspace {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = std::process::Command::new(cargo);
    let output =
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]).output().expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Without dependencies, the packages are the members.
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");
    let members: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut w = Workspace { edges: BTreeMap::new(), folders: BTreeMap::new(), foreign: BTreeMap::new() };
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder");
        let folder = folder.strip_prefix(&metadata.workspace_root).expect("members lie in the workspace");
        w.folders.insert(package.name.clone(), folder.to_str().expect("text").replace('\\', "/"));
        let normal = package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
        let (ours, foreign): (BTreeSet<_>, BTreeSet<_>) =
            normal.map(|d| d.name.clone()).partition(|name| members.contains(name.as_str()));
        w.edges.insert(package.name.clone(), ours);
        w.foreign.insert(package.name.clone(), foreign);
    }
    w
}

/// What the rules need of what cargo says. Not the crate that knows all of it: that one switches on a feature of `serde_json`,
/// with which everything would be built a second time for the tests.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Workspace {
    fn below(&self, folder: &str) -> Vec<&String> {
        self.folders.iter().filter(|(_, at)| at.starts_with(folder)).map(|(name, _)| name).collect()
    }

    #[track_caller]
    fn only(&self, name: &str, allowed: &[&str]) {
        let extra: Vec<_> = self.edges[name].iter().filter(|to| !allowed.contains(&to.as_str())).collect();
        assert!(extra.is_empty(), "{name} must not depend on {extra:?}");
    }
}

const CORE: &str = "logitfuse-core";
const NUMERICS: &str = "logitfuse-numerics";
const TEXT: &str = "logitfuse-text";

#[test]
fn d1_core_and_numerics_stand_alone_and_do_no_io() {
    let w = workspace();
    w.only(CORE, &[]);
    w.only(NUMERICS, &[CORE]);
    // Arrays, vector instructions, and parameters as JSON values: nothing that reads or writes.
    let of_core = ["ndarray", "pulp", "serde", "serde_json", "serde_path_to_error"];
    for (name, allowed) in [(CORE, &of_core[..]), (NUMERICS, &["pulp", "schemars", "serde"])] {
        let allowed: BTreeSet<String> = allowed.iter().copied().map(str::to_owned).collect();
        assert!(w.foreign[name].is_subset(&allowed), "{name} depends on {:?}", w.foreign[name]);
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&w.folders[name]).join("src");
        let files = rust_files(&root);
        assert!(!files.is_empty());
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source file is text");
            for word in ["std::fs", "std::net", "std::env", "std::process", "println!", "async fn"] {
                assert!(!text.contains(word), "{} mentions {word}", file.display());
            }
        }
    }
}

#[test]
fn d2_strategies_know_core_and_numerics_only_and_no_unsafe() {
    let w = workspace();
    let strategies = w.below("strategies/");
    assert!(strategies.len() >= 2);
    for name in strategies {
        w.only(name, &[CORE, NUMERICS]);
        let lib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&w.folders[name]).join("src/lib.rs");
        let text = std::fs::read_to_string(lib).expect("a library has a lib.rs");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name} must forbid unsafe code");
    }
}

#[test]
fn d3_backends_know_core_and_their_formats_only_and_one_knows_onnx_runtime() {
    let w = workspace();
    for name in w.below("backends/") {
        w.only(name, if name == "logitfuse-onnx" { &[CORE, "logitfuse-onnx-graph"] } else { &[CORE] });
    }
    let with_ort: Vec<_> = w.foreign.iter().filter(|(_, deps)| deps.contains("ort")).map(|(name, _)| name).collect();
    assert_eq!(with_ort, ["logitfuse-onnx"]);
    let lib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../backends/onnx/src");
    for file in rust_files(&lib) {
        let text = std::fs::read_to_string(&file).expect("a source file is text");
        let theirs = imported_from_ort(&text);
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("pub ")) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let leak = words.find(|word| *word == "ort" || theirs.contains(*word));
            assert_eq!(leak, None, "{}: {line}", file.display());
        }
    }
}

/// The names that `use ort::…;` brings into a file.
fn imported_from_ort(text: &str) -> BTreeSet<&str> {
    let statements = text.split("use ort::").skip(1).filter_map(|rest| rest.split(';').next());
    let names = statements.flat_map(|list| list.split(|c: char| !c.is_alphanumeric() && c != '_'));
    names.filter(|name| name.starts_with(char::is_uppercase)).collect()
}

#[test]
fn d4_plugin_crates_keep_apart() {
    let w = workspace();
    for name in w.below("plugins/abi") {
        w.only(name, &[]);
    }
    // The laws are behind the feature `testing`, which authors switch on for their tests only.
    for name in w.below("plugins/sdk") {
        w.only(name, &[CORE, "logitfuse-plugin-abi", "logitfuse-conformance"]);
    }
    for name in w.below("plugins/host") {
        w.only(name, &[CORE, "logitfuse-plugin-abi", "logitfuse-schema"]);
    }
    // Embedders of the host build no test framework; what tests plugins is a crate of its own.
    let tests = ["proptest", "criterion"].map(str::to_owned);
    assert!(w.foreign["logitfuse-plugin-host"].is_disjoint(&BTreeSet::from(tests)));
    w.only("logitfuse-plugin-check", &[CORE, "logitfuse-plugin-host", "logitfuse-conformance", "logitfuse-schema"]);
    w.only("logitfuse-misbehave", &["logitfuse-plugin-abi"]);
}

#[test]
fn d4_bundled_plugins_are_a_strategy_and_the_sdk() {
    let w = workspace();
    let bundled = w.below("plugins/bundled/");
    assert!(bundled.len() >= 2);
    for name in bundled {
        let strategy = name.replace("logitfuse-plugin-", "logitfuse-");
        w.only(name, &["logitfuse-plugin", &strategy]);
    }
}

#[test]
fn d5_only_composition_roots_join_the_parts() {
    let w = workspace();
    // The façade holds names, no code; a command line installs runtimes and lists plugins.
    let roots = ["logitfuse-pipeline", "logitfuse", "logitfuse-cli", "logitfuse-tests", "xtask"];
    let parts: Vec<&String> = [w.below("backends/"), w.below("strategies/"), w.below("plugins/host")].concat();
    let bundled = w.below("plugins/bundled/");
    let others = w.edges.iter().filter(|(name, _)| !roots.contains(&name.as_str()) && !bundled.contains(name));
    // `plugin check` is a host and the laws; rule D4 says what it may know.
    let others = others.filter(|(name, _)| *name != "logitfuse-plugin-check");
    for (name, edges) in others {
        // The format of a tape is that of the backend that replays it.
        let format = |part: &str| name == "logitfuse-tape" && part == "logitfuse-replay";
        let joined: Vec<_> = parts
            .iter()
            .filter(|part| !format(part))
            .filter(|part| edges.contains(part.as_str()) && **part != name)
            .collect();
        assert!(joined.is_empty(), "{name} is no composition root and joins {joined:?}");
    }
    w.only("logitfuse-schema", &[]);
    w.only("logitfuse-onnx-graph", &[CORE]);
    w.only("logitfuse-merge", &[CORE, "logitfuse-onnx-graph"]);
    w.only("logitfuse-export", &[CORE, "logitfuse-engine", "logitfuse-onnx-graph", "logitfuse-pipeline"]);
    w.only(TEXT, &[CORE, "logitfuse-pattern"]);
    w.only("logitfuse-engine", &[CORE]);
    w.only("logitfuse-setup", &[CORE]);
    w.only("logitfuse-pattern", &[CORE]);
    w.only("logitfuse-metrics", &[CORE, "logitfuse-pattern"]);
    w.only("logitfuse-rundir", &[CORE, "logitfuse-metrics"]);
    w.only("logitfuse-report", &[CORE, "logitfuse-metrics", "logitfuse-rundir"]);
    w.only("logitfuse-config", &[CORE, "logitfuse-metrics", "logitfuse-pipeline", "logitfuse-schema"]);
    w.only("logitfuse-server", &["logitfuse"]);
    // No front end depends on another, and nothing depends on one; but the command line is the one binary, which starts the
    // server.
    for (name, edges) in &w.edges {
        for front in ["logitfuse-cli", "logitfuse-server", "logitfuse-tests", "xtask"] {
            let starts = name == "logitfuse-cli" && front == "logitfuse-server";
            assert!(starts || !edges.contains(front), "{name} depends on {front}");
        }
    }
}

/// Who embeds fusion builds no task, metric, YAML, figure or test framework; who embeds plugins no test framework either.
#[test]
fn the_minimal_facade_is_small() {
    for (features, words) in [
        ("onnx", &["eval", "metrics", "rundir", "report", "config", "plugin-host", "conformance", "tape"][..]),
        ("onnx,plugins", &["eval", "metrics", "rundir", "report", "config", "conformance", "plugin-check"]),
    ] {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut tree = std::process::Command::new(cargo);
        tree.args(["tree", "--edges", "normal", "--prefix", "none", "--package", "logitfuse", "--no-default-features"]);
        let output = tree.args(["--offline", "--features", features]).output().expect("cargo tree runs");
        let crates = String::from_utf8(output.stdout).expect("names are text");
        let crates: BTreeSet<&str> = crates.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(crates.contains("logitfuse-pipeline"), "{}", String::from_utf8_lossy(&output.stderr));
        let ours = words.iter().map(|word| format!("logitfuse-{word}"));
        let foreign = ["serde-saphyr", "resvg", "usvg", "maud", "proptest", "criterion", "clap"].map(str::to_owned);
        let extra: Vec<String> = ours.chain(foreign).filter(|name| crates.contains(name.as_str())).collect();
        assert!(extra.is_empty(), "{features}: the façade builds {extra:?}");
    }
}

#[test]
fn d6_conformance_knows_core_and_numerics_only() {
    workspace().only("logitfuse-conformance", &[CORE, NUMERICS]);
}

#[test]
fn unsafe_code_is_where_it_is_declared() {
    let declared = [
        "logitfuse-onnx",
        "logitfuse-plugin",
        "logitfuse-plugin-host",
        "logitfuse-plugin-check",
        "logitfuse-misbehave",
    ];
    let w = workspace();
    for (name, folder) in w.folders.iter().filter(|(name, _)| !declared.contains(&name.as_str())) {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src");
        for file in rust_files(&root) {
            let text = std::fs::read_to_string(&file).expect("a source file is text");
            let block = text.contains("unsafe {") || text.contains("unsafe fn");
            assert!(!block, "{name}: {} holds unsafe code", file.display());
        }
    }
}

fn rust_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a source folder can be read").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

//! From nothing to a checked, pinned plugin in an experiment, by the commands of docs/writing-a-strategy.md.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::{runtime, tiny};

fn logitfuse(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.args(arguments).current_dir(folder).env("LOGITFUSE_ORT_LIB", runtime().library()).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    let both = |o: &Output| format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    assert!(output.status.success(), "{}", both(output));
    both(output)
}

/// check, lock, run: what follows once there is a library.
fn use_it(folder: &Path, library: &str) {
    let checked = good(&logitfuse(folder, &["plugin", "check", library]));
    // How long a step takes is the machine's affair.
    let warned = |line: &str| line.starts_with("warning") && !line.contains(" perf/");
    assert!(checked.contains(": 0 findings, ") && !checked.lines().any(warned), "{checked}");
    let sha256 = checked.rsplit_once("sha256 = \"").unwrap().1.split('"').next().unwrap();

    let source = |(role, model): (&str, &str)| format!("[sources.{role}]\nmodel = '{}'\n", tiny(model).display());
    let sources = [("base", "gqa_fp32"), ("expert", "plain_fp32"), ("anti", "gqa_fp32")].map(source).concat();
    let toml = format!(
        "schema = 1\n[run]\nprompts = [\"a b\"]\nmax_new_tokens = 6\n{sources}\
         [plugins.mine]\npath = \"{library}\"\nsha256 = \"{sha256}\"\n\
         [strategy]\nuse = \"plugin:my-rule\"\nparams = {{ alpha = 0.8 }}\n"
    );
    fs::write(folder.join("experiment.toml"), &toml).unwrap();
    good(&logitfuse(folder, &["plugin", "lock", "experiment.toml"]));
    assert!(fs::read_to_string(folder.join("logitfuse.lock")).unwrap().contains(sha256));
    let with_plugin = good(&logitfuse(folder, &["run", "experiment.toml", "--locked", "-q"]));

    // The rule that one starts from is proxy tuning.
    fs::write(folder.join("same.toml"), toml.replace("plugin:my-rule", "static-proxy")).unwrap();
    let built_in = good(&logitfuse(folder, &["run", "same.toml", "-q"]));
    assert_eq!(with_plugin.replace("my-rule", "static-proxy"), built_in);
}

#[test]
fn a_new_plugin_in_c_is_built_checked_pinned_and_run() {
    let scratch = tempfile::tempdir().unwrap();
    good(&logitfuse(scratch.path(), &["plugin", "new", "--lang", "c", "my-rule"]));
    let folder = scratch.path().join("my-rule");
    let made = Command::new("make").current_dir(&folder).env("CFLAGS", "-O2 -Werror").output().unwrap();
    good(&made);
    use_it(&folder, "libmy_rule.so");
}

#[test]
fn a_new_plugin_in_rust_is_built_checked_pinned_and_run() {
    let scratch = tempfile::tempdir().unwrap();
    good(&logitfuse(scratch.path(), &["plugin", "new", "--lang", "rust", "my-rule"]));
    let folder = scratch.path().join("my-rule");
    // The versions that this workspace was tested with, built where the next run of this test finds them.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = assert_cmd::cargo::cargo_bin("logitfuse").parent().unwrap().join("plugin-new");
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(arguments).current_dir(&folder).env("CARGO_TARGET_DIR", &target);
        // No bit depends on it, and most of what this test takes is the compiler's.
        cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        good(&cargo.output().unwrap())
    };
    cargo(&["build", "--release", "--offline"]);
    fs::copy(target.join("release/libmy_rule.so"), folder.join("libmy_rule.so")).unwrap();
    use_it(&folder, "libmy_rule.so");
}

#[test]
fn nothing_is_overwritten_and_names_are_checked() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir(scratch.path().join("my-rule")).unwrap();
    for (name, words) in
        [("my-rule", "exists already"), ("My Rule", "cannot be a strategy's id"), ("../x", "cannot be")]
    {
        let output = logitfuse(scratch.path(), &["plugin", "new", "--lang", "c", name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{output:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

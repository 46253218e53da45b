//! What a user reads when something is wrong with a plugin, word by word.

use std::{fs, path::Path, process::Command};

use crate::{
    plugins::{check, library, patched, plugin},
    support::{runtime, tiny},
};

/// stderr of a command that must fail with status 2, the folder shown as `DIR` and hashes as `HASH`.
#[track_caller]
fn said(output: &std::process::Output, folder: &Path) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    let text = stderr.replace(&folder.display().to_string(), "DIR");
    let hash = |word: &str| word.len() >= 64 && word.chars().filter(char::is_ascii_hexdigit).count() >= 64;
    let show =
        |line: &str| line.split(' ').map(|word| if hash(word) { "HASH" } else { word }).collect::<Vec<_>>().join(" ");
    text.lines().map(show).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn show(file: &Path, expected: &str) {
    let output = plugin(&["show", file.to_str().unwrap()], None);
    assert_eq!(said(&output, file.parent().unwrap()), expected);
}

#[test]
fn files_that_are_no_plugin_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    show(
        &folder.path().join("absent.so"),
        "error: DIR/absent.so: No such file or directory (os error 2)\nhelp: name the .so, .dylib or .dll of a plugin",
    );
    show(
        &file("text.so", b"hello"),
        "error: DIR/text.so: a file of an unknown kind, not a shared library\nhelp: name the .so, .dylib or .dll of a plugin",
    );
    show(
        &file("a.so", b"!<arch>\n"),
        "error: DIR/a.so: a static library, not a shared library\nhelp: name the .so, .dylib or .dll of a plugin",
    );
    show(
        &file("m.so", b"\0asm\x01\0\0\0"),
        "error: DIR/m.so: a WebAssembly module, not a shared library\nhelp: name the .so, .dylib or .dll of a plugin",
    );

    let whole = fs::read(library("misbehave")).unwrap();
    let mut other = whole.clone();
    other[18] = 0xb7;
    show(
        &file("arm.so", &other),
        "error: DIR/arm.so: built for aarch64-linux, and this is x86_64-linux\nhelp: build the plugin for x86_64-linux",
    );
    for cut in [20, 63, whole.len() / 2, whole.len() - 1] {
        let output = plugin(&["show", file("cut.so", &whole[..cut]).to_str().unwrap()], None);
        let said = said(&output, folder.path());
        assert!(said.starts_with("error: DIR/cut.so: damaged or truncated library: "), "{said}");
        assert!(said.ends_with("help: build or copy the file again; it may be incomplete"), "{said}");
    }
    // Any other library of this machine: the one of ONNX Runtime.
    let ort = runtime().library().to_owned();
    let other = folder.path().join("ort.so");
    fs::copy(ort, &other).unwrap();
    show(
        &other,
        "error: DIR/ort.so: no metadata: this library is no logitfuse plugin\nhelp: docs/writing-a-strategy.md shows how a library becomes one; `strip -R .lfmeta` takes it away",
    );
}

#[test]
fn metadata_and_symbols_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let patch = |from: &str, with: &str| patched("misbehave", folder.path(), from.as_bytes(), with.as_bytes());
    let at = "error: DIR/libmisbehave.so: ";
    show(
        &patch("\"abi\":[1,0]", "\"abi\":[2,0]"),
        &format!(
            "{at}built for ABI 2.0, and this host speaks 1.0\nhelp: use a newer logitfuse, or rebuild the plugin with an older SDK"
        ),
    );
    show(
        &patch("\"abi\":[1,0]", "\"abi\":[0,9]"),
        &format!("{at}built for ABI 0.9, and this host speaks 1.0\nhelp: rebuild the plugin with a newer SDK"),
    );
    show(
        &patch("LFMETA01", "LFMETA77"),
        &format!(
            "{at}metadata: LFMETA77 is a newer form than LFMETA01\nhelp: use a newer logitfuse, or build the plugin with an older SDK"
        ),
    );
    let help =
        "help: this is a fault of the plugin: section .lfmeta holds LFMETA01 and one JSON object, padded with NUL";
    show(&patch("LFMETA01", "lfmeta01"), &format!("{at}metadata: it does not begin with LFMETA01\n{help}"));
    show(
        &patch("\"plugin\":{", "\"plugin\";{"),
        &format!("{at}metadata: not JSON: expected `:` at line 1 column 22\n{help}"),
    );
    show(
        &patch("\"min\":1,\"max\":1", "\"min\":2,\"max\":1"),
        &format!("{at}metadata: /strategies/0/roles/0/max: below min, or 0\n{help}"),
    );
    show(
        &patch("\"id\":\"misbehave\"", "\"id\":\"mis ehave\""),
        &format!(
            "{at}metadata: /strategies/0/id: \"mis ehave\" is not made of letters, digits, `-`, `_` and `.`\n{help}"
        ),
    );
    show(
        &patch("\"maximum\":1", "\"maxinum\":1"),
        &format!(
            "{at}metadata: /strategies/0/params/properties/strength/maxinum: not a keyword that parameters may use, or not of its form\n{help}"
        ),
    );
    show(
        &patch("lf_plugin_entry_v1", "lf_plugin_entry_v2"),
        &format!(
            "{at}it exports lf_plugin_entry_v2, and this host speaks lf_plugin_entry_v1\nhelp: use a newer logitfuse, or build the plugin with an older SDK"
        ),
    );
    show(
        &patch("lf_plugin_entry_v1", "lf_plugin_intro_v1"),
        &format!(
            "{at}the symbol lf_plugin_entry_v1 is missing\nhelp: export it: `export!` does so in Rust, LF_EXPORT in C"
        ),
    );
}

/// Found when it is loaded, by the loader's own words.
#[test]
fn a_library_with_an_unresolved_symbol() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("x.c"), folder.path().join("x.so"));
    let text = r#"
        #include "logitfuse_plugin.h"
        LF_DEFINE_META({ "abi": [1, 0], "plugin": { "id": "x", "version": "1" },
          "strategies": [ { "id": "x", "roles": [ { "name": "base", "min": 1, "max": 1 } ] } ] });
        extern const lf_plugin_v1 *from_elsewhere(void);
        LF_EXPORT const lf_plugin_v1 *lf_plugin_entry_v1(const lf_host_v1 *host, lf_error *err) {
          (void)host; (void)err; return from_elsewhere();
        }
    "#;
    fs::write(&source, text).unwrap();
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/abi/include");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-I"]).arg(header).arg(&source).arg("-o").arg(&library).status();
    assert!(built.unwrap().success());
    let found = check(&library, &["--filter", "load/library"], None);
    let [(_, verdict, detail)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(verdict, "failed");
    assert!(detail.ends_with("x.so: cannot be loaded: undefined symbol: from_elsewhere"), "{detail}");
}

/// `logitfuse run` of an experiment with this text, in `folder`.
fn run(folder: &Path, strategy: &str, flags: &[&str]) -> std::process::Output {
    let toml = format!(
        "schema = 1\n[run]\nprompts = [\"a\", \"b\", \"c\"]\nmax_new_tokens = 4\n[sources.base]\nmodel = '{}'\n[sources.expert]\nmodel = '{}'\n{strategy}",
        tiny("gqa_fp32").display(),
        tiny("plain_fp32").display()
    );
    fs::write(folder.join("e.toml"), toml).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    // What is unpinned here is meant to be, unless a test says otherwise.
    let trust: &[&str] = if flags.contains(&"--plugin-trust") { &[] } else { &["--plugin-trust", "warn"] };
    command.args(["run", "-q", "e.toml"]).args(flags).args(trust).current_dir(folder).env_remove("RUST_BACKTRACE");
    command.env("LOGITFUSE_ORT_LIB", runtime().library()).output().unwrap()
}

fn copied(folder: &Path) {
    fs::copy(library("misbehave"), folder.join("libmisbehave.so")).unwrap();
}

const NAMED: &str = "[plugins.bad]\npath = \"libmisbehave.so\"\n[strategy]\nuse = \"plugin:misbehave\"\n";

#[test]
fn parameters_are_underlined_in_the_toml() {
    let folder = tempfile::tempdir().unwrap();
    copied(folder.path());
    let output = run(folder.path(), &format!("{NAMED}[strategy.params]\nmode = \"good\"\nstrength = 1.5\n"), &[]);
    let expected = "\
error: strategy.params of `plugin:misbehave`: /strength: must be at most 1, and is 1.5
  --> e.toml:15:12
   |
15 | strength = 1.5
   |            ^^^
   |
help: `logitfuse plugin show DIR/libmisbehave.so` lists the parameters";
    assert_eq!(said(&output, folder.path()), expected);
    // What the schema lets pass and the plugin itself refuses is underlined as well.
    let output = run(folder.path(), &format!("{NAMED}params = {{ mode = \"refuse-valid\", strength = 0.75 }}\n"), &[]);
    let expected = "\
error: strategy.params of `plugin:misbehave`: /strength: does not like it
  --> e.toml:13:46
   |
13 | params = { mode = \"refuse-valid\", strength = 0.75 }
   |                                              ^^^^";
    assert_eq!(said(&output, folder.path()), expected);
}

#[test]
fn pins_and_locks_are_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    copied(folder.path());
    let zeros = "0".repeat(64);
    let pinned = NAMED.replace("[strategy]", &format!("sha256 = \"{zeros}\"\n[strategy]"));
    assert_eq!(
        said(&run(folder.path(), &pinned, &[]), folder.path()),
        "error: DIR/libmisbehave.so: its sha256 is HASH and plugins.bad.sha256 says HASH\nhelp: the file changed since it was pinned; if that was you, run `logitfuse plugin check` and pin it anew"
    );
    let output = run(folder.path(), NAMED, &["--plugin-trust", "require-pin"]);
    assert!(
        said(&output, folder.path())
            .starts_with("error: DIR/libmisbehave.so: not pinned, and the policy is require-pin\nhelp: after")
    );
    let output = run(folder.path(), NAMED, &["--locked"]);
    assert!(said(&output, folder.path()).contains("logitfuse.lock: No such file"), "{output:?}");

    // Locked, it runs, also where a pin is required; another file of that name does not.
    let toml = folder.path().join("e.toml");
    assert!(plugin(&["lock", toml.to_str().unwrap()], None).status.success());
    assert!(run(folder.path(), NAMED, &["--locked", "--plugin-trust", "require-pin"]).status.success());
    patched("misbehave", folder.path(), b"any model", b"two model");
    let output = run(folder.path(), NAMED, &[]);
    assert!(said(&output, folder.path()).contains("and logitfuse.lock says HASH"), "{}", said(&output, folder.path()));
}

#[test]
fn ids_that_are_offered_twice_or_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for dir in [&one, &two] {
        fs::create_dir(dir).unwrap();
    }
    copied(&one);
    patched("misbehave", &two, b"any model", b"two model");
    fs::copy(two.join("libmisbehave.so"), one.join("libother.so")).unwrap();
    let strategy = "[strategy]\nuse = \"plugin:misbehave\"\n";
    let dir = one.to_str().unwrap();
    assert_eq!(
        said(&run(folder.path(), strategy, &["--plugin-dir", dir]), folder.path()),
        "error: plugin:misbehave: two plugins offer it, DIR/one/libmisbehave.so and DIR/one/libother.so\nhelp: name one of them: [plugins.NAME] path = \"…\" in the experiment's TOML"
    );
    let both = "[plugins.a]\npath = \"one/libmisbehave.so\"\n[plugins.b]\npath = \"two/libmisbehave.so\"\n";
    assert_eq!(
        said(&run(folder.path(), &format!("{both}{strategy}"), &[]), folder.path()),
        "error: strategy.use: [plugins.a] and [plugins.b] both offer `misbehave`\n  --> e.toml:14:7\n   |\n14 | use = \"plugin:misbehave\"\n   |       ^^^^^^^^^^^^^^^^^^\n   |\nhelp: write \"plugin:a/misbehave\" or \"plugin:b/misbehave\""
    );
    assert!(run(folder.path(), &format!("{both}{}", strategy.replace(":m", ":b/m")), &[]).status.success());
    let nobody = run(folder.path(), "[strategy]\nuse = \"plugin:nobody\"\n", &["--plugin-dir", two.to_str().unwrap()]);
    assert_eq!(
        said(&nobody, folder.path()),
        "error: plugin:nobody: no plugin offers this strategy\nhelp: the plugins offer misbehave; `logitfuse plugin list` shows them"
    );
    // The place that is named first wins over later ones.
    let first = run(folder.path(), strategy, &["--plugin-dir", two.to_str().unwrap(), "--plugin-dir", dir]);
    assert!(first.status.success(), "{first:?}");
}

/// A sample that a plugin fails keeps what was written, names plugin, call and position, and is made again when the plugin is
/// mended.
#[test]
fn a_run_loses_no_sample_to_a_bad_plugin() {
    let folder = tempfile::tempdir().unwrap();
    copied(folder.path());
    let with = |mode: &str, more: &str| {
        NAMED.replace("[strategy]", &format!("{more}[strategy]")) + &format!("params = {{ mode = \"{mode}\" }}\n")
    };
    let out = folder.path().join("out.jsonl");
    let go = |strategy: &str, flags: &[&str]| run(folder.path(), strategy, &[&["-o", "out.jsonl"], flags].concat());
    assert!(go(&with("good", ""), &["--limit", "2"]).status.success());
    let kept = fs::read_to_string(&out).unwrap();
    assert_eq!(kept.lines().count(), 2);
    for (mode, words) in [
        (
            "panic-guarded",
            "plugin org.logitfuse.misbehave/misbehave: fuse at position 0: panicked: the third law was broken",
        ),
        ("nan", "plugin org.logitfuse.misbehave/misbehave: fuse at position 0: entry "),
    ] {
        let said = said(&go(&with(mode, ""), &[]), folder.path());
        assert!(said.contains("error: 1 of 1 samples failed: the strategy's plugin did"), "{said}");
        let lines = fs::read_to_string(&out).unwrap();
        let failed = lines.strip_prefix(&kept).unwrap();
        let record: serde_json::Value = serde_json::from_str(failed).unwrap();
        assert!(record["id"] == "2" && record["error"].as_str().unwrap().starts_with(words), "{mode}: {failed}");
    }
    // One by one as in a batch; the others are made.
    fs::remove_file(&out).unwrap();
    let prompts =
        r#"run.prompts=["a b", "c", "a b c a b c", "the", "b a", "the a the b the c", "b", "c b a", "a a a a"]"#;
    let said = said(&go(&with("fails-sometimes", ""), &["--batch", "1", "--set", prompts]), folder.path());
    let lines = fs::read_to_string(&out).unwrap();
    let errors = lines.lines().filter(|line| line.contains("this one is too hard")).count();
    assert!(said.contains(&format!("error: {errors} of 9 samples failed")), "{said}");
    assert!(lines.lines().count() == 9 && (1..9).contains(&errors), "{lines}");
    fs::write(&out, &kept).unwrap();
    // A plugin that lies about its laws runs; `check` is what tells.
    assert!(go(&with("lies-about-shift", ""), &[]).status.success());
    assert!(fs::read_to_string(&out).unwrap().starts_with(&kept));
    fs::write(&out, &kept).unwrap();
    assert!(go(&with("nan", "on_error = \"fallback_to_base\"\n"), &[]).status.success());
    let lines = fs::read_to_string(&out).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().nth(2).unwrap()).unwrap();
    assert_eq!(last["fallback_tokens"], last["tokens"].as_array().unwrap().len());
}

//! Flags that have no effect: an error where they contradict others, a warning where they are merely idle, never nothing.

use std::{
    fs,
    process::{Command, Output},
};

use crate::support::{binary, runtime_library, tiny};

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).env("LOGITFUSE_ORT_LIB", runtime_library()).env_remove("RUST_BACKTRACE").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn global_flags_that_a_command_does_not_read_are_named() {
    for (args, idle) in [
        (&["strategies", "list"][..], &["--ort-lib", "--threads", "--plugin-dir", "--plugin-trust", "--locked"][..]),
        (&["config", "schema"], &["--ort-lib", "--threads", "--plugin-dir", "--plugin-trust", "--locked"]),
        (&["config", "schema", "--with-plugins"], &["--ort-lib", "--threads", "--plugin-trust", "--locked"]),
        (&["plugin", "list"], &["--ort-lib", "--threads", "--plugin-trust", "--locked"]),
        (&["doctor"], &["--plugin-dir", "--plugin-trust", "--locked"]),
        (&["runtime", "show"], &["--threads", "--plugin-dir", "--plugin-trust", "--locked"]),
        (&["completions", "bash"], &["--ort-lib", "--threads", "--plugin-dir", "--plugin-trust", "--locked"]),
    ] {
        let library = runtime_library();
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            &["--ort-lib", library.to_str().unwrap()][..],
            &["--threads", "1"],
            &["--plugin-dir", folder.path().to_str().unwrap()],
            &["--plugin-trust", "off"],
            &["--locked"],
        ];
        for flag in flags {
            // Before the command and after it.
            for all in [[flag, args].concat(), [args, flag].concat()] {
                let output = run(&all);
                let warned = said(&output).contains(&format!("warning: {} has no effect on this command", flag[0]));
                assert_eq!(warned, idle.contains(&flag[0]), "{all:?}: {}", said(&output));
                assert_ne!(output.status.code(), Some(2), "{all:?}: {}", said(&output));
            }
        }
        assert!(!said(&run(args)).contains("no effect"), "{args:?}");
    }
}

#[test]
fn flags_that_others_leave_without_effect_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("x.toml");
    let model = tiny("gqa_fp32");
    let model = model.to_str().unwrap();
    fs::write(&toml, format!("schema = 1\n[run]\nprompts = ['a']\n[sources.base]\nmodel = '{model}'\n")).unwrap();
    let toml = toml.to_str().unwrap();
    for (args, words) in [
        (&["generate", "--config", toml, "--variant", "q4", "a"][..], "--variant"),
        (&["generate", "--config", toml, "--provider", "cpu", "a"], "--provider"),
        (&["generate", "--config", toml, "--system", "x", "a"], "--system"),
        (&["generate", "--config", toml, "--chat-template", "none", "a"], "--chat-template"),
        (&["generate", "--model", model, "--set", "run.seed=1", "a"], "--set, --unset: there is no experiment"),
        (&["generate", "--model", model, "--unset", "run.seed", "a"], "--set, --unset: there is no experiment"),
        (&["generate", "--model", model, "--timings", "a"], "--timings: text has none"),
        (&["generate", "--model", model, "--timings", "--format", "text", "a"], "--timings: text has none"),
        (&["generate", "--model", model, "--context", "b", "--alpha", "1", "--param", "alpha=2", "a"], "given twice"),
        (
            &["generate", "--model", model, "--context", "b", "--param", "alpha=1", "--param", "alpha=2", "a"],
            "given twice",
        ),
        (&["generate", "--model", model, "--stop", "", "a"], "--stop"),
        (&["generate", "--model", model, "--logit-bias", "1=1", "--logit-bias", "1=2", "a"], "given twice"),
        (
            &["generate", "--model", model, "--context", "b", "--role", "base=x", "a"],
            "--model and --role name models twice",
        ),
        (&["run", toml, "--no-report"], "--no-report: prompts without [tasks]"),
        (&["run", toml, "--shard", "1/2"], "--shard: prompts without [tasks]"),
        (&["run", toml, "--timings", "--format", "text"], "--timings: text has none"),
        (&["tape", "replay", toml, "t", "--trace"], "--trace: tokens are lines of JSON"),
        (&["tape", "replay", toml, "t", "--limit", "0"], "must be 1 or more"),
        (&["plugin", "new", "x", "--lang", "c", "--source", "."], "--source: a plugin in C"),
        (&["plugin", "check", "x.so", "--in-process", "--jobs", "2"], "--jobs"),
        (&["plugin", "check", "x.so", "--in-process", "--timeout", "3s"], "--timeout"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains("error: ") && said(&output).contains(words), "{args:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn flags_for_drawing_tokens_are_named_where_none_is_drawn() {
    let model = tiny("gqa_fp32");
    let generate = ["generate", "--model", model.to_str().unwrap(), "-n", "2", "a"];
    for flag in [["--top-k", "3"], ["--top-p", "0.5"], ["--min-p", "0.1"], ["--seed", "7"]] {
        let greedy = run(&[&generate[..], &flag].concat());
        assert!(greedy.status.success(), "{}", said(&greedy));
        assert!(said(&greedy).contains(&format!("warning: {} has no effect at temperature 0", flag[0])), "{flag:?}");
        let drawn = run(&[&generate[..], &flag, &["--temperature", "0.7"]].concat());
        assert!(drawn.status.success() && !said(&drawn).contains("no effect"), "{}", said(&drawn));
    }
}

#[test]
fn a_batch_of_what_is_taken_one_at_a_time_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("x.toml");
    let model = tiny("gqa_fp32");
    let text = format!(
        "schema = 1\n[run]\nprompts = ['a']\nmax_new_tokens = 2\n[sources.base]\nmodel = '{}'\n",
        model.display()
    );
    fs::write(&toml, text).unwrap();
    let toml = toml.to_str().unwrap();
    for (more, words) in [(&["--format", "text"][..], "beside --format text"), (&["--timings"], "beside --timings")] {
        let output = run(&[&["run", toml, "--batch", "2"], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(&format!("warning: --batch has no effect {words}")), "{}", said(&output));
    }
    assert!(!said(&run(&["run", toml, "--batch", "2"])).contains("no effect"));
}

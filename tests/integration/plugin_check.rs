//! The fixture that breaks every rule under `logitfuse plugin check`: which case finds which mode, and how.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::plugins::{check, library, plugin};

fn good() -> &'static Path {
    library("misbehave")
}

/// Rules of loading: each in a process of its own, because what is loaded once stays.
#[test]
fn tables_that_break_the_abi_are_refused_with_a_reason() {
    for (rule, what) in [
        ("entry-returns-null", "lf_plugin_entry_v1 returned null without a message"),
        ("entry-refuses", "refuses to start: no licence for this machine"),
        ("function-missing", "strategy misbehave: the required function fuse is null"),
        ("struct-size-small", "strategy misbehave: struct_size is 16, and 64 or more are needed"),
        ("struct-size-absurd", "strategy misbehave: struct_size is 4294967295, and 64 or more are needed"),
        ("other-id", "strategy 0: the table has another id than the metadata, which says misbehave"),
        ("other-metadata", "the metadata that the entry returns differ from those in section .lfmeta"),
        ("strategies-miscounted", "the table has 2 strategies, and the metadata has 1"),
        ("future-minor", "needs ABI 1.7, and this host speaks up to 1.0"),
        ("entry-changes-mode", "lf_plugin_entry_v1: left the floating-point control bits changed (they were restored)"),
        ("extension-changes-mode", "get_extension: left the floating-point control bits changed (they were restored)"),
        (
            "constructor-changes-mode",
            "its constructor, or one of a library that it needs: left the floating-point control bits changed (they were \
             restored)",
        ),
        ("extension-without-begin", "lf.prompt/1: the required function begin is null"),
        ("table-misaligned", "the plugin's table is not aligned"),
    ] {
        let found = check(good(), &["--filter", "load/library"], Some(rule));
        let [(case, verdict, detail)] = &found[..] else { panic!("{rule}: {found:?}") };
        assert_eq!((case.as_str(), verdict.as_str()), ("load/library", "failed"), "{rule}: {detail}");
        assert!(detail.ends_with(what), "{rule}: {detail}");
    }
}

/// A plugin of an earlier day has a shorter table: what is not there is absent, and the rest runs.
#[test]
fn shorter_tables_and_absent_functions_are_no_error() {
    let found = check(good(), &["--filter", "numeric/ordinary"], Some("short-table"));
    assert_eq!(found, []);
    let found = check(good(), &["--filter", "rollback-is-replay"], Some("rollback-absent"));
    assert!(matches!(&found[..], [(_, verdict, _)] if verdict == "skipped"), "{found:?}");
    let found = check(good(), &["--filter", "load/capabilities"], Some("rollback-absent"));
    assert!(
        matches!(&found[..], [(_, verdict, detail)] if verdict == "failed" && detail.contains("rollback")),
        "{found:?}"
    );
}

/// What only a process of its own survives, and what is wrong without a crash: which case finds it, and how.
#[test]
fn what_the_host_cannot_see_check_finds() {
    let table = [
        // Fatal in a run: the page of the host says so.
        ("panic-unguarded", "numeric/ordinary", "crashed", "this panic is not caught"),
        ("abort", "numeric/ordinary", "crashed", "SIGABRT"),
        ("exit", "numeric/ordinary", "crashed", "it calls exit"),
        ("loop", "numeric/ordinary", "hung", "did not end within"),
        ("stack-overflow", "numeric/ordinary", "crashed", "stack"),
        ("write-past-end", "memory/guard-page-after", "crashed", "SIGSEGV"),
        ("write-into-inputs", "memory/guard-page-after", "crashed", "SIGSEGV"),
        ("read-past-end", "memory/guard-page-after", "crashed", "SIGSEGV"),
        ("keep-pointer", "memory/guard-page-before", "crashed", "SIGSEGV"),
        ("free-host-memory", "memory/guard-page-before", "crashed", ""),
        ("begin-keeps-pointer", "memory/guard-page-before", "crashed", "SIGSEGV"),
        // Wrong results.
        ("partial", "memory/guard-page-after", "failed", "was never written"),
        ("write-nothing", "numeric/ordinary", "failed", "was never written"),
        ("write-half", "numeric/ordinary", "failed", "was never written"),
        ("not-idempotent", "state-laws/fuse-is-idempotent", "failed", "fuse-is-idempotent"),
        ("rollback-ignored", "state-laws/rollback-is-replay", "failed", "rollback-is-replay"),
        ("begin-undone-by-rollback", "state-laws/rollback-is-replay", "failed", "rollback-is-replay"),
        ("begin-fails", "numeric/ordinary", "failed", "the beginning is hard"),
        ("calibrates-anew", "state-laws/calibration-is-repeatable", "failed", "calibration-is-repeatable"),
        ("fork-shares", "state-laws/fork-is-a-copy", "failed", "fork-is-a-copy"),
        ("global-state", "threads/at-the-same-time", "failed", "threads-agree"),
        ("nondeterministic", "claimed-laws/deterministic", "failed", "differently the second time"),
        ("trace-changes-row", "state-laws/trace-changes-nothing", "failed", "trace-changes-nothing"),
        ("lies-about-shift", "claimed-laws/shift-invariant", "failed", "total variation"),
        ("lies-about-identity", "claimed-laws/identity-at", "failed", "in the base and is"),
        ("lies-about-mask", "claimed-laws/mask-preserving", "failed", "again"),
        ("accept-anything", "config/invalid", "failed", "is accepted"),
        ("refuse-valid", "config/valid", "warning", "that the schema allows are refused"),
        // What belongs to the process.
        ("flush-to-zero", "numeric/ordinary", "failed", "floating-point control bits"),
        ("round-up", "numeric/ordinary", "failed", "floating-point control bits"),
        ("mode-in-create", "config/defaults", "failed", "create: left the floating-point control bits"),
        ("mode-in-state-free", "environment/unchanged", "failed", "state_free: left the floating-point control bits"),
        ("mode-in-destroy", "environment/unchanged", "failed", "destroy: left the floating-point control bits"),
        ("close-descriptor", "environment/unchanged", "failed", "descriptor 0 (/dev/null) closed"),
        ("leave-descriptor", "environment/unchanged", "failed", "(/dev/null) left open"),
        ("umask", "environment/unchanged", "failed", "umask"),
        ("limit", "environment/unchanged", "failed", "resource limits"),
        ("timer", "environment/unchanged", "failed", "a timer"),
        ("exit-handler", "environment/exit", "failed", "status 0 in the place of 71"),
        ("process", "environment/unchanged", "failed", "started a process"),
        ("fork", "numeric/ordinary", "failed", "process"),
        ("locale", "environment/unchanged", "failed", "the locale"),
        ("variable", "environment/unchanged", "failed", "environment variables"),
        ("working-directory", "environment/unchanged", "failed", "the working directory"),
        ("signal-handler", "environment/unchanged", "failed", "signal handlers"),
        ("stdout", "numeric/ordinary", "failed", "bytes to stdout"),
        ("thread", "environment/threads", "failed", "threads running"),
        ("leak", "memory/growth", "failed", "bytes a call"),
        ("slow", "perf/step", "warning", "ns an entry"),
    ];
    for (mode, case, verdict, words) in table {
        let params = json!({ "mode": mode }).to_string();
        let limits = [
            "--filter",
            case,
            "--params",
            &params,
            "--cases",
            "24",
            "--timeout",
            if mode == "loop" { "3s" } else { "120s" },
        ];
        let found = check(good(), &limits, None);
        let told = found.iter().find(|(name, ..)| name.starts_with(case));
        let Some((_, seen, detail)) = told else { panic!("{mode}: {case} found nothing") };
        assert_eq!(seen, verdict, "{mode}: {detail}");
        assert!(detail.contains(words), "{mode}: {detail}");
    }
}

#[test]
fn constructors_run_in_a_process_that_may_die() {
    let found = check(good(), &["--filter", "load/library"], Some("constructor-crashes"));
    assert!(
        matches!(&found[..], [(_, verdict, detail)] if verdict == "crashed" && detail.contains("SIGABRT")),
        "{found:?}"
    );
    let found = check(good(), &["--filter", "load/library", "--timeout", "2s"], Some("constructor-hangs"));
    assert!(matches!(&found[..], [(_, verdict, _)] if verdict == "hung"), "{found:?}");
}

/// A case that starts processes is ended with all of them, those too that moved to a session of their own.
#[cfg(target_os = "linux")]
#[test]
fn no_process_outlives_the_check() {
    for mode in ["process", "fork"] {
        let params = json!({ "mode": mode }).to_string();
        // A copy of a process keeps its environment, by which it is found.
        let mine = format!("{}-{mode}", std::process::id());
        let output = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"))
            .args(["plugin", "check", good().to_str().unwrap(), "--filter", "numeric/extremes", "--params", &params])
            .env("LOGITFUSE_CHECK_TEST", &mine)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{mode}: {output:?}");
        let mine = format!("LOGITFUSE_CHECK_TEST={mine}");
        let marked = |process: &Path| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == mine.as_bytes())
        };
        let left = fs::read_dir("/proc").unwrap().filter(|entry| marked(&entry.as_ref().unwrap().path())).count();
        assert_eq!(left, 0, "{mode}");
    }
}

/// Two endless loops are enough to know; what one fault breaks is told as one, and the telling finding first.
#[test]
fn many_findings_of_one_fault_are_one_cause() {
    let file = good().to_str().unwrap();
    let text = |arguments: &[&str]| {
        let output = plugin(&[&["check", file, "--cases", "4"], arguments].concat(), None);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let looping = text(&["--params", r#"{"mode":"loop"}"#, "--timeout", "2s", "--jobs", "1"]);
    assert_eq!(looping.matches("HUNG").count(), 2, "{looping}");
    assert!(looping.contains("not tried: 2 cases before it did not end"), "{looping}");
    let nan = text(&["--params", r#"{"mode":"nan"}"#]);
    let (lines, summary) = nan.split_once("what is wrong, the telling first:").unwrap();
    assert!(lines.matches("FAILED").count() > 10, "{nan}");
    assert_eq!(lines.matches("is NaN").count(), 1, "told once, then `as …`: {nan}");
    assert!(summary.contains(" findings of one cause"), "{nan}");
}

#[test]
fn a_good_plugin_passes_all_of_it() {
    let found = check(good(), &["--cases", "32", "--fuzz", "2s"], None);
    let findings: Vec<_> = found.iter().filter(|(_, verdict, _)| verdict != "warning").collect();
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn findings_come_as_junit_and_with_an_exit_status() {
    let file = good().to_str().unwrap();
    let output = plugin(
        &["check", file, "--filter", "state-laws/valid", "--params", r#"{"mode":"nan"}"#, "--format", "junit"],
        None,
    );
    let xml = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        xml.contains("<testsuite name=\"state-laws\" tests=\"1\" failures=\"1\" skipped=\"0\">")
            && xml.contains("is NaN"),
        "{xml}"
    );
    assert_eq!(plugin(&["check", "no/such/file.so"], None).status.code(), Some(2));
    assert_eq!(plugin(&["check", file, "--filter", "no such case"], None).status.code(), Some(2));
}

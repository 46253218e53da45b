//! The table of bad plugins, row by row: survived with this message, found by `check`, or told to be fatal.

use std::path::Path;

use logitfuse_core::{
    ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo, SharedVocabulary,
};
use logitfuse_plugin_host::{OnError, PluginFile, PluginStrategy};
use serde_json::json;

use crate::plugins::{check, library, plugin};

fn session(width: usize) -> SessionInfo {
    let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
    SessionInfo { bindings: vec![binding("base"), binding("expert")], vocabulary: SharedVocabulary::new(width, []) }
}

fn misbehaving(mode: &str, on_error: OnError) -> PluginStrategy {
    let plugin = PluginFile::read(library("misbehave")).unwrap().load().unwrap();
    plugin.strategy("misbehave", &json!({ "mode": mode }), on_error).unwrap()
}

const BASE: [f32; 5] = [0.5, -1.0, 2.0, 0.0, 1.0];

/// One step after `n` committed tokens.
fn step(state: &mut dyn FusionState, n: usize) -> Result<Vec<f32>, logitfuse_core::Error> {
    let expert = [1.0, 0.0, -1.0, 2.0, 0.0];
    let rows = [RoleRow::new(&BASE, 2.5, 0.0), RoleRow::new(&expert, 2.4, 0.0)];
    let (mut logits, committed) = (vec![f32::NAN; 5], vec![0; n]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
    state.fuse(&FusionStep::new(&rows, &committed), &mut out)?;
    Ok(logits)
}

/// Fails a text, and names plugin, call and position.
#[test]
fn what_the_host_survives_it_reports() {
    let who = "plugin org.logitfuse.misbehave/misbehave: fuse at position 3: ";
    for (mode, kind, what) in [
        ("panic-guarded", ErrorKind::Backend, "panicked: the third law was broken"),
        (
            "fuse-fails-without-a-message",
            ErrorKind::Backend,
            "fuse returned 9 without a message, which is a fault of the plugin",
        ),
        ("unknown-status", ErrorKind::Backend, "a status of my own"),
        ("escape-codes", ErrorKind::Backend, "\\u{1b}[31mred\\u{202e} and two lines"),
        ("nan", ErrorKind::Numeric, "entry 2 is NaN"),
        ("infinity", ErrorKind::Numeric, "entry 4 is +inf"),
        ("all-masked", ErrorKind::Numeric, "all 5 entries are masked"),
        ("flush-to-zero", ErrorKind::Backend, "left the floating-point control bits changed (they were restored)"),
    ] {
        let strategy = misbehaving(mode, OnError::Fail);
        let mut state = strategy.start(&session(5)).unwrap();
        let error = step(state.as_mut(), 3).unwrap_err();
        assert_eq!(error.to_string(), format!("{who}{what}"), "{mode}");
        assert_eq!(error.kind(), kind, "{mode}");
        assert!(f32::MIN_POSITIVE / std::hint::black_box(2.0) > 0.0, "{mode}: denormals are gone");
    }
}

#[test]
fn a_state_that_panicked_is_not_called_again() {
    let strategy = misbehaving("panic-guarded", OnError::Fail);
    let mut state = strategy.start(&session(5)).unwrap();
    step(state.as_mut(), 0).unwrap_err();
    let again = "is not called again after an earlier failure: the third law was broken";
    assert!(step(state.as_mut(), 0).unwrap_err().to_string().ends_with(again));
    assert!(state.commit(&[1]).unwrap_err().to_string().ends_with(again));
    assert!(state.fork().map(drop).unwrap_err().to_string().ends_with(again));
    // Other states are not to blame.
    assert!(strategy.start(&session(5)).unwrap().commit(&[1]).is_ok());
}

#[test]
fn fallback_to_base_goes_on_with_the_base() {
    for mode in ["panic-guarded", "nan", "all-masked", "unknown-status"] {
        let strategy = misbehaving(mode, OnError::FallbackToBase);
        let mut state = strategy.start(&session(5)).unwrap();
        for n in 0..3 {
            assert_eq!(step(state.as_mut(), n).unwrap(), BASE, "{mode}");
            state.commit(&[0]).unwrap();
        }
        state.rollback(1).unwrap();
        assert_eq!(step(state.fork().unwrap().as_mut(), 2).unwrap(), BASE);
        assert_eq!(strategy.fallbacks(), 4, "{mode}");
    }
}

#[test]
fn a_plugin_that_creates_badly_is_refused() {
    let plugin = PluginFile::read(library("misbehave")).unwrap().load().unwrap();
    let create = |mode: &str| plugin.strategy("misbehave", &json!({ "mode": mode }), OnError::Fail).map(drop);
    let error = create("create-fails-without-a-message").unwrap_err();
    assert_eq!(error.to_string(), "create returned 9 without a message, which is a fault of the plugin");
    let error = create("create-returns-nothing").unwrap_err();
    assert_eq!(error.to_string(), "plugin org.logitfuse.misbehave: create returned LF_OK and no instance");
    assert_eq!(
        plugin.strategy("other", &json!({}), OnError::Fail).map(drop).unwrap_err().help(),
        Some("there are misbehave")
    );
}

/// Whatever happens to the file after it was read, what was read is what runs.
#[test]
fn a_file_that_is_swapped_or_overwritten_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Other bytes than those that other tests load, so that this is a library of its own.
    let path = crate::plugins::patched("misbehave", folder.path(), b"any model", b"one model");
    let file = PluginFile::read(&path).unwrap();
    std::fs::write(&path, b"swapped before it is loaded").unwrap();
    let strategy = file.load().unwrap().strategy("misbehave", &json!({}), OnError::Fail).unwrap();
    std::fs::write(&path, vec![0_u8; 1 << 20]).unwrap();
    let mut state = strategy.start(&session(5)).unwrap();
    assert!(step(state.as_mut(), 0).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn two_libraries_that_are_loaded_one_after_the_other_stay_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = crate::plugins::patched("misbehave", folder.path(), b"another\"}]", b"a third\"}]");
    let one = PluginFile::read(library("misbehave")).unwrap().load().unwrap();
    let two = PluginFile::read(&path).unwrap().load().unwrap();
    // Loading checks the running metadata against the file's, so a mixed-up library would have been refused.
    assert_ne!(one.hash(), two.hash());
    assert_eq!(two.metadata().strategies[0].info.roles[1].summary, "a third");
}

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
        ("panic-unguarded", "numeric/ordinary", "crashed", "nobody catches this"),
        ("abort", "numeric/ordinary", "crashed", "SIGABRT"),
        ("exit", "numeric/ordinary", "crashed", "it calls exit"),
        ("loop", "numeric/ordinary", "hung", "did not end within"),
        ("stack-overflow", "numeric/ordinary", "crashed", "stack"),
        ("write-past-end", "memory/wall-behind", "crashed", "SIGSEGV"),
        ("write-into-inputs", "memory/wall-behind", "crashed", "SIGSEGV"),
        ("read-past-end", "memory/wall-behind", "crashed", "SIGSEGV"),
        ("keep-pointer", "memory/wall-before", "crashed", "SIGSEGV"),
        ("free-host-memory", "memory/wall-before", "crashed", ""),
        // Wrong results.
        ("partial", "memory/wall-behind", "failed", "was never written"),
        ("not-idempotent", "state-laws/fuse-is-idempotent", "failed", "fuse-is-idempotent"),
        ("rollback-ignored", "state-laws/rollback-is-replay", "failed", "rollback-is-replay"),
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

#[test]
fn a_good_plugin_passes_all_of_it() {
    let found = check(good(), &["--cases", "32", "--fuzz", "2s"], None);
    let findings: Vec<_> = found.iter().filter(|(_, verdict, _)| verdict != "warning").collect();
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_flood_of_log_is_limited_and_cleaned() {
    use std::sync::{Mutex, OnceLock};

    static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    let lines = LINES.get_or_init(Mutex::default);
    logitfuse_plugin_host::forward_log(|_, plugin, line| {
        LINES.get_or_init(Mutex::default).lock().unwrap().push(format!("{plugin}: {line}"));
    });
    for mode in ["escape-codes", "flood-log"] {
        let strategy = misbehaving(mode, OnError::Fail);
        let _ = step(strategy.start(&session(5)).unwrap().as_mut(), 0);
    }
    let lines = lines.lock().unwrap();
    assert!(
        lines.contains(&"org.logitfuse.misbehave: \\u{1b}]0;owned\\u{7}\\u{1b}[2Jinnocent".to_owned()),
        "{lines:?}"
    );
    let flood = lines.iter().filter(|line| line.starts_with("org.logitfuse.misbehave: line ")).count();
    assert!((1..200).contains(&flood), "{flood} lines");
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

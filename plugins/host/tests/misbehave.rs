//! The fixture that breaks every rule: what the host survives, and what it says then. `tests/integration/plugin_check.rs` has
//! what only `plugin check` finds.

use logitfuse_core::{
    ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo, SharedVocabulary,
};
use logitfuse_plugin_host::{OnError, PluginFile, PluginStrategy};
use serde_json::json;

use crate::libraries::{library, patched};

fn session(width: usize) -> SessionInfo {
    let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
    SessionInfo::new(vec![binding("base"), binding("expert")], SharedVocabulary::new(width, []))
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
    // Other states go on.
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
    let path = patched("misbehave", folder.path(), b"any model", b"one model");
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
    let path = patched("misbehave", folder.path(), b"another\"}]", b"a third\"}]");
    let one = PluginFile::read(library("misbehave")).unwrap().load().unwrap();
    let two = PluginFile::read(&path).unwrap().load().unwrap();
    // Loading checks the running metadata against the file's, so a mixed-up library would have been refused.
    assert_ne!(one.hash(), two.hash());
    assert_eq!(two.metadata().strategies[0].info.roles[1].summary, "a third");
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

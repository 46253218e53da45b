//! The fixture that breaks every rule: what the host survives, and what it says then. `tests/integration/plugin_check.rs` has
//! what only `plugin check` finds.

use logitfuse_core::{
    CalibrationRows, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, RoleBinding, RoleRow, SessionInfo,
    SharedVocabulary,
};
use logitfuse_plugin_host::{OnError, PluginFile, PluginStrategy, faults, is_plugin_failure};
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
        ("write-nothing", ErrorKind::Numeric, "entry 0 of 5 was never written, nor were 4 others"),
        ("write-half", ErrorKind::Numeric, "entry 2 of 5 was never written, nor were 2 others"),
        ("partial", ErrorKind::Numeric, "entry 4 of 5 was never written"),
        ("flush-to-zero", ErrorKind::Backend, "left the floating-point control bits changed (they were restored)"),
        ("round-up", ErrorKind::Backend, "left the floating-point control bits changed (they were restored)"),
    ] {
        let strategy = misbehaving(mode, OnError::Fail);
        let mut state = strategy.start(&session(5)).unwrap();
        let error = step(state.as_mut(), 3).unwrap_err();
        assert_eq!(error.to_string(), format!("{who}{what}"), "{mode}");
        assert_eq!(error.kind(), kind, "{mode}");
        assert!(f32::MIN_POSITIVE / std::hint::black_box(2.0) > 0.0, "{mode}: denormals are gone");
    }
}

/// An engine uses its row again: what a plugin leaves out must not be that of the step before.
#[test]
fn a_row_that_is_used_again_hides_nothing() {
    let (good, bad) = (misbehaving("good", OnError::Fail), misbehaving("write-half", OnError::Fail));
    let mut states = [&good, &bad].map(|strategy| strategy.start(&session(5)).unwrap());
    let rows = [RoleRow::new(&BASE, 2.5, 0.0), RoleRow::new(&BASE, 2.5, 0.0)];
    let (mut logits, mut trace) = (vec![0.0; 5], [1.0]);
    for (state, good) in states.iter_mut().zip([true, false]) {
        let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
        assert_eq!(state.fuse(&FusionStep::new(&rows, &[]), &mut out).is_ok(), good);
    }
}

/// Bits of the result show it: what is computed next would round otherwise, or lose its smallest numbers.
fn control_bits_are_as_ever(mode: &str) {
    assert!(f32::MIN_POSITIVE / std::hint::black_box(2.0) > 0.0, "{mode}: denormals are gone");
    let third = std::hint::black_box(1.0_f64) / std::hint::black_box(3.0);
    assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5555, "{mode}: rounding is another");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn control_bits_are_guarded_in_every_call() {
    let who = "plugin org.logitfuse.misbehave/misbehave: ";
    let what = "left the floating-point control bits changed (they were restored)";
    let expect = |mode: &str, call: &str, error: Option<logitfuse_core::Error>| {
        assert_eq!(error.map(|e| e.to_string()).as_deref(), Some(format!("{who}{call}: {what}").as_str()), "{mode}");
        control_bits_are_as_ever(mode);
    };
    let plugin = PluginFile::read(library("misbehave")).unwrap().load().unwrap();
    let mode = "mode-in-create";
    expect(mode, "create", plugin.strategy("misbehave", &json!({ "mode": mode }), OnError::Fail).map(drop).err());
    let mode = "mode-in-state-new";
    expect(mode, "state_new", misbehaving(mode, OnError::Fail).start(&session(5)).map(drop).err());
    let in_call = |mode: &str, call: &dyn Fn(&mut dyn FusionState) -> Option<logitfuse_core::Error>| {
        call(misbehaving(mode, OnError::Fail).start(&session(5)).unwrap().as_mut())
    };
    expect("mode-in-commit", "commit", in_call("mode-in-commit", &|state| state.commit(&[1]).err()));
    expect(
        "mode-in-rollback",
        "rollback",
        in_call("mode-in-rollback", &|state| {
            state.commit(&[1]).unwrap();
            state.rollback(1).err()
        }),
    );
    expect("mode-in-fork", "fork", in_call("mode-in-fork", &|state| state.fork().map(drop).err()));
    let rows = [RoleRow::new(&BASE, 2.5, 0.0), RoleRow::new(&BASE, 2.5, 0.0)];
    let begin = |state: &mut dyn FusionState| state.begin(&FusionStep::new(&rows, &[]), &[]).err();
    expect("mode-in-begin", "begin", in_call("mode-in-begin", &begin));

    // While it is calibrated it asks for rows, which models compute on this very thread.
    let strategy = misbehaving("mode-in-calibrate", OnError::Fail);
    let mut asked = 0;
    let mut rows_after = |_: usize| {
        asked += 1;
        control_bits_are_as_ever("within calibrate");
        Ok(CalibrationRows::new(2))
    };
    let error = strategy.calibrated(&session(5), &mut rows_after).map(drop).err();
    assert_eq!(asked, 1);
    expect("mode-in-calibrate", "calibrate", error);

    // What returns nothing is told by a list.
    for (mode, call) in [("mode-in-state-free", "state_free"), ("mode-in-destroy", "destroy")] {
        let strategy = misbehaving(mode, OnError::Fail);
        drop(strategy.start(&session(5)).unwrap());
        drop(strategy);
        control_bits_are_as_ever(mode);
        assert!(
            faults()
                .contains(&format!("plugin {who_of}: {call}: {what}", who_of = "org.logitfuse.misbehave/misbehave"))
        );
    }
}

/// Where the base goes on alone, memory that was damaged is not used again, and every row of the base is counted.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_commit_that_changes_control_bits_ends_the_plugins_part() {
    let strategy = misbehaving("mode-in-commit", OnError::FallbackToBase);
    let mut state = strategy.start(&session(5)).unwrap();
    assert_ne!(step(state.as_mut(), 0).unwrap(), BASE);
    assert_eq!(state.fallbacks(), 0);
    state.commit(&[1]).unwrap();
    control_bits_are_as_ever("commit");
    assert_eq!(step(state.as_mut(), 1).unwrap(), BASE);
    assert_eq!((state.fallbacks(), strategy.fallbacks()), (1, 1));
    assert_eq!(state.fork().unwrap().fallbacks(), 1);
}

#[test]
fn failures_of_plugins_are_told_from_other_errors() {
    for mode in ["panic-guarded", "nan", "write-half"] {
        let strategy = misbehaving(mode, OnError::Fail);
        let error = step(strategy.start(&session(5)).unwrap().as_mut(), 0).unwrap_err();
        assert!(is_plugin_failure(&error) && is_plugin_failure(&error.context("item 7")), "{mode}");
    }
    assert!(!is_plugin_failure(&logitfuse_core::Error::new(ErrorKind::Numeric, "source `base`: entry 1 is NaN")));
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

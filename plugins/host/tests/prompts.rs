//! What a plugin in C is told of prompts and calibration, number by number, and what a bad one gets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use logitfuse_core::{
    CalibrationRows, CalibrationSpec, Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy,
    PromptReading, PromptScore, RoleBinding, RoleRow, SessionInfo, SharedVocabulary,
};
use logitfuse_plugin_host::{OnError, PluginFile, PluginStrategy};
use serde_json::json;

use crate::{
    compiler::{Unit, compile, crate_folder, include, scratch},
    libraries::{library, patched},
};

fn prompts() -> PluginStrategy {
    let file = crate_folder().join("tests/fixtures/prompts.c");
    let library = scratch("prompts.so");
    let unfinished = scratch(&format!("prompts-{}.so", std::process::id()));
    let flags = ["-shared", "-fPIC", "-fvisibility=hidden"];
    compile(&Unit { standard: "c99", file: &file, include: &include(), flags: &flags }, &unfinished).unwrap();
    std::fs::rename(unfinished, &library).unwrap();
    let plugin = PluginFile::read(&library).unwrap().load().unwrap();
    plugin.strategy("prompts", &json!({}), OnError::Fail).unwrap()
}

fn session(roles: &[&str]) -> SessionInfo {
    let binding = |role: &&str| RoleBinding { role: (*role).to_owned(), source: (*role).to_owned() };
    SessionInfo::new(roles.iter().map(binding), SharedVocabulary::new(2, []))
}

fn rows() -> [RoleRow<'static>; 3] {
    [&[1.0, 2.0], &[0.0, 3.0], &[0.5, 0.5]].map(|row| RoleRow::new(row, 2.3, 0.0))
}

fn fuse(state: &mut dyn FusionState) -> Vec<f32> {
    let mut logits = vec![f32::NAN; 2];
    let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
    state.fuse(&FusionStep::new(&rows(), &[]), &mut out).unwrap();
    logits
}

const ROLES: [&str; 3] = ["base", "expert", "expert"];

/// Tells a state a prompt of three scored tokens, of log-probability -8 under the base.
fn begin(state: &mut dyn FusionState) {
    let rows = rows();
    let step = FusionStep::new(&rows, &[]);
    (0..3).for_each(|_| state.read_prompt(&step, 1).unwrap());
    let score = |log_prob| PromptScore { log_prob, tokens: 3 };
    state.begin(&step, &[score(-8.0), score(-9.0), score(-10.0)]).unwrap();
}

#[test]
fn the_metadata_say_what_is_wanted() {
    let strategy = prompts();
    assert_eq!(strategy.info().prompt, PromptReading::Rows);
    let spec = CalibrationSpec::new("expert", ["base"], 8);
    assert_eq!(strategy.info().calibration, Some(spec));
}

#[test]
fn a_state_is_told_the_prompt_and_a_fork_knows_it() {
    let strategy = prompts();
    let mut state = strategy.start(&session(&ROLES)).unwrap();
    begin(state.as_mut());
    assert_eq!(fuse(state.as_mut()), [1.0 - 8.0 + 3.0, 2.0 - 8.0 + 3.0]);
    assert_eq!(fuse(state.fork().unwrap().as_mut()), fuse(state.as_mut()));
    // Scores that do not fit are an argument error of the plugin, which names the call.
    let mut state = strategy.start(&session(&ROLES)).unwrap();
    let error = state.begin(&FusionStep::new(&rows(), &[]), &[]).unwrap_err();
    assert!(error.to_string().starts_with("plugin org.logitfuse.test.prompts/prompts: begin: "), "{error}");
}

/// Rows after the prompts of a binding: the base's, whose first logit is 10 times the binding plus the prompt.
fn rows_after(binding: usize) -> CalibrationRows {
    let mut rows = CalibrationRows::new(2);
    for prompt in 0..2 {
        rows.push(prompt, 0, &[(10 * binding + prompt) as f32, 0.0]);
    }
    rows
}

#[test]
fn a_fitted_instance_has_seen_the_rows_and_the_first_one_has_not() {
    let strategy = prompts();
    let mut asked = Vec::new();
    let fitted = strategy
        .calibrated(&session(&ROLES), &mut |binding| {
            asked.push(binding);
            Ok(rows_after(binding))
        })
        .unwrap();
    assert_eq!(asked, [1, 2]);
    assert_eq!(fitted.info().calibration, None);
    let logits = |strategy: &dyn FusionStrategy| {
        let mut state = strategy.start(&session(&ROLES)).unwrap();
        begin(state.as_mut());
        fuse(state.as_mut())
    };
    assert_eq!(logits(fitted.as_ref()), [1.0 - 8.0 + 3.0 + 11.0 + 21.0, 2.0 - 8.0 + 3.0 + 11.0 + 21.0]);
    assert_eq!(logits(&strategy), [-4.0, -3.0]);
    // What is asked how its calls went is asked of both.
    assert_eq!(strategy.timing().calls(), 2);
}

#[test]
fn rows_that_cannot_be_had_fail_with_their_own_error() {
    let strategy = prompts();
    let fail = |kind: ErrorKind, message: &'static str| {
        let failing = &mut |_| Err(Error::new(kind, message).with_help("try again"));
        strategy.calibrated(&session(&ROLES), failing).map(drop).unwrap_err()
    };
    for (kind, message) in [(ErrorKind::Cancelled, "cancelled"), (ErrorKind::NotFound, "prompts.jsonl: not found")] {
        let error = fail(kind, message);
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        assert_eq!(error.help(), Some("try again"));
    }
    // A panic of the engine passes the plugin by.
    let panicking = &mut |_| -> logitfuse_core::Result<CalibrationRows> { panic!("the engine fell over") };
    let caught = catch_unwind(AssertUnwindSafe(|| strategy.calibrated(&session(&ROLES), panicking).map(drop)));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"the engine fell over"));
}

fn misbehaving(mode: &str, on_error: OnError) -> PluginStrategy {
    let plugin = PluginFile::read(library("misbehave")).unwrap().load().unwrap();
    plugin.strategy("misbehave", &json!({ "mode": mode }), on_error).unwrap()
}

#[test]
fn a_begin_that_fails_names_itself_or_leaves_the_base_alone() {
    let rows = &rows()[..2];
    let session = session(&ROLES[..2]);
    for (mode, what) in [("begin-fails", "the beginning is hard"), ("begin-panics", "panicked: there was no beginning")]
    {
        let strategy = misbehaving(mode, OnError::Fail);
        let mut state = strategy.start(&session).unwrap();
        let error = state.begin(&FusionStep::new(rows, &[]), &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("plugin org.logitfuse.misbehave/misbehave: begin: {what}"));
        let lenient = misbehaving(mode, OnError::FallbackToBase);
        let mut state = lenient.start(&session).unwrap();
        state.begin(&FusionStep::new(rows, &[]), &[]).unwrap();
        let mut logits = [f32::NAN; 2];
        let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
        state.fuse(&FusionStep::new(rows, &[]), &mut out).unwrap();
        assert_eq!((logits, lenient.fallbacks()), ([1.0, 2.0], 1));
    }
}

/// Metadata that ask for what the plugin has no function for.
#[test]
fn a_strategy_that_asks_for_more_than_it_can_hear_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (from, with, what) in [
        (
            "\"calibrate\"]",
            "\"calibrat_\"]",
            "plugin org.logitfuse.misbehave/misbehave: its `calibration` needs calibrate, which its extensions or its \
             capabilities lack",
        ),
        (
            "\"prompts\":4,\"required\":false},",
            "\"prompts\":4},\"prompt\":\"rows\", ",
            "plugin org.logitfuse.misbehave/misbehave: its `prompt` needs read_prompt, which its extensions or its \
             capabilities lack",
        ),
    ] {
        let path = patched("misbehave", folder.path(), from.as_bytes(), with.as_bytes());
        let plugin = PluginFile::read(&path).unwrap().load().unwrap();
        let error = plugin.strategy("misbehave", &json!({}), OnError::Fail).map(drop).unwrap_err();
        assert_eq!(error.to_string(), what);
    }
    let path = patched("misbehave", folder.path(), b"\"rows_of\":[\"base\"", b"\"rows_of\":[\"best\"");
    let error = PluginFile::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("metadata: /strategies/0/calibration: best is none of the roles"), "{error}");
}

/// Threads may share a strategy while another one calibrates it.
#[test]
fn instances_are_calibrated_side_by_side() {
    let strategy: Arc<dyn FusionStrategy> = Arc::new(prompts());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let fitted = strategy.calibrated(&session(&ROLES), &mut |binding| Ok(rows_after(binding))).unwrap();
                    fitted.start(&session(&ROLES)).unwrap();
                }
            });
        }
    });
}

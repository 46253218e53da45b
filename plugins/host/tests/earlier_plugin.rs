//! A plugin of an earlier day: source and header as they were on 28 November 2026, before `lf.prompt/1` and
//! `lf.calibration/1`. It loads and gives the bits that it gave.

use std::path::{Path, PathBuf};

use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, PromptReading, PromptScore, RoleBinding, RoleRow, SessionInfo,
    SharedVocabulary,
};
use logitfuse_plugin_host::{OnError, PluginFile, PluginStrategy};
use serde_json::json;

use crate::compiler::{Unit, compile, crate_folder, include, scratch};

const WIDTH: usize = 5;

/// `entropy_gate.c` of that day, compiled with a header.
fn gate(name: &str, header: &Path) -> PathBuf {
    let file = crate_folder().join("tests/fixtures/2026-11-28/entropy_gate.c");
    let library = scratch(name);
    let flags = ["-shared", "-fPIC", "-fvisibility=hidden"];
    compile(&Unit { standard: "c99", file: &file, include: header, flags: &flags }, &library).unwrap();
    library
}

fn strategy(library: &Path) -> PluginStrategy {
    let plugin = PluginFile::read(library).unwrap().load().unwrap();
    plugin.strategy("entropy-gate", &json!({ "alpha": 1.5 }), OnError::Fail).unwrap()
}

fn session() -> SessionInfo {
    let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
    SessionInfo::new(["base", "expert", "anti"].map(binding), SharedVocabulary::new(WIDTH, []))
}

const ROWS: [[f32; WIDTH]; 3] =
    [[0.5, -1.0, 2.0, 0.0, 1.0], [1.0, 0.0, f32::NEG_INFINITY, 2.0, 0.0], [0.0, 0.5, 1.0, 0.5, -2.0]];

fn rows() -> [RoleRow<'static>; 3] {
    ROWS.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0))
}

fn fuse(state: &mut dyn FusionState) -> (Vec<u32>, Vec<u64>) {
    let (mut logits, mut trace) = ([f32::NAN; WIDTH], [f64::NAN; 2]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
    state.fuse(&FusionStep::new(&rows(), &[]), &mut out).unwrap();
    (logits.map(f32::to_bits).to_vec(), trace.map(f64::to_bits).to_vec())
}

#[test]
fn a_library_of_the_earlier_header_loads_and_fuses_the_same_bits() {
    let frozen = crate_folder().join("tests/fixtures/2026-11-28");
    let header = std::fs::read_to_string(frozen.join("logitfuse_plugin.h")).unwrap();
    assert!(header.contains("ABI 1.0") && !header.contains("lf.prompt/1"), "the frozen header is that of then");
    let earlier = strategy(&gate("gate-earlier.so", &frozen));
    let now = strategy(&gate("gate-now.so", &include()));
    let mut states = [&earlier, &now].map(|strategy| {
        let mut state = strategy.start(&session()).unwrap();
        // It is not told of prompts, and an engine need not know that.
        state.begin(&FusionStep::new(&rows(), &[]), &[PromptScore::default(); 3]).unwrap();
        state.read_prompt(&FusionStep::new(&rows(), &[]), 1).unwrap();
        state
    });
    let written = states.each_mut().map(|state| fuse(state.as_mut()));
    assert_eq!(written[0], written[1]);
    let expected = [2.0, -1.75, 2.0 + 1.5 * (rows()[1].log_normaliser - rows()[2].log_normaliser), 2.25, 4.0];
    #[expect(clippy::cast_possible_truncation, reason = "a logit")]
    let expected = expected.map(|x| (x as f32).to_bits());
    assert_eq!(written[0].0, expected);
    // Its table has settle, and a fork is a fresh state.
    let (mut logits, lead) = ([f32::NAN; WIDTH], rows()[0]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
    assert!(!states[0].early_exit(&lead, &[], &mut out).unwrap());
    assert_eq!(fuse(states[0].fork().unwrap().as_mut()), written[0]);
}

#[test]
fn it_says_that_it_takes_no_prompts() {
    let frozen = crate_folder().join("tests/fixtures/2026-11-28");
    let earlier = strategy(&gate("gate-silent.so", &frozen));
    assert_eq!(earlier.info().prompt, PromptReading::End);
    assert_eq!(earlier.info().calibration, None);
    let refused = earlier.calibrated(&session(), &mut |_| unreachable!("it is not asked")).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "strategy `entropy-gate` takes no calibration prompts");
}

//! The table that `export!` makes, called as a host in C calls it.

#![expect(unsafe_code, reason = "plays a host in C")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of structs and of small cases")]

mod support;

use std::ptr;

use logitfuse_conformance::{Case, generators, strategy_laws};
use logitfuse_plugin::numerics::log_sum_exp;
use logitfuse_plugin::serde_json::{self, Value, json};
use logitfuse_plugin::{FusedRow, FusionStep, FusionStrategy, RoleRow};
use logitfuse_plugin_abi::*;
use proptest::prelude::*;
use support::probe::Probe;
use support::*;

logitfuse_plugin::export!(
    meta: *b"LFMETA01{\"abi\":[1,0],\"plugin\":{\"id\":\"test\",\"version\":\"1\"},\"strategies\":[{\"id\":\"probe\",\"roles\":[],\"params\":{}}]}\0\0";
    Probe
);

fn probe(mode: &str) -> Loopback {
    let params = json!({ "mode": mode });
    Loopback::new("probe", &params.to_string(), Probe::from_json(&params).unwrap().info().clone()).unwrap()
}

fn created(params: &str) -> (lf_status, Texts) {
    let mut instance = ptr::null_mut();
    let made = call!(strategy("probe"), create, &raw const HOST.0, borrowed(params), &raw mut instance);
    assert_eq!(instance.is_null(), made.0 != LF_OK);
    made
}

#[test]
fn the_entry_gives_the_exported_metadata_and_a_table() {
    let plugin = plugin();
    assert_eq!(plugin.meta.ptr.cast(), (&raw const LF_PLUGIN_META).cast::<std::ffi::c_char>());
    assert_eq!(text(plugin.meta).as_bytes(), meta());
    assert_eq!((plugin.n_strategies, plugin.abi_minor), (1, 0));
    assert_eq!(plugin.struct_size as usize, size_of::<lf_plugin_v1>());
    assert!(ptr::eq(plugin, support::plugin()), "a second entry gives the same table");
}

#[test]
fn the_entry_refuses_a_host_that_is_none() {
    let refused = |host: *const lf_host_v1| {
        let mut texts = Texts::new();
        // SAFETY: null, or a host that says that it is too short to be read.
        assert!(unsafe { lf_plugin_entry_v1(host, &raw mut texts.error) }.is_null());
        texts.message()
    };
    assert_eq!(refused(ptr::null()), "lf_host_v1: null or misaligned");
    assert_eq!(refused(&lf_host_v1 { struct_size: 8, ..HOST.0 }), "lf_host_v1: struct_size is 8, 32 at least");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn through_the_table_is_direct_bit_for_bit(case in case()) {
        let direct = Probe::from_json(&json!({})).unwrap();
        prop_assert_eq!(bits(&direct, &case), bits(&probe(""), &case));
        strategy_laws::contract(&probe(""), &case)?;
    }
}

/// Every logit and every trace column of a run, as bits.
fn bits(strategy: &dyn FusionStrategy, case: &Case) -> Vec<(Vec<u32>, u64)> {
    let mut state = strategy.start(&case.session).unwrap();
    let mut log_probs = vec![0.0; case.session.bindings.len()];
    let step = |(rows, &token): (&Vec<Vec<f32>>, &u32)| {
        let rows: Vec<_> =
            rows.iter().zip(&log_probs).map(|(row, p)| RoleRow::new(row, log_sum_exp(row), *p)).collect();
        let (mut logits, mut trace) = (vec![0.0; case.width()], [f64::NAN]);
        let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
        state.fuse(&FusionStep::new(&rows, &[]), &mut out).unwrap();
        state.commit(&[token]).unwrap();
        log_probs = rows
            .iter()
            .map(|row| row.sequence_log_prob + f64::from(row.logits()[token as usize]) - row.log_normaliser)
            .collect();
        (logits.iter().map(|x| x.to_bits()).collect(), trace[0].to_bits())
    };
    case.steps.iter().zip(&case.tokens).map(step).collect()
}

fn case() -> impl Strategy<Value = Case> {
    generators::case(&[("base", 1), ("expert", 1)])
}

#[test]
fn errors_keep_their_kind_their_pointer_and_their_help() {
    let (status, texts) = created(r#"{"mode": "refuse"}"#);
    assert_eq!(status, LF_E_CONFIG);
    assert_eq!(
        (&*texts.path(), &*texts.message(), &*texts.help()),
        ("/mode", "must not be `refuse`", "there are other modes")
    );
    let (status, texts) = created(r#"{"mode": "io"}"#);
    assert_eq!((status, &*texts.message()), (LF_E_IO, "weights.bin: no such file"));
    let (status, texts) = created("{");
    assert_eq!(status, LF_E_ARGUMENT);
    assert!(texts.message().starts_with("params: EOF"), "{}", texts.message());
    let latin1 = lf_str { ptr: b"\"\xe9\"".as_ptr().cast(), len: 3 };
    let mut instance = ptr::null_mut();
    let (status, texts) = call!(strategy("probe"), create, &raw const HOST.0, latin1, &raw mut instance);
    assert_eq!(status, LF_E_ARGUMENT);
    assert!(texts.message().starts_with("params: not UTF-8"), "{}", texts.message());
}

#[test]
fn a_message_is_cut_between_characters_and_its_length_told() {
    let refuse = |err: *mut lf_error| {
        let mut instance = ptr::null_mut();
        // The message is "must not be `refuse`", the pointer "/mode".
        let params = borrowed(r#"{"mode": "refuse"}"#);
        // SAFETY: everything is as the header asks; `err` comes with its buffers, or is null.
        let status = unsafe { strategy("probe").create.unwrap()(&raw const HOST.0, params, &raw mut instance, err) };
        assert_eq!(status, LF_E_CONFIG);
    };
    let mut texts = Texts::of_capacity(7);
    refuse(&raw mut texts.error);
    assert_eq!((texts.message(), texts.error.message.len), ("must no".to_owned(), 20));
    assert_eq!((texts.path(), texts.error.path.len), ("/mode".to_owned(), 5));
    // A struct of an earlier day, that ends behind the message, is not written beyond.
    let mut texts = Texts::new();
    texts.error.struct_size = end_of!(lf_error, message) as u32;
    refuse(&raw mut texts.error);
    assert_eq!((texts.message().len(), texts.error.path.len), (20, 0));
    // An error is optional.
    refuse(ptr::null_mut());
}

/// Fuses one position of two ids.
fn fuse(sequence: &Sequence, change: impl FnOnce(&mut lf_step, &mut lf_out)) -> (lf_status, Texts) {
    let rows = [RoleRow::new(&[1.0, 2.0], 2.3, 0.0), RoleRow::new(&[0.0, 3.0], 3.05, 0.0)];
    let mut out = FusedRow { logits: &mut [0.0; 2], trace: &mut [f64::NAN] };
    with_step(&rows, &[], &mut out, |step, out| {
        change(step, out);
        call!(sequence.table, fuse, sequence.state, &raw const *step, &raw mut *out)
    })
}

fn sequence(mode: &str) -> (Loopback, Sequence) {
    let strategy = probe(mode);
    let sequence = strategy.start_two().unwrap();
    (strategy, sequence)
}

#[test]
fn a_panic_is_an_error_that_names_its_place_and_poisons_the_state() {
    let (_strategy, sequence) = sequence("panic-in-fuse");
    assert_eq!(fuse(&sequence, |_, _| ()).0, LF_OK);
    assert_eq!(call!(sequence.table, commit, sequence.state, [7_u32].as_ptr(), 1).0, LF_OK);
    let (status, texts) = fuse(&sequence, |_, _| ());
    assert_eq!(status, LF_E_PANIC);
    let message = texts.message();
    assert!(message.starts_with("panicked at ") && message.contains("probe.rs:"), "{message}");
    assert!(message.ends_with(": token 7 was unexpected"), "{message}");
    // Whatever is called now, the strategy's code does not run.
    assert_eq!(fuse(&sequence, |_, _| ()).1.message(), "poisoned by an earlier panic");
    assert_eq!(call!(sequence.table, rollback, sequence.state, 1).0, LF_E_PANIC);
    let mut fork = ptr::null_mut();
    assert_eq!(call!(sequence.table, state_fork, sequence.state.cast_const(), &raw mut fork).0, LF_E_PANIC);
}

#[test]
fn panics_elsewhere_are_errors_too() {
    let (status, texts) = created(r#"{"mode": "panic-in-create"}"#);
    assert_eq!(status, LF_E_PANIC);
    assert!(texts.message().ends_with("nothing can be made of panic-in-create"), "{}", texts.message());
    let error = probe("panic-in-start").start_two().map(drop).unwrap_err();
    assert!(error.to_string().contains("no start"), "{error}");
    // A payload that is no text, and that must not be dropped.
    let (_strategy, sequence) = sequence("payload-panics-on-drop");
    let (status, texts) = fuse(&sequence, |_, _| ());
    assert_eq!(status, LF_E_PANIC);
    assert!(texts.message().ends_with(": (no message)"), "{}", texts.message());
}

#[test]
fn wrong_calls_are_refused_before_the_strategy_sees_them() {
    let (_strategy, sequence) = sequence("");
    let refused = |change: fn(&mut lf_step, &mut lf_out), message: &str| {
        let (status, texts) = fuse(&sequence, change);
        assert_eq!((status, &*texts.message()), (LF_E_ARGUMENT, message));
    };
    refused(|step, _| step.struct_size = 16, "lf_step: struct_size is 16, 40 at least");
    refused(|step, _| step.n_rows = 1, "lf_step.n_rows: 1, and the session says 2");
    refused(|step, _| step.width = 3, "lf_step.width: 3, and the session says 2");
    refused(|step, _| step.rows = ptr::null(), "lf_step.rows: null or misaligned, with a length of 2");
    refused(
        |step, _| step.rows = step.rows.wrapping_byte_add(1),
        "lf_step.rows: null or misaligned, with a length of 2",
    );
    refused(
        |step, _| step.n_committed = u64::MAX,
        "lf_step.committed: 18446744073709551615 elements are more than memory holds",
    );
    refused(|_, out| out.width = 1, "lf_out.width: 1, and the session says 2");
    refused(|_, out| out.n_trace = 2, "lf_out.n_trace: 2, and the session says 1");
    refused(|_, out| out.logits = ptr::null_mut(), "lf_out.logits: null or misaligned, with a length of 2");
    let overlap = |step: &mut lf_step, out: &mut lf_out| {
        // SAFETY: the step has a row of two ids.
        out.logits = unsafe { (*step.rows).logits.add(1) }.cast_mut();
    };
    refused(overlap, "lf_out.logits: overlaps a row");
    let (status, texts) = call!(sequence.table, fuse, ptr::null_mut(), ptr::null(), ptr::null_mut());
    assert_eq!((status, &*texts.message()), (LF_E_ARGUMENT, "the object is null"));
    let (status, texts) = call!(sequence.table, fuse, sequence.state, ptr::null(), ptr::null_mut());
    assert_eq!((status, &*texts.message()), (LF_E_ARGUMENT, "lf_step: null or misaligned"));
    // None of it poisoned anything.
    assert_eq!(fuse(&sequence, |_, _| ()).0, LF_OK);
    // SAFETY: null is ignored.
    unsafe {
        sequence.table.state_free.unwrap()(ptr::null_mut());
        sequence.table.destroy.unwrap()(ptr::null_mut());
    }
}

#[test]
fn a_trace_that_was_not_requested_may_be_null() {
    let (_strategy, sequence) = sequence("");
    let spared = |_: &mut lf_step, out: &mut lf_out| (out.n_trace, out.trace) = (0, ptr::null_mut());
    assert_eq!(fuse(&sequence, spared).0, LF_OK);
}

#[test]
fn errors_of_steps_have_their_statuses() {
    let (_strategy, numeric) = sequence("numeric");
    assert_eq!(fuse(&numeric, |_, _| ()).0, LF_E_NUMERIC);
    let error = probe("misfit").start_two().map(drop).unwrap_err();
    assert_eq!(error.to_string(), format!("{LF_E_INCOMPATIBLE}  2 rows"));
    let (_strategy, sequence) = sequence("");
    let (status, texts) = call!(sequence.table, rollback, sequence.state, u64::MAX);
    assert_eq!(status, LF_E_INTERNAL);
    assert!(texts.message().starts_with("rollback: "), "{}", texts.message());
}

#[test]
fn an_instance_describes_itself() {
    let strategy = probe("described");
    let mut json = lf_buf { ptr: ptr::null_mut(), cap: 0, len: 0 };
    assert_eq!(call!(support::strategy("probe"), describe, strategy.instance(), &raw mut json).0, LF_OK);
    let mut text = vec![0_u8; json.len as usize];
    json = lf_buf { ptr: text.as_mut_ptr().cast(), cap: json.len, len: 0 };
    assert_eq!(call!(support::strategy("probe"), describe, strategy.instance(), &raw mut json).0, LF_OK);
    let value: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value["equation"], "mode described");
    assert_eq!(value["lead"], "base");
    assert_eq!(value["roles"][1], json!({ "name": "expert", "min": 1, "max": 1, "summary": "" }));
    assert_eq!(value["trace"][0], json!({ "name": "committed", "unit": "tokens" }));
}

#[test]
fn logs_reach_the_host() {
    probe("log");
    let log = LOG.lock().unwrap();
    assert!(log.contains(&(LF_LOG_WARN, r#"made with {"mode":"log"}"#.to_owned())), "{log:?}");
}

//! A step of a strategy allocates nothing once it has seen a row of the width, but for histories that double, and a decode loop
//! nothing once it is under way: a program of its own, because an allocator that counts serves a whole program.

#![expect(unsafe_code, reason = "counts what is allocated")]

mod decode;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use logitfuse_core::{
    CalibrationRows, FusedRow, FusionStep, FusionStrategy, PromptReading, PromptScore, RoleBinding, RoleRow,
    SessionInfo, SharedVocabulary, TokenId, numerics::log_sum_exp,
};
use logitfuse_pipeline::{StrategyConfig, configured};
use serde_json::{Value, json};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Of all threads.
static EVERYWHERE: AtomicUsize = AtomicUsize::new(0);

fn everywhere() -> usize {
    EVERYWHERE.load(Ordering::SeqCst)
}

/// What counts all threads must not run beside another test.
fn measured_alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: the system's allocator; the counter neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        EVERYWHERE.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; what `alloc` gave came from the same allocator.
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WIDTH: usize = 5_000;
const STEPS: usize = 31;
/// Steps after which nothing may be allocated: buffers have their size, and histories, which double, have room for 31
/// tokens.
const WARM: usize = 17;

/// Rows shaped like a language model's, other ones at each step.
fn rows(count: usize, step: usize) -> Vec<Vec<f32>> {
    let mut state = (step as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut entry = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        -2.5 * ((state >> 40) as f32 / (1_u32 << 24) as f32 + 1e-5).ln() - 8.0
    };
    (0..count).map(|_| (0..WIDTH).map(|_| entry()).collect()).collect()
}

/// Allocations of the first step after the warm ones that makes any.
fn allocations(strategy: &dyn FusionStrategy, experts: usize, trace: bool) -> usize {
    let info = strategy.info();
    let count = |role: &str, least: usize| if role == "expert" || least == 0 { experts } else { least };
    let roles = info.roles.iter().flat_map(|role| {
        let count = count(&role.name, role.arity.min).min(role.arity.max.unwrap_or(usize::MAX));
        std::iter::repeat_n(role.name.clone(), count)
    });
    let bindings: Vec<_> = roles.map(|role| RoleBinding { source: role.clone(), role }).collect();
    let steps: Vec<_> = (0..STEPS).map(|step| rows(bindings.len(), step)).collect();
    let session = SessionInfo::new(bindings, SharedVocabulary::new(WIDTH, []));
    let fitted = info.calibration.as_ref().filter(|spec| spec.required).map(|_| calibrated(strategy, &session));
    let strategy = fitted.as_deref().unwrap_or(strategy);
    let info = strategy.info();
    let mut state = strategy.start(&session).expect("the roles fit");
    let asked = if info.prompt == PromptReading::End { 0 } else { session.bindings.len() };
    let first: Vec<_> = steps[0].iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
    let prompt = vec![PromptScore { log_prob: -20.0, tokens: 8 }; asked];
    state.begin(&FusionStep::new(&first, &[]), &prompt).expect("a prompt's end");
    let (mut logits, mut trace) = (vec![0.0; WIDTH], vec![f64::NAN; if trace { info.trace.len() } else { 0 }]);
    let tokens: Vec<TokenId> = (0..).take(STEPS).collect();
    for (at, step) in steps.iter().enumerate() {
        let rows: Vec<_> = step.iter().map(|row| RoleRow::new(row, log_sum_exp(row), -2.0 * at as f64)).collect();
        let before = ALLOCATIONS.get();
        let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
        state.fuse(&FusionStep::new(&rows, &tokens[..at]), &mut out).expect("a step");
        state.commit(&tokens[at..=at]).expect("a commit");
        let made = ALLOCATIONS.get() - before;
        if at >= WARM && made > 0 {
            return made;
        }
    }
    0
}

/// A strategy that knows its sources by two prompts of each expert.
fn calibrated(strategy: &dyn FusionStrategy, session: &SessionInfo) -> std::sync::Arc<dyn FusionStrategy> {
    let mut rows_after = |expert: usize| {
        let mut said = CalibrationRows::new(2);
        for prompt in 0..2 {
            let rows = rows(session.bindings.len(), 100 * expert + prompt);
            rows.iter().enumerate().for_each(|(binding, row)| said.push(prompt, binding, row));
        }
        Ok(said)
    };
    strategy.calibrated(session, &mut rows_after).expect("prompts enough")
}

fn strategy(
    id: &str,
    params: &Value,
    gate: Option<Value>,
    schedule: Option<Value>,
) -> std::sync::Arc<dyn FusionStrategy> {
    let table = |value: Value| value.as_object().expect("a table").clone();
    let config = StrategyConfig {
        id: Some(id.to_owned()),
        params: table(params.clone()),
        gate: gate.map(table),
        schedule: schedule.map(table),
        ..StrategyConfig::default()
    };
    configured(&config).expect("the parameters are valid")
}

#[test]
fn a_step_allocates_nothing() {
    let _alone = measured_alone();
    let cases = [
        ("none", json!({}), 1),
        ("static-proxy", json!({}), 1),
        ("static-proxy", json!({ "plausibility": 0.1 }), 4),
        ("static-proxy", json!({ "top_p": 0.9 }), 1),
        ("dynamic-kl", json!({}), 1),
        ("dynamic-kl", json!({ "solver": "grid", "kl_temperature": 1.5 }), 1),
        ("dynamic-kl", json!({ "objective": "budget" }), 1),
        ("dynamic-kl", json!({}), 4),
        ("dynamic-kl", json!({ "pool": "arithmetic", "weights": "entropy" }), 4),
        ("dynamic-kl", json!({ "experts": "one_expert" }), 4),
        ("dynamic-kl", json!({ "weights": "fingerprint" }), 4),
        ("dynamic-kl", json!({ "fingerprint": { "slack": 100.0 } }), 4),
        ("dynamic-kl", json!({ "posterior": { "evidence": "both" } }), 4),
        ("in-context", json!({ "mode": "cad" }), 1),
        ("in-context", json!({ "mode": "adacad" }), 1),
        ("in-context", json!({ "mode": "icl_expert" }), 1),
        ("task-arithmetic", json!({}), 3),
        ("task-arithmetic", json!({ "strength": "dynamic" }), 3),
        ("ensemble", json!({}), 3),
        ("ensemble", json!({ "mean": "arithmetic" }), 3),
        ("contrastive", json!({}), 1),
        ("trimix", json!({}), 1),
        ("trimix", json!({ "calibration": "prompt" }), 1),
    ];
    for (id, params, experts) in cases {
        for trace in [false, true] {
            let made = allocations(strategy(id, &params, None, None).as_ref(), experts, trace);
            assert_eq!(made, 0, "{id} {params} with {experts} experts, trace {trace}");
        }
    }
    let gate = || Some(json!({ "max_prob": 0.5 }));
    let schedule = || Some(json!({ "shape": "cosine" }));
    for (gate, schedule) in [(gate(), None), (None, schedule()), (gate(), schedule())] {
        let wrapped = strategy("dynamic-kl", &json!({}), gate, schedule);
        assert_eq!(allocations(wrapped.as_ref(), 1, true), 0, "{}", wrapped.info().id);
    }
}

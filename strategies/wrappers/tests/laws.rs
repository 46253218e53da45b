//! The laws, around a strategy without memory and around one with it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::sync::Arc;

use logitfuse_conformance::{Case, generators, oracles, strategy_laws};
use logitfuse_core::numerics::{argmax, entropy, log_sum_exp};
use logitfuse_core::{
    ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law, Result, RoleSpec, SessionInfo, StrategyInfo,
    TokenId,
};
use logitfuse_static_proxy::{Params, StaticProxy};
use logitfuse_wrappers::{Gate, GateParams, Schedule, ScheduleParams, Shape};
use proptest::prelude::*;

const ROLES: [(&str, usize); 3] = [("base", 1), ("expert", 1), ("anti", 1)];

fn proxy() -> Arc<dyn FusionStrategy> {
    Arc::new(StaticProxy::new(Params { alpha: 1.5, ..Params::default() }).unwrap())
}

/// Proxy tuning that masks: what the base finds implausible.
fn masking() -> Arc<dyn FusionStrategy> {
    Arc::new(StaticProxy::new(Params { plausibility: Some(0.1), ..Params::default() }).unwrap())
}

/// Adds the expert as often as tokens that it helped to choose were committed: banks at `commit` what `fuse` did.
struct Banking(StrategyInfo);

#[derive(Clone, Default)]
struct Bank {
    /// For every committed token, whether it was fused.
    spent: Vec<bool>,
    pending: bool,
}

fn banking() -> Arc<dyn FusionStrategy> {
    let roles = ["base", "expert", "anti"].map(RoleSpec::one);
    Arc::new(Banking(StrategyInfo::new("banking", roles).with_laws([Law::MaskPreserving]).with_trace("spent", "1")))
}

impl FusionStrategy for Banking {
    fn info(&self) -> &StrategyInfo {
        &self.0
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::<Bank>::default())
    }
}

impl Bank {
    fn sum(&self) -> f32 {
        self.spent.iter().filter(|spent| **spent).count() as f32
    }
}

impl FusionState for Bank {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        self.pending = true;
        let rows = step.row(0).logits().iter().zip(step.row(1).logits());
        for (out, (base, expert)) in out.logits.iter_mut().zip(rows) {
            *out = base + (1.0 + self.sum()) * expert.clamp(-1.0, 1.0);
        }
        out.trace.fill(f64::from(self.sum()));
        Ok(())
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.spent.extend(tokens.iter().map(|_| pending));
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.spent.truncate(self.spent.len() - n);
        self.pending = false;
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.clone()))
    }
}

/// Every kind of strategy to wrap.
const INNERS: [fn() -> Arc<dyn FusionStrategy>; 3] = [proxy, masking, banking];

fn gate_params() -> impl Strategy<Value = GateParams> {
    let some = |range: std::ops::Range<f64>| prop_oneof![1 => Just(None), 2 => range.prop_map(Some)];
    let all = (some(0.01..1.0), some(0.0..4.0), any::<bool>(), any::<bool>());
    all.prop_filter_map("a gate needs a condition", |(max_prob, entropy_nats, disagreement, audit)| {
        let conditions = max_prob.is_some() || entropy_nats.is_some() || disagreement;
        conditions.then_some(GateParams { max_prob, entropy_nats, disagreement, audit })
    })
}

fn schedule_params() -> impl Strategy<Value = ScheduleParams> {
    let shape = prop_oneof![Just(Shape::Constant), Just(Shape::Warmup), Just(Shape::Cosine), Just(Shape::Cycle)];
    let scale = || prop_oneof![Just(0.0), Just(1.0), 0.0..2.0];
    (shape, scale(), scale(), 1..4_usize).prop_map(|(shape, from, to, steps)| ScheduleParams { shape, from, to, steps })
}

fn gate(params: GateParams, inner: Arc<dyn FusionStrategy>) -> Gate {
    Gate::new(params, inner).unwrap()
}

fn schedule(params: ScheduleParams, inner: Arc<dyn FusionStrategy>) -> Schedule {
    Schedule::new(params, inner).unwrap()
}

fn always(scale: f64) -> ScheduleParams {
    ScheduleParams { to: scale, ..ScheduleParams::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_for_gates(params in gate_params(), inner in 0..3_usize, case in generators::case(&ROLES)) {
        let strategy = gate(params, INNERS[inner]());
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn the_laws_hold_for_schedules(params in schedule_params(), inner in 0..3_usize, case in generators::case(&ROLES)) {
        let strategy = schedule(params, INNERS[inner]());
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn the_laws_hold_for_a_gate_around_a_schedule_and_the_reverse(
        gated in gate_params(),
        scheduled in schedule_params(),
        case in generators::case(&ROLES),
    ) {
        let around = gate(gated.clone(), Arc::new(schedule(scheduled, banking())));
        strategy_laws::contract(&around, &case)?;
        let reverse = schedule(scheduled, Arc::new(gate(gated, banking())));
        strategy_laws::contract(&reverse, &case)?;
    }

    #[test]
    fn scales_of_0_and_1_are_the_base_and_the_wrapped(inner in 0..3_usize, case in generators::case(&ROLES)) {
        let inner = INNERS[inner]();
        strategy_laws::identity(&schedule(always(0.0), inner.clone()), &case)?;
        oracles::same_bits((&schedule(always(1.0), inner.clone()), &case), (inner.as_ref(), &case))?;
        let closed = GateParams { max_prob: Some(f64::MIN_POSITIVE), ..GateParams::default() };
        strategy_laws::identity(&gate(closed, inner.clone()), &case)?;
    }

    #[test]
    fn between_lies_half_of_the_way(scale in 0.01..2.0, case in generators::case(&ROLES)) {
        let inner = case.fused(masking().as_ref()).unwrap();
        for ((rows, (scaled, trace)), (fused, of_inner)) in case.steps.iter().zip(case.fused(&schedule(always(scale), masking())).unwrap()).zip(inner) {
            prop_assert_eq!(&trace[..4], &of_inner[..]);
            prop_assert_eq!(trace[4].to_bits(), scale.to_bits());
            for id in 0..case.width() {
                let [base, fused, scaled] = [rows[0][id], fused[id], scaled[id]].map(f64::from);
                if fused == f64::NEG_INFINITY {
                    prop_assert!(scaled.is_infinite(), "what is masked stays masked");
                } else {
                    let exact = base + scale * (fused - base);
                    prop_assert!((scaled - exact).abs() <= 8e-7 * base.abs().max(fused.abs()).max(1.0), "{scaled} {exact}");
                }
            }
        }
    }

    #[test]
    fn a_gate_opens_where_it_says(params in gate_params(), case in generators::case(&ROLES)) {
        let params = GateParams { audit: true, ..params };
        let fused = case.fused(proxy().as_ref()).unwrap();
        for ((rows, (gated, trace)), (inner, of_inner)) in case.steps.iter().zip(case.fused(&gate(params.clone(), proxy())).unwrap()).zip(fused) {
            let z = log_sum_exp(&rows[0]);
            let top = argmax(&rows[0]);
            let max_prob = (f64::from(rows[0][top]) - z).exp();
            let top_ids = |row: &[f32]| {
                let best = row[argmax(row)];
                (0..row.len()).filter(|&id| row[id].to_bits() == best.to_bits()).collect::<Vec<usize>>()
            };
            let common = |other: &[f32]| top_ids(other).iter().any(|id| top_ids(&rows[0]).contains(id));
            let open = params.max_prob.is_some_and(|least| max_prob < least)
                || params.entropy_nats.is_some_and(|most| entropy(&rows[0], z) > most)
                || params.disagreement && !(common(&rows[1]) && common(&rows[2]));
            let (expected, columns) = if open { (&inner, of_inner) } else { (&rows[0], vec![f64::NAN; 4]) };
            prop_assert_eq!(&gated, expected);
            let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
            prop_assert_eq!(bits(&trace[..4]), bits(&columns));
            let changed = !open && argmax(&inner) != top;
            prop_assert_eq!(&trace[4..], &[f64::from(u8::from(open)), f64::from(u8::from(changed))]);
        }
    }

    /// An audit changes nothing, to a strategy with memory either.
    #[test]
    fn an_audit_changes_nothing(params in gate_params(), case in generators::case(&ROLES)) {
        let [with, without] = [true, false].map(|audit| gate(GateParams { audit, ..params.clone() }, banking()));
        prop_assert!(with.info().lead_role.is_none());
        oracles::same_bits((&with, &case), (&without, &case))?;
    }
}

#[test]
fn a_token_that_was_not_fused_costs_nothing() {
    // Open, closed, open: the wrapped strategy is told of three tokens and helped with the first and the last.
    let (open, closed) = (vec![0.0, 0.0], vec![9.0, 0.0]);
    let rows = |base: &Vec<f32>| vec![base.clone(), vec![1.0, 0.0], vec![0.0, 0.0]];
    let session = SessionInfo::new(
        ROLES.map(|(role, _)| logitfuse_core::RoleBinding { role: role.into(), source: role.into() }),
        logitfuse_core::SharedVocabulary::new(2, []),
    );
    let case = Case { session, steps: [&open, &closed, &open, &open].map(rows).into(), tokens: vec![0; 4] };
    let strategy = gate(GateParams { max_prob: Some(0.6), ..GateParams::default() }, banking());
    let spent: Vec<String> = case.fused(&strategy).unwrap().iter().map(|(_, trace)| trace[0].to_string()).collect();
    assert_eq!(spent, ["0", "NaN", "1", "2"]);
}

#[test]
fn scales_follow_their_shape() {
    let scales = |shape| {
        let params = ScheduleParams { shape, from: 0.25, to: 1.0, steps: 2 };
        (0..6).map(|tokens| (params.at(tokens) * 1000.0).round()).collect::<Vec<f64>>()
    };
    assert_eq!(scales(Shape::Constant), [1000.0; 6]);
    assert_eq!(scales(Shape::Warmup), [250.0, 250.0, 1000.0, 1000.0, 1000.0, 1000.0]);
    assert_eq!(scales(Shape::Cosine), [250.0, 625.0, 1000.0, 1000.0, 1000.0, 1000.0]);
    assert_eq!(scales(Shape::Cycle), [250.0, 250.0, 1000.0, 1000.0, 250.0, 250.0]);
}

#[test]
fn a_lead_is_named_where_its_row_may_be_enough() {
    let lead = |info: &StrategyInfo| info.lead_role.clone();
    let base = Some("base".to_owned());
    let unsure = GateParams { max_prob: Some(0.3), ..GateParams::default() };
    assert_eq!(lead(gate(unsure.clone(), proxy()).info()), base);
    assert_eq!(lead(gate(GateParams { audit: true, ..unsure.clone() }, proxy()).info()), None);
    assert_eq!(lead(gate(GateParams { disagreement: true, ..unsure.clone() }, proxy()).info()), None);
    let warmup = ScheduleParams { shape: Shape::Warmup, ..ScheduleParams::default() };
    assert_eq!(lead(schedule(warmup, proxy()).info()), base);
    assert_eq!(lead(schedule(always(0.5), proxy()).info()), None);
    assert_eq!(lead(schedule(always(0.5), Arc::new(gate(unsure, proxy()))).info()), base);
}

#[test]
fn descriptions_add_up() {
    let inner = Arc::new(schedule(always(0.5), proxy()));
    let info = gate(GateParams { max_prob: Some(0.3), ..GateParams::default() }, inner).info().clone();
    assert_eq!(info.id, "static-proxy+schedule+gate");
    let columns: Vec<&str> = info.trace.iter().map(|c| c.name.as_str()).collect();
    let of_inner = ["alpha", "kl_fused_base", "kl_base_fused", "kl_expert_anti"];
    assert_eq!(columns, [&of_inner[..], &["schedule", "gate_open", "gate_changed"]].concat());
    assert_eq!(info.roles, proxy().info().roles);
    assert!(info.equation.contains("expert[t]") && info.equation.contains("s(tokens)"), "{}", info.equation);
    let laws = ["deterministic", "stateless", "shift-invariant", "vocab-equivariant", "mask-preserving"];
    let claimed: Vec<String> = info.laws.iter().map(ToString::to_string).collect();
    assert_eq!(claimed, [&laws[..], &["identity-at: alpha=0"]].concat());
}

#[test]
fn bad_parameters_are_named() {
    use serde_json::json;
    let gate = |params| Gate::from_json(&params, proxy()).err().unwrap();
    let schedule = |params| Schedule::from_json(&params, proxy()).err().unwrap();
    let cases = [
        (gate(json!({})), "params: a gate without a condition never opens"),
        (gate(json!({ "audit": true })), "params: a gate without a condition never opens"),
        (gate(json!({ "max_prob": 0 })), "/max_prob: must be above 0 and at most 1"),
        (gate(json!({ "entropy_nats": -1 })), "/entropy_nats: must be 0 or more, and finite"),
        (gate(json!({ "disagreement": "yes" })), "/disagreement: invalid type: string \"yes\", expected a boolean"),
        (gate(json!({ "threshold": 0.3 })), "/threshold: unknown field `threshold`"),
        (schedule(json!({ "shape": "linear" })), "/shape: unknown variant `linear`, expected one of `constant`"),
        (schedule(json!({ "from": -0.5 })), "/from: must be 0 or more, and finite"),
        (schedule(json!({ "to": -0.5 })), "/to: must be 0 or more, and finite"),
        (schedule(json!({ "steps": 0 })), "/steps: must be 1 or more"),
        (schedule(json!({ "steps": -1 })), "/steps: invalid value: integer `-1`"),
        (schedule(json!(3)), "params: must be a table of names and values"),
    ];
    for (error, message) in cases {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.help().is_some());
    }
}

#[test]
fn a_session_without_a_base_is_refused() {
    struct Roleless(StrategyInfo);
    impl FusionStrategy for Roleless {
        fn info(&self) -> &StrategyInfo {
            &self.0
        }
        fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
            Ok(Box::<Bank>::default())
        }
    }
    let wrapped = schedule(always(0.5), Arc::new(Roleless(StrategyInfo::new("roleless", []))));
    let session = SessionInfo::new(Vec::new(), logitfuse_core::SharedVocabulary::new(2, []));
    let error = wrapped.start(&session).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(error.to_string(), "strategy `roleless+schedule` has no source in its first role");
}

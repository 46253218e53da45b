//! Choosing by fingerprints: what each expert's prompts look like to the small models.

use std::sync::Arc;

use crate::support::{Fused, plain_rows, session, strategy};
use logitfuse_conformance::strategy_laws;
use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{
    CalibrationRows, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Result, RoleRow, SessionInfo,
};
use logitfuse_dynamic_kl::{DynamicKl, FingerprintParams, Params, Pool, Weights};
use proptest::prelude::*;

const PROMPTS: usize = 4;

/// What the small models, `rows[1..]`, say after each prompt of each expert: `[expert][prompt][row]`.
type Kinds = Vec<Vec<Vec<Vec<f32>>>>;

fn fit(strategy: &DynamicKl, session: &SessionInfo, kinds: &Kinds) -> Result<Arc<dyn FusionStrategy>> {
    strategy.calibrated(session, &mut |binding| {
        let own = &kinds[binding - 1];
        let mut rows = CalibrationRows::new(own.len());
        for (prompt, said) in own.iter().enumerate() {
            said.iter().enumerate().skip(1).for_each(|(binding, row)| rows.push(prompt, binding, row));
        }
        Ok(rows)
    })
}

/// The first position of a text whose prompt ends in these rows.
fn first_step(strategy: &dyn FusionStrategy, session: &SessionInfo, rows: &[Vec<f32>]) -> Fused {
    let mut state = strategy.start(session).expect("the roles fit");
    let views: Vec<_> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
    let step = FusionStep::new(&views, &[]);
    state.begin(&step, &[]).expect("a prompt's end");
    fuse(strategy, state.as_mut(), &step)
}

fn fuse(strategy: &dyn FusionStrategy, state: &mut dyn FusionState, step: &FusionStep<'_>) -> Fused {
    let columns = &strategy.info().trace;
    let (mut logits, mut trace) = (vec![f32::NAN; step.row(0).logits().len()], vec![f64::NAN; columns.len()]);
    state.fuse(step, &mut FusedRow { logits: &mut logits, trace: &mut trace }).expect("rows of a test are valid");
    Fused::new(logits, columns.iter().map(|column| column.name.clone()).zip(trace))
}

/// Kinds of prompts for so many experts: rows of a rows, and others that differ a little from them.
fn kinds(experts: usize) -> impl Strategy<Value = Kinds> {
    (plain_rows(experts * (experts + 2)), any::<u64>()).prop_map(move |(rows, mut seed)| {
        let mut wobble = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            0.6 * ((seed >> 40) as f32 / (1_u32 << 24) as f32) - 0.3
        };
        let mut prompt = |kind: &[Vec<f32>]| -> Vec<Vec<f32>> {
            kind.iter().map(|row| row.iter().map(|x| x + wobble()).collect()).collect()
        };
        rows.chunks(experts + 2).map(|kind| (0..PROMPTS).map(|_| prompt(kind)).collect()).collect()
    })
}

fn chosen(fused: &Fused) -> f64 {
    fused.get("selected_expert")
}

/// Jensen–Shannon by the definition, in f64.
fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let half = |a: &[f64], b: &[f64]| -> f64 {
        let term = |(&a, &b): (&f64, &f64)| if a > 0.0 { a * (2.0 * a / (a + b)).ln() } else { 0.0 };
        0.5 * a.iter().zip(b).map(term).sum::<f64>()
    };
    half(p, q) + half(q, p)
}

fn softmax(row: &[f32]) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let p: Vec<f64> = row.iter().map(|x| f64::from(x - max).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.into_iter().map(|p| p / sum).collect()
}

fn mean(of: &[Vec<f64>]) -> Vec<f64> {
    (0..of[0].len()).map(|id| of.iter().map(|p| p[id]).sum::<f64>() / of.len() as f64).collect()
}

/// For each expert, the distance of a rows and the radius, as the crate's page defines them.
fn by_definition(kinds: &Kinds, rows: &[Vec<f32>]) -> Vec<(f64, f64)> {
    let of_expert = |own: &Vec<Vec<Vec<f32>>>| {
        let said = |model: usize| -> Vec<Vec<f64>> { own.iter().map(|prompt| softmax(&prompt[model])).collect() };
        let models = 1..rows.len();
        let distance = models.clone().map(|m| jensen_shannon(&softmax(&rows[m]), &mean(&said(m)))).sum();
        let left_out = |k: usize| -> f64 {
            let of_model = |m: usize| {
                let mut others = said(m);
                let own = others.remove(k);
                jensen_shannon(&own, &mean(&others))
            };
            models.clone().map(of_model).sum()
        };
        (distance, (0..own.len()).map(left_out).fold(0.0, f64::max))
    };
    kinds.iter().map(of_expert).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_the_nearest_within_its_reach(kinds in kinds(3), kind in 0..3_usize, mixed in 0.0_f32..1.0, slack in 0.0..6.0) {
        let session = session(3, 1, kinds[0][0][0].len());
        let other = &kinds[(kind + 1) % 3][0];
        let mix = |(a, b): (&f32, &f32)| a + mixed * (b - a);
        let rows: Vec<Vec<f32>> =
            kinds[kind][1].iter().zip(other).map(|(a, b)| a.iter().zip(b).map(mix).collect()).collect();
        let params = Params { fingerprint: Some(FingerprintParams { prompts: 16, slack }), ..Params::default() };
        let fitted = fit(&strategy(params), &session, &kinds).unwrap();
        let fused = first_step(fitted.as_ref(), &session, &rows);
        let expected = by_definition(&kinds, &rows);
        let nearest = expected.iter().map(|x| x.0).fold(f64::INFINITY, f64::min);
        prop_assert!((fused.get("fingerprint_distance") - nearest).abs() < 1e-5, "{fused:?} {expected:?}");
        // What rounding may decide is not asked.
        let clear = expected.iter().filter(|x| x.0 < nearest + 1e-4).count() == 1;
        let (best, &(distance, radius)) = expected.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).unwrap();
        let margin = distance - slack * radius;
        if clear && margin.abs() > 1e-4 {
            prop_assert_eq!(chosen(&fused), if margin < 0.0 { best as f64 } else { -1.0 }, "{:?}", expected);
        }
    }

    /// The order of the experts names them and nothing else.
    #[test]
    fn experts_in_another_order_are_chosen_alike(kinds in kinds(3), kind in 0..3_usize) {
        let session = session(3, 1, kinds[0][0][0].len());
        let turned = |rows: &Vec<Vec<f32>>| [0, 2, 3, 1, 4].map(|row: usize| rows[row].clone()).to_vec();
        let turned_kinds: Kinds = [1, 2, 0].map(|kind: usize| kinds[kind].iter().map(turned).collect()).into();
        let rows = &kinds[kind][0];
        let one = first_step(fit(&strategy(Params::default()), &session, &kinds).unwrap().as_ref(), &session, rows);
        let other = fit(&strategy(Params::default()), &session, &turned_kinds).unwrap();
        let other = first_step(other.as_ref(), &session, &turned(rows));
        let distances = by_definition(&kinds, rows);
        let gap = |a: usize, b: usize| (distances[a].0 - distances[b].0).abs();
        prop_assume!(gap(0, 1).min(gap(0, 2)).min(gap(1, 2)) > 1e-4);
        let back = [1.0, 2.0, 0.0];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small index")]
        let renamed = if chosen(&other) < 0.0 { -1.0 } else { back[chosen(&other) as usize] };
        prop_assert_eq!(chosen(&one), renamed);
        prop_assert_eq!(&one.logits, &other.logits);
    }

    /// A prompt that is one of an expert's own is never too far, and it is the nearest where kinds do not overlap.
    #[test]
    fn an_expert_gets_its_own_prompts(mut kinds in kinds(2), kind in 0..2_usize, prompt in 0..PROMPTS) {
        let width = kinds[0][0][0].len();
        // Two kinds after which the anti expects different things.
        for (kind, own) in kinds.iter_mut().enumerate() {
            for rows in own {
                rows[3][kind % width] += 40.0;
            }
        }
        let session = session(2, 1, width);
        let fitted = fit(&strategy(Params::default()), &session, &kinds).unwrap();
        let distances = by_definition(&kinds, &kinds[kind][prompt]);
        prop_assume!(distances[kind].0 + 1e-4 < distances[1 - kind].0 && distances[kind].1 > 1e-4);
        prop_assert_eq!(chosen(&first_step(fitted.as_ref(), &session, &kinds[kind][prompt])), kind as f64);
    }

    /// A prompt that fits no expert leaves the base as it is, to the last bit, for the whole text, whatever the other parameters
    /// are.
    #[test]
    fn a_strange_prompt_is_left_to_the_base(kinds in kinds(2), later in plain_rows(4), arithmetic: bool) {
        let width = kinds[0][0][0].len();
        let session = session(2, 1, width);
        let mut rows = kinds[0][0].clone();
        // All small models expect what they never did: they are as far from any fingerprint as can be.
        rows[1..].iter_mut().for_each(|row| row[width - 1] = 80.0);
        let far = by_definition(&kinds, &rows).iter().all(|(distance, radius)| *distance > 3.0 * radius + 1e-4);
        prop_assume!(far);
        let pool = Some(if arithmetic { Pool::Arithmetic } else { Pool::Geometric });
        let params = Params { bounds: [0.5, 1.5], ema: 0.3, pool, ..Params::default() };
        let fitted = fit(&strategy(params), &session, &kinds).unwrap();
        let mut state = fitted.start(&session).unwrap();
        let mut later = later;
        for row in &mut later {
            row.resize(width, -1.0);
        }
        for (position, rows) in [&rows, &later].into_iter().enumerate() {
            let views: Vec<_> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
            let tokens = vec![0; position];
            let step = FusionStep::new(&views, &tokens);
            if position == 0 {
                state.begin(&step, &[]).unwrap();
            }
            let fused = fuse(fitted.as_ref(), state.as_mut(), &step);
            let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&fused.logits), bits(&rows[0]));
            prop_assert_eq!((chosen(&fused), fused.get("alpha"), fused.get("no_expert_weight")), (-1.0, 0.0, 1.0));
            state.commit(&[0]).unwrap();
        }
    }

    /// Experts that are equal and were given equal prompts are one: the first of them speaks.
    #[test]
    fn the_first_of_equals_is_chosen(kinds in kinds(1), kind in 0..PROMPTS) {
        let doubled = |rows: &Vec<Vec<f32>>| [0, 1, 1, 2].map(|row: usize| rows[row].clone()).to_vec();
        let twice: Kinds = vec![kinds[0].iter().map(doubled).collect(); 2];
        let session = session(2, 1, kinds[0][0][0].len());
        let params = Params {
            fingerprint: Some(FingerprintParams { slack: 100.0, ..FingerprintParams::default() }),
            ..Params::default()
        };
        let fitted = fit(&strategy(params), &session, &twice).unwrap();
        let fused = first_step(fitted.as_ref(), &session, &doubled(&kinds[0][kind]));
        prop_assert!(chosen(&fused) <= 0.0);
    }

    #[test]
    fn a_calibrated_strategy_keeps_the_contract(
        kinds in kinds(2),
        case in logitfuse_conformance::generators::case(&[("base", 1), ("expert", 2), ("anti", 1)]),
    ) {
        let width = case.width();
        let mut kinds = kinds;
        kinds.iter_mut().flatten().flatten().for_each(|row| row.resize(width, -2.0));
        let fitted = fit(&strategy(Params::default()), &case.session, &kinds).unwrap();
        strategy_laws::contract(fitted.as_ref(), &case)?;
        strategy_laws::claimed(fitted.as_ref(), &case)?;
    }
}

#[test]
fn what_cannot_be_known_is_refused() {
    let session = session(1, 1, 3);
    let rows = || vec![vec![0.0, 1.0, 2.0]; 3];
    let wanted = strategy(Params { weights: Some(Weights::Fingerprint), ..Params::default() });
    let error = wanted.start(&session).err().expect("nothing is known of the expert");
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().starts_with("/weights: fingerprint, and there are no calibration prompts"), "{error}");
    let error = fit(&wanted, &session, &vec![vec![rows()]]).err().expect("one prompt has no others");
    assert_eq!(error.to_string(), "source `expert-0`: 1 calibration prompt, and a fingerprint is made of two or more");
    // Who drives a fitted strategy has to tell it of the prompt.
    let fitted = fit(&wanted, &session, &vec![vec![rows(); 2]]).unwrap();
    let said = rows();
    let views: Vec<_> = said.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
    let mut logits = [0.0; 3];
    let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
    let error = fitted.start(&session).unwrap().fuse(&FusionStep::new(&views, &[]), &mut out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    // Weights that were chosen are not replaced.
    let uniform = strategy(Params { weights: Some(Weights::Uniform), ..Params::default() });
    assert!(fit(&uniform, &session, &vec![vec![rows(); 2]]).is_err());
    assert_eq!(uniform.info().calibration, None);
    let by_default = strategy(Params::default());
    assert!(by_default.info().calibration.as_ref().is_some_and(|spec| !spec.required && spec.prompts == 16));
}

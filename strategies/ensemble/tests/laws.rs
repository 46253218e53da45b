//! The laws, and the equations by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use logitfuse_conformance::{Case, generators, oracles, strategy_laws};
use logitfuse_core::numerics::{argmax, kl_divergence, log_sum_exp};
use logitfuse_core::{
    ErrorKind, FusedRow, FusionStep, FusionStrategy, PromptReading, PromptScore, RoleBinding, RoleRow, SessionInfo,
    SharedVocabulary,
};
use logitfuse_ensemble::{
    Contrastive, ContrastiveParams, Ensemble, EnsembleParams, Mean, PromptRow, TriMix, TriMixParams, WEIGHTS,
    fit_weights,
};
use proptest::prelude::*;

const MEMBERS: [(&str, usize); 2] = [("base", 1), ("expert", 2)];
const AMATEUR: [(&str, usize); 2] = [("base", 1), ("anti", 1)];
const THREE: [(&str, usize); 3] = [("base", 1), ("expert", 1), ("anti", 1)];

fn ensemble(mean: Mean, power: Option<f64>, weights: Option<[f64; 3]>) -> Ensemble {
    Ensemble::new(EnsembleParams { mean, power, weights: weights.map(Vec::from) }).unwrap()
}

fn contrastive(beta: f64, plausibility: f64, amateur_temperature: f64) -> Contrastive {
    Contrastive::new(ContrastiveParams { beta, plausibility, amateur_temperature }).unwrap()
}

fn trimix(alpha: f64, beta: f64) -> TriMix {
    TriMix::new(TriMixParams { alpha, beta, ..TriMixParams::default() }).unwrap()
}

/// Every id's fused logit is `exact`, given the ids' log-probabilities under each row, but for one constant.
fn by_hand(strategy: &dyn FusionStrategy, case: &Case, exact: impl Fn(&[f64]) -> f64) -> Result<(), TestCaseError> {
    for (rows, (logits, _)) in case.steps.iter().zip(case.fused(strategy).unwrap()) {
        let normalisers: Vec<f64> = rows.iter().map(|row| log_sum_exp(row)).collect();
        let scale = rows.iter().flatten().filter(|x| x.is_finite()).fold(1.0, |a, x| f64::from(x.abs()).max(a));
        // The base's normaliser is the constant: all strategies here start from its logits.
        for id in (0..case.width()).filter(|&id| rows.iter().all(|row| row[id].is_finite())) {
            let log_p: Vec<f64> = rows.iter().zip(&normalisers).map(|(row, z)| f64::from(row[id]) - z).collect();
            let (fused, wanted) = (f64::from(logits[id]) - normalisers[0], exact(&log_p));
            prop_assert!((fused - wanted).abs() <= 2e-5 * scale, "id {id}: {fused} {wanted}, scale {scale}");
        }
    }
    Ok(())
}

fn weights() -> impl Strategy<Value = Option<[f64; 3]>> {
    let weight = || prop_oneof![1 => Just(0.0), 4 => 0.0..3.0];
    prop_oneof![Just(None), (0.01..2.0, weight(), weight()).prop_map(|(a, b, c)| Some([b, a, c]))]
}

fn means() -> impl Strategy<Value = (Mean, Option<f64>)> {
    prop_oneof![
        2 => Just((Mean::Geometric, None)),
        2 => Just((Mean::Arithmetic, None)),
        2 => (0.1..4.0).prop_map(|power| (Mean::Power, Some(power))),
        1 => (-4.0..-0.1).prop_map(|power| (Mean::Power, Some(power))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_for_means((mean, power) in means(), weights in weights(), case in generators::case(&MEMBERS)) {
        let strategy = ensemble(mean, power, weights);
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn the_laws_hold_for_contrasts(
        beta in 0.0..2.0,
        plausibility in prop_oneof![Just(0.0), 0.0..1.0],
        temperature in prop_oneof![Just(1.0), 0.3..3.0],
        case in generators::case(&AMATEUR),
    ) {
        let strategy = contrastive(beta, plausibility, temperature);
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn the_laws_hold_for_mixtures(alpha in -0.5..1.5, beta in -0.5..1.5, case in generators::case(&THREE)) {
        let strategy = trimix(alpha, beta);
        strategy_laws::contract(&strategy, &case)?;
        strategy_laws::claimed(&strategy, &case)?;
    }

    #[test]
    fn members_that_agree_are_one_member((mean, power) in means(), weights in weights(), case in generators::case(&MEMBERS)) {
        strategy_laws::identity(&ensemble(mean, power, weights), &case.with_role_equal("expert", "base"))?;
    }

    #[test]
    fn members_without_weight_have_no_say((mean, power) in means(), case in generators::case(&MEMBERS)) {
        strategy_laws::identity(&ensemble(mean, power, Some([0.3, 0.0, 0.0])), &case)?;
    }

    #[test]
    fn only_the_ratios_of_weights_count((mean, power) in means(), case in generators::case(&MEMBERS)) {
        let (one, ten) = (ensemble(mean, power, Some([1.0, 2.0, 5.0])), ensemble(mean, power, Some([10.0, 20.0, 50.0])));
        oracles::same_bits((&one, &case), (&ten, &case))?;
    }

    #[test]
    fn a_power_of_one_is_arithmetic_and_a_small_one_nearly_geometric(weights in weights(), case in generators::related_case(&MEMBERS)) {
        let power = |power| ensemble(Mean::Power, Some(power), weights);
        oracles::same_bits((&power(1.0), &case), (&ensemble(Mean::Arithmetic, None, weights), &case))?;
        let geometric = case.fused(&ensemble(Mean::Geometric, None, weights)).unwrap();
        for ((rows, near), (exact, _)) in case.steps.iter().zip(case.fused(&power(0.001)).unwrap()).zip(geometric) {
            // Where no member finds an id far less probable than another: the difference is of second order in that.
            for id in (0..case.width()).filter(|&id| rows.iter().all(|row| (row[id] - rows[0][id]).abs() < 4.0)) {
                let kept = |row: &[f32]| f64::from(row[id]) - f64::from(rows[0][id]);
                let z: Vec<f64> = rows.iter().map(|row| log_sum_exp(row)).collect();
                let range = 2.0 * (4.0 + z.iter().map(|zi| (zi - z[0]).abs()).fold(0.0, f64::max));
                let constant = constant(weights, &z);
                prop_assert!((kept(&near.0) - (kept(&exact) - constant)).abs() < 1e-3 * (range * range / 8.0 + 1.0));
            }
        }
    }

    #[test]
    fn means_by_hand((mean, power) in means(), weights in weights(), case in generators::case(&MEMBERS)) {
        let w = normalised(weights);
        let exponent = if mean == Mean::Arithmetic { Some(1.0) } else { power };
        let z = |rows: &[Vec<f32>]| rows.iter().map(|row| log_sum_exp(row)).collect::<Vec<f64>>();
        match exponent {
            // Here the constant is that of the weighted logits.
            None => for step in 0..case.steps.len() {
                let alone = Case { steps: vec![case.steps[step].clone()], tokens: vec![case.tokens[step]], ..case.clone() };
                let constant = constant(weights, &z(&alone.steps[0]));
                by_hand(&ensemble(mean, power, weights), &alone, |log_p| {
                    w.iter().zip(log_p).map(|(w, l)| w * l).sum::<f64>() + constant
                })?;
            },
            Some(p) => by_hand(&ensemble(mean, power, weights), &case, |log_p| {
                let active = || w.iter().zip(log_p).filter(|(w, _)| **w > 0.0);
                let best = active().map(|(_, l)| p * l).fold(f64::NEG_INFINITY, f64::max);
                (best + active().map(|(w, l)| w * (p * l - best).exp()).sum::<f64>().ln()) / p
            })?,
        }
    }

    #[test]
    fn contrasts_by_hand(beta in 0.0..2.0, temperature in 0.3..3.0, case in generators::case(&AMATEUR)) {
        for (rows, (logits, _)) in case.steps.iter().zip(case.fused(&contrastive(beta, 0.0, temperature)).unwrap()) {
            let z = [log_sum_exp(&rows[0]), log_sum_exp(&rows[1])];
            for id in (0..case.width()).filter(|&id| rows.iter().all(|row| row[id].is_finite())) {
                let [base, anti] = [0, 1].map(|row| f64::from(rows[row][id]));
                let exact = (1.0 + beta) * base - beta * anti / temperature;
                let scale = base.abs().max(anti.abs()).max(z[0].abs()).max(1.0);
                prop_assert!((f64::from(logits[id]) - exact).abs() <= 2e-5 * scale, "{} {exact}", logits[id]);
            }
        }
    }

    #[test]
    fn mixtures_by_hand(alpha in -0.5..1.5, beta in -0.5..1.5, case in generators::case(&THREE)) {
        for (rows, (logits, _)) in case.steps.iter().zip(case.fused(&trimix(alpha, beta)).unwrap()) {
            for id in (0..case.width()).filter(|&id| rows.iter().all(|row| row[id].is_finite())) {
                let [base, expert, anti] = [0, 1, 2].map(|row| f64::from(rows[row][id]));
                let exact = alpha * base + beta * expert + (1.0 - alpha - beta) * anti;
                let scale = base.abs().max(expert.abs()).max(anti.abs()).max(1.0);
                prop_assert!((f64::from(logits[id]) - exact).abs() <= 2e-5 * scale, "{} {exact}", logits[id]);
            }
        }
    }

    #[test]
    fn neutral_parameters_are_the_base(case in generators::case(&THREE), temperature in 0.1..9.0) {
        strategy_laws::identity(&trimix(1.0, 0.0), &case)?;
        let two = case.with_roles(&[("base", "base"), ("anti", "anti")]);
        strategy_laws::identity(&contrastive(0.0, 0.0, temperature), &two)?;
        let alike = case.with_role_equal("expert", "base").with_role_equal("anti", "base");
        strategy_laws::identity(&trimix(0.3, 0.4), &alike)?;
    }

    #[test]
    fn without_a_base_the_expert_speaks(case in generators::related_case(&THREE)) {
        // Where nothing is masked: an id that only the expert allows is the base's to decide.
        let open = case.map_rows(|_, row| row.iter().map(|x| x.max(-60.0)).collect());
        oracles::is_role(&trimix(0.0, 1.0), &open, "expert")?;
    }

    #[test]
    fn traces_say_what_happened(case in generators::case(&THREE), beta in 0.0..2.0, weights in weights()) {
        let kl = |p: &[f32], q: &[f32]| kl_divergence(p, log_sum_exp(p), q, log_sum_exp(q));
        let two = case.with_roles(&[("base", "base"), ("anti", "anti")]);
        for (rows, (logits, trace)) in two.steps.iter().zip(two.fused(&contrastive(beta, 0.1, 1.0)).unwrap()) {
            let plausible = logits.iter().filter(|x| x.is_finite()).count() as f64;
            prop_assert_eq!(trace, [kl(&logits, &rows[0]), kl(&rows[0], &logits), kl(&rows[0], &rows[1]), plausible]);
        }
        for (rows, (logits, trace)) in case.steps.iter().zip(case.fused(&trimix(0.2, beta)).unwrap()) {
            prop_assert_eq!(trace, [kl(&logits, &rows[0]), kl(&rows[0], &logits), kl(&rows[1], &rows[2])]);
        }
        let members = Case { session: session(&["base", "expert", "expert"], case.width()), ..case.clone() };
        for (rows, (logits, trace)) in members.steps.iter().zip(members.fused(&ensemble(Mean::Arithmetic, None, weights)).unwrap()) {
            prop_assert_eq!(&trace[..2], [kl(&logits, &rows[0]), kl(&rows[0], &logits)]);
            let active = normalised(weights).into_iter().zip(rows).filter(|(w, _)| *w > 0.0);
            let disagreement: f64 = active.map(|(w, row)| w * kl(row, &logits)).sum();
            let agrees = trace[2].is_infinite() == disagreement.is_infinite();
            prop_assert!(agrees && (disagreement.is_infinite() || (trace[2] - disagreement).abs() <= 1e-9 * disagreement));
        }
    }

    #[test]
    fn calibration_finds_the_smallest_perplexity(case in generators::case(&THREE)) {
        let perplexity = |alpha, beta| {
            let fused = case.fused(&trimix(alpha, beta)).unwrap();
            let loss: f64 =
                fused.iter().zip(&case.tokens).map(|((row, _), &next)| log_sum_exp(row) - f64::from(row[next as usize])).sum();
            (loss / fused.len() as f64).exp()
        };
        let prompt: Vec<PromptRow<'_>> = case.steps.iter().zip(&case.tokens).map(|(rows, &next)| {
            let [base, expert, anti] = [0, 1, 2].map(|row| RoleRow::new(&rows[row], log_sum_exp(&rows[row]), 0.0));
            PromptRow { base, expert, anti, next }
        }).collect();
        let Some(found) = fit_weights(&prompt) else { return Err(TestCaseError::fail("nothing found")) };
        for (alpha, beta) in WEIGHTS.into_iter().flat_map(|alpha| WEIGHTS.map(|beta| (alpha, beta))) {
            let other = perplexity(alpha, beta);
            prop_assert!(found.perplexity <= other, "{found:?}: {other} at {alpha} {beta}");
        }
        let TriMixParams { alpha, beta, .. } = found.params;
        prop_assert_eq!(found.perplexity.to_bits(), perplexity(alpha, beta).to_bits());

        // A text whose prompt that is has these weights.
        let strategy = by_prompt();
        prop_assert_eq!(strategy.info().prompt, PromptReading::Rows);
        let mut state = strategy.start(&case.session).unwrap();
        for PromptRow { base, expert, anti, next } in &prompt {
            state.read_prompt(&FusionStep::new(&[*base, *expert, *anti], &[]), *next).unwrap();
        }
        let rows = [prompt[0].base, prompt[0].expert, prompt[0].anti];
        let step = FusionStep::new(&rows, &[]);
        state.begin(&step, &[PromptScore::default(); 3]).unwrap();
        let (mut logits, mut trace) = (vec![0.0; case.width()], [f64::NAN; 5]);
        state.fork().unwrap().fuse(&step, &mut FusedRow { logits: &mut logits, trace: &mut trace }).unwrap();
        prop_assert_eq!(&trace[3..], [alpha, beta]);
        prop_assert_eq!(&logits, &case.fused(&trimix(alpha, beta)).unwrap()[0].0);
    }
}

fn normalised(weights: Option<[f64; 3]>) -> [f64; 3] {
    let weights = weights.unwrap_or([1.0; 3]);
    weights.map(|w| w / weights.iter().sum::<f64>())
}

/// What the geometric mean's logits are above its log-probabilities, counted from the base's normaliser.
fn constant(weights: Option<[f64; 3]>, z: &[f64]) -> f64 {
    normalised(weights).iter().zip(z).map(|(w, z)| w * z).sum::<f64>() - z[0]
}

fn session(roles: &[&str], width: usize) -> SessionInfo {
    let bindings = roles.iter().map(|role| RoleBinding { role: (*role).into(), source: (*role).into() });
    SessionInfo::new(bindings, SharedVocabulary::new(width, []))
}

#[test]
fn large_powers_follow_the_surest_member() {
    let case = Case {
        session: session(&["base", "expert"], 3),
        steps: vec![vec![vec![6.0, -4.0, 4.0], vec![-4.0, 6.0, 4.5]]],
        tokens: vec![0],
    };
    let top_token = |power| {
        let params = EnsembleParams { mean: Mean::Power, power: Some(power), weights: None };
        argmax(&case.fused(&Ensemble::new(params).unwrap()).unwrap()[0].0)
    };
    assert_eq!([-1000.0, -1.0, 1000.0].map(top_token), [2, 2, 0]);
}

fn by_prompt() -> TriMix {
    TriMix::from_json(&serde_json::json!({ "alpha": 0.25, "beta": 0.5, "calibration": "prompt" })).unwrap()
}

#[test]
fn a_prompt_is_read_or_refused() {
    let strategy = by_prompt();
    let rows = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]];
    let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
    let step = FusionStep::new(&rows, &[]);
    let mut state = strategy.start(&session(&["base", "expert", "anti"], 2)).unwrap();
    let (mut logits, mut trace) = ([0.0; 2], [f64::NAN; 5]);
    let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
    for error in [state.fuse(&step, &mut out).unwrap_err(), state.begin(&step, &[]).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
    // A prompt of one token is read and tells nothing.
    state.begin(&step, &[PromptScore::default(); 3]).unwrap();
    state.fuse(&step, &mut out).unwrap();
    assert_eq!(trace[3..], [0.25, 0.5]);
}

#[test]
fn a_prompt_that_tells_nothing_calibrates_nothing() {
    assert_eq!(fit_weights(&[]), None);
    let row = [f32::NEG_INFINITY, 0.0];
    let row = RoleRow::new(&row, 0.0, 0.0);
    assert_eq!(fit_weights(&[PromptRow { base: row, expert: row, anti: row, next: 0 }]), None);
}

#[test]
fn bad_parameters_are_named() {
    use serde_json::json;
    let of_ensemble = |params| Ensemble::from_json(&params).unwrap_err();
    let of_contrastive = |params| Contrastive::from_json(&params).unwrap_err();
    let of_trimix = |params| TriMix::from_json(&params).unwrap_err();
    let cases = [
        (of_ensemble(json!({ "mean": "harmonic" })), "/mean: unknown variant `harmonic`, expected one of `geometric`"),
        (of_ensemble(json!({ "mean": "power" })), "/power: mean power needs it"),
        (of_ensemble(json!({ "power": 2.0 })), "/power: only mean power has such a parameter"),
        (of_ensemble(json!({ "mean": "power", "power": 0.0 })), "/power: must be 0.001 to 1000 in size"),
        (of_ensemble(json!({ "mean": "power", "power": 1e9 })), "/power: must be 0.001 to 1000 in size"),
        (of_ensemble(json!({ "weights": [1.0, -1.0] })), "/weights/1: must be 0 or more, and finite"),
        (of_ensemble(json!({ "weights": [] })), "/weights: one weight at least must be above 0"),
        (of_ensemble(json!({ "weights": [1e308, 1e308] })), "/weights: must be finite"),
        (of_ensemble(json!({ "alpha": 1.0 })), "/alpha: unknown field `alpha`"),
        (of_contrastive(json!({ "beta": -0.5 })), "/beta: must be 0 or more, and finite"),
        (of_contrastive(json!({ "plausibility": 1.5 })), "/plausibility: must be 0 to 1"),
        (of_contrastive(json!({ "amateur_temperature": -1 })), "/amateur_temperature: must be above 0, and finite"),
        (of_contrastive(json!(null)), "params: must be a table of names and values"),
        (of_trimix(json!({ "beta": [] })), "/beta: invalid type: sequence, expected f64"),
        (of_trimix(json!({ "calibration": "always" })), "/calibration: unknown variant `always`"),
        (of_trimix(json!({ "gamma": 1.0 })), "/gamma: unknown field `gamma`"),
        (
            TriMix::new(TriMixParams { alpha: f64::NAN, ..TriMixParams::default() }).unwrap_err(),
            "/alpha: must be finite",
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.help().is_some());
    }
}

#[test]
fn sessions_that_do_not_fit_are_refused() {
    let start = |strategy: &dyn FusionStrategy, roles: &[&str]| {
        strategy.start(&session(roles, 4)).err().map(|e| (e.kind(), e.to_string()))
    };
    let refused = |message: &str| Some((ErrorKind::Incompatible, message.to_owned()));
    let mean = ensemble(Mean::Geometric, None, None);
    assert_eq!(start(&mean, &["base", "expert"]), None);
    assert_eq!(start(&mean, &["base"]), refused("expert: no source takes this role"));
    assert_eq!(start(&mean, &["base", "base", "expert"]), refused("base: one source takes this role, not 2"));
    let weighted = ensemble(Mean::Geometric, None, Some([1.0; 3]));
    let message = "/weights: 3 weights for 2 members".to_owned();
    assert_eq!(start(&weighted, &["base", "expert"]), Some((ErrorKind::InvalidConfig, message)));
    let amateur = refused("anti: one source takes this role, not 0");
    assert_eq!(start(&contrastive(0.5, 0.1, 1.0), &["base"]), amateur);
    assert_eq!(start(&trimix(0.5, 0.5), &["base", "expert"]), amateur);
}

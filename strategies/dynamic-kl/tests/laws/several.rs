//! Several experts: what the published search can and cannot tell, and what pools do.

use crate::support::{Sequence, fuse_once, plain_rows, probabilities, session, strategy, total_variation, tuned_rows};
use logitfuse_core::numerics::{kl_both, log_sum_exp};
use logitfuse_core::{FusedRow, FusionStep, FusionStrategy, PromptReading, PromptScore, RoleRow};
use logitfuse_dynamic_kl::{
    DynamicKl, Evidence, Experts, Params, Pool, PosteriorParams, Selector, Solver, StepRows, Tempering, Weights,
};
use proptest::prelude::*;

/// `KL(p‖q)` and `KL(q‖p)`.
fn kls(p: &[f32], q: &[f32]) -> (f64, f64) {
    kl_both(p, log_sum_exp(p), q, log_sum_exp(q))
}

/// `base + alpha (expert − anti)`, by hand.
fn tilt(rows: &[Vec<f32>], expert: usize, alpha: f64) -> Vec<f32> {
    let anti = &rows[rows.len() - 1];
    let at = |id: usize| f64::from(rows[0][id]) + alpha * (f64::from(rows[1 + expert][id]) - f64::from(anti[id]));
    #[expect(clippy::cast_possible_truncation, reason = "a row of f32")]
    (0..anti.len()).map(|id| at(id) as f32).collect()
}

/// The published objective of several experts, as printed: a sum over them.
fn published(rows: &[Vec<f32>], fused: &[f32]) -> f64 {
    let (f, r) = kls(fused, &rows[0]);
    let experts = &rows[1..rows.len() - 1];
    let miss = |expert: &Vec<f32>| {
        let (a, b) = kls(expert, &rows[rows.len() - 1]);
        (f - a).powi(2) + (r - b).powi(2)
    };
    experts.iter().map(miss).sum()
}

/// A selector that says always the same, "no expert" included.
#[derive(Clone)]
struct Always(Vec<f64>, f64);

impl Selector for Always {
    fn weigh(&mut self, _scene: &StepRows<'_>, weights: &mut [f64]) -> f64 {
        weights.copy_from_slice(&self.0);
        self.1
    }
    fn fork(&self) -> Box<dyn Selector> {
        Box::new(self.clone())
    }
}

fn always(params: Params, weights: &[f64], no_expert: f64) -> DynamicKl {
    let selector = Always(weights.to_vec(), no_expert);
    strategy(params).with_selector(move |_| Box::new(selector.clone()))
}

fn pool_kind() -> impl Strategy<Value = Pool> {
    prop_oneof![Just(Pool::Geometric), Just(Pool::Arithmetic)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// `Σ[(F − a)² + (R − b)²] = T[(F − mean a)² + (R − mean b)²] + constant`: the experts' own divergences enter by
    /// their means only, so the published objective cannot say which expert fits.
    #[test]
    fn only_the_mean_divergences_matter(rows in tuned_rows(3)) {
        let fused = fuse_once(&strategy(Params { experts: Experts::OneExpert, ..Params::default() }), &rows, 3);
        let targets: Vec<(f64, f64)> = (1..4).map(|expert| kls(&rows[expert], &rows[4])).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| targets.iter().map(of).sum::<f64>() / 3.0;
        let (a, b) = (mean(|t| t.0), mean(|t| t.1));
        let constant: f64 = targets.iter().map(|t| (t.0 - a).powi(2) + (t.1 - b).powi(2)).sum();
        let scale = 1.0 + published(&rows, &rows[0]);
        prop_assert!((fused.get("kl_expert_anti") - a).abs() <= 1e-5 * scale);
        prop_assert!((fused.get("kl_anti_expert") - b).abs() <= 1e-5 * scale);
        for logits in [&fused.logits, &rows[0], &tilt(&rows, 1, 0.7)] {
            let (f, r) = kls(logits, &rows[0]);
            let by_means = 3.0 * ((f - a).powi(2) + (r - b).powi(2)) + constant;
            let sum = published(&rows, logits);
            prop_assert!((sum - by_means).abs() <= 1e-9 * (1.0 + sum), "{sum} {by_means}");
        }
        let loss = published(&rows, &fused.logits);
        prop_assert!((fused.get("loss") - loss).abs() <= 2e-5 * scale, "{fused:?} {loss}");
    }

    /// The published algorithm, as a loop over T · 21 candidates.
    #[test]
    fn one_expert_on_the_grid_is_the_published_loop(rows in tuned_rows(3)) {
        let params = Params { experts: Experts::OneExpert, solver: Solver::Grid, bounds: Params::PAPER_BOUNDS, ..Params::default() };
        let fused = fuse_once(&strategy(params), &rows, 3);
        let candidates = (0..3).flat_map(|expert| (0..=20).map(move |k| (expert, f64::from(k) * 0.1)));
        let best = candidates.map(|(expert, alpha)| published(&rows, &tilt(&rows, expert, alpha))).fold(f64::INFINITY, f64::min);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small index")]
        let chosen = published(&rows, &tilt(&rows, fused.get("top_expert") as usize, fused.get("alpha")));
        // Candidates that tie within rounding may be told apart either way.
        prop_assert!(chosen <= best + 2e-5 * (1.0 + best), "{chosen} {best}: {fused:?}");
    }

    /// Also where base or expert lack ids.
    #[test]
    fn duplicates_of_an_expert_are_that_expert(
        mut rows in tuned_rows(1),
        holes in prop::collection::vec((0..2_usize, any::<prop::sample::Index>()), 0..4),
        weights in [0.05..1.0, 0.05..1.0, 0.05..1.0],
        pool in pool_kind(),
    ) {
        for (row, hole) in holes {
            let hole = hole.index(rows[row].len());
            // One id that all allow.
            if hole > 0 {
                rows[row][hole] = f32::NEG_INFINITY;
            }
        }
        let single = fuse_once(&strategy(Params::default()), &rows, 1);
        let sum: f64 = weights.iter().sum();
        let many: Vec<Vec<f32>> = [0, 1, 1, 1, 2].map(|row: usize| rows[row].clone()).into();
        let strategy = always(Params { pool: Some(pool), ..Params::default() }, &weights.map(|w| w / sum), 0.0);
        let pooled = fuse_once(&strategy, &many, 3);
        let slack = 2e-5 * (1.0 + single.get("loss"));
        prop_assert!((pooled.get("loss") - single.get("loss")).abs() <= slack, "{pooled:?} {single:?}");
        prop_assert!((pooled.get("kl_expert_anti") - single.get("kl_expert_anti")).abs() <= slack);
        let apart = total_variation(&pooled.probabilities(), &single.probabilities());
        // Where the minimum is flat, its place is less sharp than its depth.
        prop_assert!(apart < 5e-3, "{apart}: {pooled:?} {single:?}");
    }

    /// One anti for all and copies of it, one for each, are the same.
    #[test]
    fn antis_may_be_given_once_or_each(rows in tuned_rows(2), pool in pool_kind(), weight in 0.0..=1.0) {
        let strategy = always(Params { pool: Some(pool), ..Params::default() }, &[weight, 1.0 - weight], 0.0);
        let mut copied = rows.clone();
        copied.push(rows[3].clone());
        let (shared, copied) = (fuse_once(&strategy, &rows, 2), fuse_once(&strategy, &copied, 2));
        let (a, b) = (shared.get("kl_expert_anti"), copied.get("kl_expert_anti"));
        prop_assert!((a - b).abs() < 1e-5 * (1.0 + a), "{a} {b}");
        prop_assert!((shared.get("loss") - copied.get("loss")).abs() < 2e-5 * (1.0 + shared.get("loss")));
    }

    /// The pool is the mean that its name says, seen through its divergence from the anti.
    #[test]
    fn pools_are_means(rows in tuned_rows(2), pool in pool_kind(), no_expert in 0.0..0.9) {
        let share = (1.0 - no_expert) / 4.0;
        let (weights, anti) = ([share, 3.0 * share], probabilities(&rows[3]));
        let fused = fuse_once(&always(Params { pool: Some(pool), ..Params::default() }, &weights, no_expert), &rows, 2);
        let members = [probabilities(&rows[1]), probabilities(&rows[2]), anti.clone()];
        let of = |id: usize| {
            let terms = members.iter().zip([weights[0], weights[1], no_expert]);
            match pool {
                Pool::Geometric => terms.map(|(p, w)| w * p[id].ln()).sum::<f64>().exp(),
                Pool::Arithmetic => terms.map(|(p, w)| w * p[id]).sum(),
            }
        };
        let mean: Vec<f64> = (0..anti.len()).map(of).collect();
        let mass: f64 = mean.iter().sum();
        let kl: f64 = mean.iter().zip(&anti).map(|(p, q)| p / mass * (p / mass / q).ln()).sum();
        prop_assert!((fused.get("kl_expert_anti") - kl).abs() < 2e-5 * (1.0 + kl), "{kl}: {fused:?}");
        prop_assert_eq!(fused.get("no_expert_weight"), no_expert);
    }

    /// More experts than one pass takes.
    #[test]
    fn large_pools_are_means_too(rows in tuned_rows(11)) {
        let fused = fuse_once(&strategy(Params { weights: Some(Weights::Uniform), ..Params::default() }), &rows, 11);
        #[expect(clippy::cast_possible_truncation, reason = "a row of f32")]
        let mean: Vec<f32> = (0..rows[0].len())
            .map(|id| (rows[1..12].iter().map(|row| f64::from(row[id])).sum::<f64>() / 11.0) as f32)
            .collect();
        let (a, b) = kls(&mean, &rows[12]);
        prop_assert!((fused.get("kl_expert_anti") - a).abs() < 2e-5 * (1.0 + a), "{a}: {fused:?}");
        prop_assert!((fused.get("kl_anti_expert") - b).abs() < 2e-5 * (1.0 + b), "{b}: {fused:?}");
    }

    /// "No expert" draws the pool towards the anti, and at weight 1 to it.
    #[test]
    fn no_expert_shrinks_what_is_fused(rows in tuned_rows(2), pool in pool_kind(), less in 0.0..0.5, more in 0.5..0.99) {
        let params = || Params { pool: Some(pool), ..Params::default() };
        let at = |no_expert: f64| {
            let share = 0.5 * (1.0 - no_expert);
            fuse_once(&always(params(), &[share, share], no_expert), &rows, 2)
        };
        let (less, more) = (at(less).get("kl_expert_anti"), at(more).get("kl_expert_anti"));
        prop_assert!(more <= less + 1e-6, "{less} {more}");
        let no_expert = at(1.0);
        prop_assert_eq!(&no_expert.logits, &rows[0]);
        prop_assert_eq!(no_expert.get("inactive"), 1.0);
    }

    /// The experiment reaches what a pool reaches, and its strengths are no longer.
    #[test]
    fn joint_strengths_descend(rows in tuned_rows(3)) {
        let joint = fuse_once(&strategy(Params { experts: Experts::JointMinnorm, ..Params::default() }), &rows, 3);
        let resting = published(&rows, &rows[0]);
        prop_assert!(joint.get("loss") <= resting * (1.0 + 1e-6) + 1e-3, "{joint:?} {resting}");
        prop_assert!((0.0..=6.0).contains(&joint.get("alpha")));
        let seen = published(&rows, &joint.logits);
        prop_assert!((joint.get("loss") - seen).abs() <= 2e-5 * (1.0 + seen), "{joint:?} {seen}");
    }
}

/// Three tokens that the first expert predicted and the second did not.
#[test]
fn evidence_is_learnt_and_unlearnt() {
    let posterior = PosteriorParams { tempering: Tempering::None, gamma: 1.0, ..PosteriorParams::default() };
    let params = Params { posterior: Some(posterior), ..Params::default() };
    let rows = vec![vec![0.0; 4], vec![2.0, 0.0, 0.0, 0.0], vec![0.0, 2.0, 0.0, 0.0], vec![0.0; 4]];
    let strategy = strategy(params);
    let mut sequence = Sequence::new(&strategy, &session(2, 1, 4));
    assert_eq!(sequence.fuse(&rows).get("top_weight"), 0.5);
    for tokens in 1..=3 {
        sequence.commit(&rows, 0);
        let fused = sequence.fuse(&rows);
        assert_eq!(fused.get("top_expert"), 0.0);
        // Each token is e² times as likely under the first expert as under the second.
        let odds = (2.0 * f64::from(tokens)).exp();
        assert!((fused.get("top_weight") - odds / (1.0 + odds)).abs() < 1e-5, "{fused:?}");
    }
}

#[test]
fn old_evidence_fades() {
    let weight = |gamma: f64| {
        let posterior = PosteriorParams { tempering: Tempering::None, gamma, ..PosteriorParams::default() };
        let strategy = strategy(Params { posterior: Some(posterior), ..Params::default() });
        let telling = vec![vec![0.0; 4], vec![2.0, 0.0, 0.0, 0.0], vec![0.0, 2.0, 0.0, 0.0], vec![0.0; 4]];
        let silent = vec![vec![0.0; 4]; 4];
        let mut sequence = Sequence::new(&strategy, &session(2, 1, 4));
        sequence.fuse(&telling);
        sequence.commit(&telling, 0);
        for _ in 0..20 {
            sequence.fuse(&silent);
            sequence.commit(&silent, 0);
        }
        sequence.fuse(&silent).get("top_weight")
    };
    let exact = |gamma: f64| 1.0 / (1.0 + (-2.0 * gamma.powi(20)).exp());
    for gamma in [0.8, 0.95, 1.0] {
        assert!((weight(gamma) - exact(gamma)).abs() < 1e-5, "{gamma}: {}", weight(gamma));
    }
}

/// The prompt counts as its tokens would have, had they been generated; and as the last word where it alone counts.
#[test]
fn the_prompt_is_evidence_where_it_is_asked_for() {
    let rows = vec![vec![0.0; 4], vec![2.0, 0.0, 0.0, 0.0], vec![0.0, 2.0, 0.0, 0.0], vec![0.0; 4]];
    // Nats per token: -1 under the first expert, -1.25 under the second, -1.5 under the anti, whose template is longer.
    let scores = [(-9.0, 10), (-10.0, 10), (-12.5, 10), (-30.0, 20)];
    let weigh = |evidence: Evidence, tempering: Tempering, generated: usize| {
        let posterior = PosteriorParams { evidence, tempering, gamma: 1.0, ..PosteriorParams::default() };
        let strategy = strategy(Params { posterior: Some(posterior), ..Params::default() });
        let asked = strategy.info().prompt == PromptReading::LogProbs;
        assert_eq!(asked, evidence != Evidence::Generated);
        let mut sequence = Sequence::new(&strategy, &session(2, 1, 4));
        sequence.prompt = scores.map(|(log_prob, tokens)| PromptScore { log_prob, tokens }).into();
        let mut fused = sequence.fuse(&rows);
        for _ in 0..generated {
            sequence.commit(&rows, 0);
            fused = sequence.fuse(&rows);
        }
        let (top, weight) = (fused.get("top_expert"), fused.get("top_weight"));
        let first: f64 = if top == 0.0 { weight } else { 1.0 - weight };
        (first / (1.0 - first)).ln()
    };
    // 10 tokens of 0.25 nats from the prompt, and 2 nats from every token that follows.
    for (evidence, prompt, generated) in
        [(Evidence::Generated, 0.0, 2.0), (Evidence::Prompt, 2.5, 0.0), (Evidence::Both, 2.5, 2.0)]
    {
        for tokens in 0..3 {
            let nats = prompt + generated * tokens as f64;
            assert!((weigh(evidence, Tempering::None, tokens) - nats).abs() < 1e-5, "{evidence:?} {tokens}");
            let counted = f64::from(u8::from(prompt > 0.0)) * 10.0 + if generated > 0.0 { tokens as f64 } else { 0.0 };
            let tempered = nats / counted.max(1.0).sqrt();
            assert!((weigh(evidence, Tempering::SqrtTokens, tokens) - tempered).abs() < 1e-5, "{evidence:?} {tokens}");
        }
    }
}

#[test]
fn a_prompt_without_scores_is_no_evidence() {
    let posterior = PosteriorParams { evidence: Evidence::Both, ..PosteriorParams::default() };
    let strategy = strategy(Params { posterior: Some(posterior), ..Params::default() });
    let rows = [vec![0.0, 1.0], vec![1.0, 0.0], vec![0.5, 0.0]];
    let views: Vec<_> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
    let step = FusionStep::new(&views, &[]);
    let mut state = strategy.start(&session(1, 1, 2)).unwrap();
    let mut logits = [0.0; 2];
    for error in [
        state.fuse(&step, &mut FusedRow { logits: &mut logits, trace: &mut [] }).unwrap_err(),
        state.begin(&step, &[]).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("dynamic-kl: its weights depend on the prompt"), "{error}");
    }
    // A prompt of one token has nothing to score, which is known and says nothing.
    state.begin(&step, &[PromptScore::default(); 3]).unwrap();
    state.fuse(&step, &mut FusedRow { logits: &mut logits, trace: &mut [] }).unwrap();
}

/// If no expert predicts the text better than its anti, the possibility that none fits gains.
#[test]
fn no_expert_gains_where_experts_fail() {
    let posterior = PosteriorParams { no_expert_prior: 0.2, tempering: Tempering::None, ..PosteriorParams::default() };
    let strategy = strategy(Params { posterior: Some(posterior), ..Params::default() });
    let rows = vec![vec![0.0; 4], vec![2.0, 0.0, 0.0, 0.0], vec![0.0, 2.0, 0.0, 0.0], vec![0.0; 4]];
    let mut sequence = Sequence::new(&strategy, &session(2, 1, 4));
    let mut last = sequence.fuse(&rows);
    assert!((last.get("no_expert_weight") - 0.2).abs() < 1e-12);
    for _ in 0..6 {
        sequence.commit(&rows, 3);
        let fused = sequence.fuse(&rows);
        assert!(fused.get("no_expert_weight") > last.get("no_expert_weight"));
        assert!(fused.get("kl_fused_base") < last.get("kl_fused_base"));
        last = fused;
    }
    assert!(last.get("no_expert_weight") > 0.95, "{last:?}");
}

#[test]
fn weights_of_a_glance() {
    let rows = vec![vec![0.0; 4], vec![5.0, 0.0, 0.0, 0.0], vec![0.0, 1.0, 0.0, 0.0], vec![0.0; 4]];
    let top = |params: Params| {
        let fused = fuse_once(&strategy(params), &rows, 2);
        (fused.get("top_expert"), fused.get("top_weight"))
    };
    let by = |weights| Params { weights: Some(weights), ..Params::default() };
    assert_eq!(top(by(Weights::Uniform)), (0.0, 0.5));
    assert_eq!(top(by(Weights::Top1)), (0.0, 1.0));
    let (a, b) = (kls(&rows[1], &rows[3]).0, kls(&rows[2], &rows[3]).0);
    let (expert, weight) = top(by(Weights::Kl));
    assert_eq!(expert, 0.0);
    assert!((weight - a / (a + b)).abs() < 1e-6);
    let fixed = Params { fixed_weights: Some(vec![0.25, 0.75]), ..by(Weights::Fixed) };
    assert_eq!(top(fixed), (1.0, 0.75));
    let entropies = [1, 2].map(|expert: usize| probabilities(&rows[expert]).iter().map(|p| -p * p.ln()).sum::<f64>());
    let (expert, weight) = top(Params { entropy_temperature: Some(0.5), ..by(Weights::Entropy) });
    assert_eq!(expert, 0.0);
    assert!((weight - 1.0 / (1.0 + ((entropies[0] - entropies[1]) / 0.5).exp())).abs() < 1e-5);
}

#[test]
fn selectors_that_break_their_promise_are_named() {
    let rows = plain_rows(4);
    proptest!(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() }, |(rows in rows)| {
        for (weights, no_expert) in [([0.5, 0.6], 0.0), ([1.5, -0.5], 0.0), ([f64::NAN, 1.0], 0.0), ([0.5, 0.5], 0.5)] {
            let strategy = always(Params::default(), &weights, no_expert);
            let views: Vec<_> = rows.iter().map(|r| RoleRow::new(r, log_sum_exp(r), 0.0)).collect();
            let mut logits = vec![0.0; rows[0].len()];
            let mut out = FusedRow { logits: &mut logits, trace: &mut [] };
            let mut state = strategy.start(&session(2, 1, rows[0].len())).unwrap();
            let error = state.fuse(&FusionStep::new(&views, &[]), &mut out).unwrap_err();
            prop_assert!(error.to_string().starts_with("weights ["), "{error}");
        }
    });
}

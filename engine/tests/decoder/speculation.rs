//! Drafts change how fast tokens come, never which.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, Result, RoleSpec, SessionInfo, StrategyInfo,
    TokenId, numerics::log_sum_exp,
};
use logitfuse_engine::{
    BaseOnly, Cancel, Decoder, Draft, DraftCosts, DraftLength, Event, Request, Role, Sampler, Sampling, ScoreRequest,
    Speculation,
};
use logitfuse_replay::{ScriptedSource, SyntheticSource};
use logitfuse_static_proxy::{Params, StaticProxy};

/// Proxy tuning whose strength swings with the committed tokens: what rolls back or runs ahead wrongly shows.
struct Swinging(StrategyInfo);

pub(crate) fn swinging() -> Arc<dyn FusionStrategy> {
    let roles = ["base", "expert", "anti"].map(RoleSpec::one);
    Arc::new(Swinging(StrategyInfo::new("swinging", roles).with_trace("alpha", "1")))
}

impl FusionStrategy for Swinging {
    fn info(&self) -> &StrategyInfo {
        &self.0
    }

    fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Swing { history: Vec::new() }))
    }
}

#[derive(Clone)]
struct Swing {
    history: Vec<TokenId>,
}

impl FusionState for Swing {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        assert_eq!(self.history, step.committed, "what was committed is what there is");
        let alpha = self.history.iter().fold(0.3_f32, |alpha, &token| 0.7 * alpha + 0.1 * (token % 7) as f32);
        let [base, expert, anti] = [0, 1, 2].map(|row| step.row(row).logits());
        for (id, out) in out.logits.iter_mut().enumerate() {
            *out = base[id] + alpha * (expert[id] - anti[id]);
        }
        if let [column] = out.trace {
            *column = f64::from(alpha);
        }
        Ok(())
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.history.extend(tokens);
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.history.truncate(self.history.len() - n);
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.clone()))
    }
}

pub(crate) fn proxy(alpha: f64) -> Arc<dyn FusionStrategy> {
    Arc::new(StaticProxy::new(Params { alpha, ..Params::default() }).unwrap())
}

/// Sources that agree often: a common part, and a little of each one's own.
pub(crate) fn source(name: &str, vocab: usize, seed: u64, own: f32) -> Box<dyn LogitSource> {
    let mix = move |x: u64| {
        let mut x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 29;
        x.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40
    };
    let row = move |prefix: &[TokenId]| {
        let key = prefix.iter().rev().take(3).fold(7_u64, |key, &t| mix(key ^ (u64::from(t) + 1)));
        let noise = |seed: u64, id: usize| mix(key ^ mix(seed ^ (id as u64 + 11))) as f32 / (1 << 24) as f32;
        (0..vocab).map(|id| 6.0 * noise(0, id) + own * noise(seed, id)).collect()
    };
    Box::new(ScriptedSource::from_fn(name, vocab, row))
}

fn engine(strategy: Arc<dyn FusionStrategy>, vocab: usize, draft: Option<Draft>, length: DraftLength) -> Decoder {
    let names: Vec<String> = strategy.info().roles.iter().map(|role| role.name.clone()).collect();
    Decoder::builder(strategy)
        .source(source("large", vocab, 1, 1.0))
        .source(source("tuned", vocab, 2, 1.5))
        .source(source("small", vocab, 3, 1.5))
        .source(source("drafter", vocab, 4, 2.0))
        .roles(names.iter().enumerate().map(|(i, name)| Role::new(name, i)))
        .speculation(draft.map(|draft| Speculation { draft, length }))
        .build()
        .unwrap()
}

pub(crate) fn prompt(n: TokenId, length: usize, vocab: usize) -> Vec<TokenId> {
    (0..).map(|i: TokenId| (i * 7 + n * 13) % TokenId::try_from(vocab).unwrap()).take(length).collect()
}

/// Tokens with the bits of their log-probabilities and traces, and how many were drafted and stood.
pub(crate) type Story = Vec<Vec<(TokenId, u64, Vec<u64>)>>;

pub(crate) fn run(engine: &mut Decoder, requests: &[Request]) -> (Story, usize) {
    let mut out = vec![Vec::new(); requests.len()];
    let mut stood = 0;
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(t) = event {
            stood += usize::from(t.drafted);
            assert_eq!(t.position, out[t.request].len());
            out[t.request].push((t.token, t.log_prob.to_bits(), t.trace.iter().map(|x| x.to_bits()).collect()));
        }
        ControlFlow::Continue(())
    };
    let done = engine.generate(requests, &Cancel::new(), &mut on_event).unwrap();
    assert_eq!(done.iter().map(|generation| generation.timings.accepted).sum::<usize>(), stood);
    for (generation, story) in done.iter().zip(&out) {
        assert_eq!(generation.tokens.len(), story.len());
    }
    (out, stood)
}

fn drafts(bindings: usize) -> Vec<Draft> {
    let mut all = vec![Draft::Source(3), Draft::PromptLookup { longest: 3 }];
    all.extend((0..bindings).map(Draft::Binding));
    all
}

pub(crate) fn adaptive() -> DraftLength {
    DraftLength::Adaptive(DraftCosts { draft: 0.1, verify: vec![1.0, 1.1, 1.2, 1.3, 1.4, 1.5] })
}

#[test]
fn greedy_text_is_the_same_to_the_bit() {
    const VOCAB: usize = 53;
    let strategies: [(Arc<dyn FusionStrategy>, usize); 3] =
        [(Arc::new(BaseOnly::new()), 1), (proxy(0.8), 3), (swinging(), 3)];
    let mut prompts = 0;
    for (strategy, bindings) in strategies {
        let penalty = Sampling { frequency_penalty: 0.4, repetition_penalty: 1.1, ..Sampling::default() };
        let request = |n: TokenId| {
            let sampling = if n.is_multiple_of(2) { Sampling::default() } else { penalty.clone() };
            let prompts = vec![prompt(n, 2 + n as usize % 9, VOCAB); bindings];
            Request::new(prompts).max_new_tokens(12 + n as usize % 20).sampling(sampling).trace()
        };
        let requests: Vec<Request> = (0..72).map(request).collect();
        let (plain, _) = run(&mut engine(Arc::clone(&strategy), VOCAB, None, DraftLength::Fixed(0)), &requests);
        prompts += requests.len();
        for draft in drafts(bindings) {
            for length in [DraftLength::Fixed(1), DraftLength::Fixed(4), adaptive()] {
                let mut engine = engine(Arc::clone(&strategy), VOCAB, Some(draft), length.clone());
                let (drafted, stood) = run(&mut engine, &requests);
                assert_eq!(drafted, plain, "{draft:?} {length:?}");
                // These texts repeat nothing that could be looked up.
                let looked_up = matches!(draft, Draft::PromptLookup { .. });
                assert!(stood > 0 || looked_up, "{draft:?} {length:?}: nothing was drafted well");
                let (single, _) = run(&mut engine, &requests[5..6]);
                assert_eq!(single[0], plain[5], "{draft:?} {length:?}: alone");
            }
        }
    }
    assert!(prompts >= 200);
}

/// The probability of every text of `length` tokens, by asking for each one's score after the samplers.
pub(crate) fn exact(
    engine: &mut Decoder,
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    length: usize,
) -> BTreeMap<Vec<TokenId>, f64> {
    let mut texts = BTreeMap::from([(Vec::new(), 1.0)]);
    for _ in 0..length {
        let mut longer = BTreeMap::new();
        for (text, p) in texts {
            for (token, q) in next(engine, prompts, sampling, &text) {
                let longer_text: Vec<TokenId> = text.iter().copied().chain([token]).collect();
                longer.insert(longer_text, p * q);
            }
        }
        texts = longer;
    }
    texts
}

/// The distribution after `text`, by a way of its own: the fused log-probabilities of a teacher-forced score, through a sampler of its own.
fn next(engine: &mut Decoder, prompts: &[Vec<TokenId>], sampling: &Sampling, text: &[TokenId]) -> Vec<(TokenId, f64)> {
    let vocab = TokenId::try_from(engine.session().vocabulary.width()).unwrap();
    let row: Vec<f32> = (0..vocab)
        .map(|id| {
            let continuation = text.iter().copied().chain([id]).collect();
            let request = ScoreRequest::new(prompts, [continuation]);
            let score = engine.score(&request, &Cancel::new()).unwrap().remove(0);
            #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
            let logit = score.tokens.last().unwrap().log_prob as f32;
            logit
        })
        .collect();
    assert!(log_sum_exp(&row).abs() < 1e-5);
    let mut sampler = Sampler::new(sampling, &prompts[0]).unwrap();
    for &token in text {
        sampler.commit(token).unwrap();
    }
    sampler.candidates(&row).unwrap()
}

#[test]
fn sampled_text_has_the_exact_distribution() {
    const VOCAB: usize = 4;
    const LENGTH: usize = 3;
    let plain = Sampling { temperature: 1.0, ..Sampling::default() };
    let shaped =
        Sampling { temperature: 0.7, top_p: 0.9, frequency_penalty: 0.4, presence_penalty: 0.5, ..plain.clone() };
    let cases = [
        (proxy(1.2), Draft::Binding(1), DraftLength::Fixed(2), &plain, 35_000),
        (swinging(), Draft::Source(3), DraftLength::Fixed(2), &shaped, 35_000),
        (swinging(), Draft::PromptLookup { longest: 2 }, DraftLength::Fixed(2), &plain, 10_000),
        (proxy(0.6), Draft::Binding(2), DraftLength::Fixed(2), &shaped, 10_000),
        // Drafts that end where their drafter is unsure.
        (proxy(1.2), Draft::Binding(1), adaptive(), &plain, 20_000),
    ];
    for (strategy, draft, length, sampling, draws) in cases {
        let prompts = vec![vec![1, 2, 3, 1, 2]; 3];
        let plain = &mut engine(Arc::clone(&strategy), VOCAB, None, DraftLength::Fixed(0));
        let expected = exact(plain, &prompts, sampling, LENGTH);
        let name = format!("{draft:?}, {length:?}");
        let mut engine = engine(Arc::clone(&strategy), VOCAB, Some(draft), length);
        assert_distributed(&mut engine, &prompts, sampling, &expected, draws, &name);
    }
}

/// Draws texts and holds their counts against their probabilities, by Pearson's statistic.
pub(crate) fn assert_distributed(
    engine: &mut Decoder,
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    expected: &BTreeMap<Vec<TokenId>, f64>,
    draws: u32,
    name: &str,
) {
    let length = expected.keys().next().unwrap().len();
    let mut counts: BTreeMap<Vec<TokenId>, u32> = BTreeMap::new();
    for first in (0..draws).step_by(1000) {
        let request = |seed: u32| {
            let sampling = Sampling { seed: u64::from(seed), ..sampling.clone() };
            Request::new(prompts).max_new_tokens(length).sampling(sampling)
        };
        let requests: Vec<Request> = (first..first + 1000).map(request).collect();
        for generation in engine.generate(&requests, &Cancel::new(), &mut |_| ControlFlow::Continue(())).unwrap() {
            *counts.entry(generation.tokens).or_default() += 1;
        }
    }
    let impossible: Vec<_> = counts.iter().filter(|(text, _)| !expected.contains_key(*text)).collect();
    assert!(impossible.is_empty(), "{name}: impossible texts {impossible:?}");
    let expected_count = |p: f64| p * f64::from(draws);
    // Texts that are too rare for the statistic are one class together.
    let (common, rare): (Vec<_>, Vec<_>) = expected.iter().partition(|&(_, &p)| expected_count(p) >= 5.0);
    let seen = |text: &Vec<TokenId>| f64::from(counts.get(text).copied().unwrap_or(0));
    let mut classes: Vec<(f64, f64)> = common.iter().map(|&(text, &p)| (seen(text), expected_count(p))).collect();
    let rest = rare.iter().fold((0.0, 0.0), |(n, e), &(text, &p)| (n + seen(text), e + expected_count(p)));
    if rest.1 > 5.0 {
        classes.push(rest);
    }
    let chi: f64 = classes.iter().map(|(n, e)| (n - e).powi(2) / e).sum();
    let degrees = classes.len() as f64 - 1.0;
    // Wilson and Hilferty's approximation of the 99.99 % point; seeds are fixed.
    let limit = degrees * (1.0 - 2.0 / (9.0 * degrees) + 3.719 * (2.0 / (9.0 * degrees)).sqrt()).powi(3);
    assert!(chi < limit, "{name}: chi-square {chi:.1} on {degrees} degrees, limit {limit:.1}");
}

#[test]
fn a_sampled_sequence_does_not_depend_on_its_batch() {
    const VOCAB: usize = 31;
    let request = |n: TokenId| {
        let sampling = Sampling { temperature: 0.9, top_p: 0.95, seed: u64::from(n), ..Sampling::default() };
        Request::new(vec![prompt(n, 3 + n as usize, VOCAB); 3]).max_new_tokens(40).sampling(sampling).trace()
    };
    let requests: Vec<Request> = (0..6).map(request).collect();
    for draft in drafts(3) {
        let mut engine = engine(swinging(), VOCAB, Some(draft), adaptive());
        let (together, _) = run(&mut engine, &requests);
        for (n, request) in requests.iter().enumerate() {
            assert_eq!(run(&mut engine, std::slice::from_ref(request)).0[0], together[n], "{draft:?} {n}");
        }
    }
}

#[test]
fn drafts_end_where_the_text_does() {
    // Everybody counts upwards and agrees; 30 ends a text, and the context holds 12 tokens.
    let counting = |name: &str, context| {
        let next = |prefix: &[TokenId]| {
            let mut row = vec![0.0; 64];
            row[(prefix[prefix.len() - 1] as usize + 1) % 64] = 9.0;
            row
        };
        let source = ScriptedSource::from_fn(name, 64, next).context_length(context).end_of_sequence([30]);
        Box::new(source) as Box<dyn LogitSource>
    };
    let run = |context, from: TokenId, new_tokens, speculation: Option<Speculation>| {
        let engine = Decoder::builder(proxy(1.0))
            .roles(["base", "expert", "anti"].iter().enumerate().map(|(i, r)| Role::new(*r, i)));
        let engine = ["a", "b", "c"].iter().fold(engine, |engine, name| engine.source(counting(name, context)));
        let request = Request::new(vec![vec![from]; 3]).max_new_tokens(new_tokens);
        let done = engine.speculation(speculation).build().unwrap().generate_one(&request).unwrap();
        (done.tokens, done.finish)
    };
    let speculation = Some(Speculation { draft: Draft::Binding(1), length: DraftLength::Fixed(5) });
    for (context, from, new_tokens) in [(99, 1, 7), (99, 1, 8), (99, 24, 40), (12, 1, 40), (99, 1, 1), (99, 1, 0)] {
        assert_eq!(run(context, from, new_tokens, speculation.clone()), run(context, from, new_tokens, None));
    }
}

#[test]
fn what_repeats_is_looked_up() {
    let cycle = |prefix: &[TokenId]| {
        let mut row = vec![0.0; 16];
        row[(prefix[prefix.len() - 1] as usize + 1) % 5] = 9.0;
        row
    };
    let mut engine = Decoder::builder(Arc::new(BaseOnly::new()))
        .source(Box::new(ScriptedSource::from_fn("cycle", 16, cycle)))
        .roles([Role::new("base", 0)])
        .speculation(Some(Speculation { draft: Draft::PromptLookup { longest: 3 }, length: DraftLength::Fixed(4) }))
        .build()
        .unwrap();
    let done = engine.generate_one(&Request::new(vec![vec![0, 1, 2, 3, 4, 0, 1]]).max_new_tokens(26)).unwrap();
    assert_eq!(done.tokens, (2..28).map(|t| t % 5).collect::<Vec<TokenId>>());
    assert_eq!((done.timings.drafted, done.timings.accepted), (20, 20));
}

#[test]
fn a_good_drafter_saves_calls() {
    let mut engine = Decoder::builder(Arc::new(BaseOnly::new()))
        .source(Box::new(SyntheticSource::new("large", 97, 1)))
        .source(Box::new(SyntheticSource::new("twin", 97, 1)))
        .roles([Role::new("base", 0)])
        .speculation(Some(Speculation { draft: Draft::Source(1), length: DraftLength::Fixed(4) }))
        .build()
        .unwrap();
    let done = engine.generate_one(&Request::new(vec![vec![1, 2, 3]]).max_new_tokens(41)).unwrap();
    // The first token comes with the prompt; then every round gives five.
    assert_eq!((done.timings.drafted, done.timings.accepted), (32, 32));
}

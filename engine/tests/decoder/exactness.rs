//! Decoding held against the exact distribution of all texts, by enumeration.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use logitfuse_core::{LogitSource, ProcessorFactory, TokenId, numerics::log_sum_exp};
use logitfuse_engine::{Cancel, Decoder, DraftCosts, DraftLength, Event, Request, Sampler, Sampling, ScoreRequest};
use logitfuse_replay::ScriptedSource;

/// Logits processors of a request.
pub(crate) type Processors = [Arc<dyn ProcessorFactory>];

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

pub(crate) fn adaptive() -> DraftLength {
    DraftLength::Adaptive(DraftCosts { draft: 0.1, verify: vec![1.0, 1.1, 1.2, 1.3, 1.4, 1.5] })
}

/// The probability of every text of `length` tokens, by asking for each one's score after the samplers.
pub(crate) fn exact(
    engine: &mut Decoder,
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    processors: &Processors,
    length: usize,
) -> BTreeMap<Vec<TokenId>, f64> {
    let mut texts = BTreeMap::from([(Vec::new(), 1.0)]);
    for _ in 0..length {
        let mut longer = BTreeMap::new();
        for (text, p) in texts {
            for (token, q) in next(engine, prompts, sampling, processors, &text) {
                let longer_text: Vec<TokenId> = text.iter().copied().chain([token]).collect();
                longer.insert(longer_text, p * q);
            }
        }
        texts = longer;
    }
    texts
}

/// The distribution after `text`, by a way of its own: the fused log-probabilities of a teacher-forced score, through a sampler of its own.
fn next(
    engine: &mut Decoder,
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    processors: &Processors,
    text: &[TokenId],
) -> Vec<(TokenId, f64)> {
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
    let own = processors.iter().map(|factory| factory.start(&prompts[0], &engine.session().vocabulary).unwrap());
    let mut sampler = Sampler::with_processors(sampling, &prompts[0], own.collect()).unwrap();
    for &token in text {
        sampler.commit(token).unwrap();
    }
    sampler.candidates(&row).unwrap()
}

/// Draws texts and holds their counts against their probabilities, by Pearson's statistic.
pub(crate) fn assert_distributed(
    engine: &mut Decoder,
    prompts: &[Vec<TokenId>],
    sampling: &Sampling,
    processors: &Processors,
    expected: &BTreeMap<Vec<TokenId>, f64>,
    draws: u32,
    name: &str,
) {
    let length = expected.keys().next().unwrap().len();
    let mut counts: BTreeMap<Vec<TokenId>, u32> = BTreeMap::new();
    for first in (0..draws).step_by(1000) {
        let request = |seed: u32| {
            let sampling = Sampling { seed: u64::from(seed), ..sampling.clone() };
            let mut request = Request::new(prompts).max_new_tokens(length).sampling(sampling);
            request.processors = processors.to_vec();
            request
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

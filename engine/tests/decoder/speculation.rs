//! Drafts change how fast tokens come, never which.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, LogitsProcessor,
    ProcessorContext, ProcessorFactory, Result, RoleSpec, SamplingRow, SessionInfo, SharedVocabulary, StrategyInfo,
    TokenId,
};
use logitfuse_engine::{BaseOnly, Cancel, Decoder, Draft, DraftLength, Request, Role, Sampling, Speculation};
use logitfuse_replay::{ScriptedSource, SyntheticSource};
use logitfuse_static_proxy::{Params, StaticProxy};

use crate::exactness::{adaptive, assert_distributed, exact, prompt, run, source};

/// Proxy tuning whose strength swings with the committed tokens: what rolls back or runs ahead wrongly shows.
struct Swinging(StrategyInfo);

fn swinging() -> Arc<dyn FusionStrategy> {
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

fn proxy(alpha: f64) -> Arc<dyn FusionStrategy> {
    Arc::new(StaticProxy::new(Params { alpha, ..Params::default() }).unwrap())
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

fn drafts(bindings: usize) -> Vec<Draft> {
    let mut all = vec![Draft::Source(3), Draft::PromptLookup { longest: 3 }];
    all.extend((0..bindings).map(Draft::Binding));
    all
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
        let expected = exact(plain, &prompts, sampling, &[], LENGTH);
        let name = format!("{draft:?}, {length:?}");
        let mut engine = engine(Arc::clone(&strategy), VOCAB, Some(draft), length);
        assert_distributed(&mut engine, &prompts, sampling, &[], &expected, draws, &name);
    }
}

/// Bans what was generated two tokens ago and favours what follows the last token's id: what it does depends on all that was
/// committed, so that a draft that is not taken back shows.
#[derive(Clone, Default)]
struct Historical {
    history: Vec<TokenId>,
}

impl LogitsProcessor for Historical {
    fn apply(&mut self, context: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
        assert_eq!(context.generated, self.history, "what was committed is what there is");
        let width = row.logits().len();
        let row = row.logits_mut();
        if let [.., before, _] = self.history[..] {
            row[before as usize] = f32::NEG_INFINITY;
        }
        if let Some(last) = self.history.last() {
            row[(*last as usize + 1) % width] += 0.7;
        }
        Ok(())
    }

    fn commit(&mut self, token: TokenId) -> Result<()> {
        self.history.push(token);
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.history.truncate(self.history.len() - n);
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

fn historical() -> Arc<dyn ProcessorFactory> {
    Arc::new(|_: &[TokenId], _: &SharedVocabulary| Ok(Box::new(Historical::default()) as Box<dyn LogitsProcessor>))
}

#[test]
fn logits_processors_are_exact_under_drafts() {
    const VOCAB: usize = 4;
    const LENGTH: usize = 4;
    let shaped = Sampling { temperature: 0.8, top_k: 3, presence_penalty: 0.5, ..Sampling::default() };
    let processors = [historical()];
    for (draft, draws) in
        [(None, 10_000), (Some(Draft::Binding(1)), 30_000), (Some(Draft::PromptLookup { longest: 2 }), 10_000)]
    {
        let prompts = vec![vec![1, 2, 3, 1, 2]; 3];
        let plain = &mut engine(swinging(), VOCAB, None, DraftLength::Fixed(0));
        let expected = exact(plain, &prompts, &shaped, &processors, LENGTH);
        let mut engine = engine(swinging(), VOCAB, draft, DraftLength::Fixed(3));
        assert_distributed(&mut engine, &prompts, &shaped, &processors, &expected, draws, &format!("{draft:?}"));
    }
}

#[test]
fn greedy_text_with_a_processor_is_the_same_with_drafts() {
    const VOCAB: usize = 53;
    let request = |n: TokenId| {
        let request = Request::new(vec![prompt(n, 5, VOCAB); 3]).max_new_tokens(30).trace();
        request.processor(historical())
    };
    let requests: Vec<Request> = (0..20).map(request).collect();
    let (plain, _) = run(&mut engine(proxy(0.8), VOCAB, None, DraftLength::Fixed(0)), &requests);
    for draft in drafts(3) {
        let (drafted, _) = run(&mut engine(proxy(0.8), VOCAB, Some(draft), adaptive()), &requests);
        assert_eq!(drafted, plain, "{draft:?}");
    }
}

/// Fails at a position.
#[derive(Clone)]
struct Breaking(usize);

impl LogitsProcessor for Breaking {
    fn apply(&mut self, context: &ProcessorContext<'_>, _: &mut SamplingRow) -> Result<()> {
        if context.generated.len() < self.0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Backend, "this processor breaks"))
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

#[test]
fn a_processor_that_fails_ends_its_own_sequence() {
    const VOCAB: usize = 53;
    let request = |n: TokenId| Request::new(vec![prompt(n, 5, VOCAB); 3]).max_new_tokens(12).trace();
    let mut requests: Vec<Request> = (0..4).map(request).collect();
    for draft in [None, Some(Draft::Binding(1))] {
        let mut engine = engine(proxy(0.8), VOCAB, draft, DraftLength::Fixed(2));
        let (expected, _) = run(&mut engine, &requests);
        let breaking = |_: &[TokenId], _: &SharedVocabulary| Ok(Box::new(Breaking(5)) as Box<dyn LogitsProcessor>);
        requests[2].processors = vec![Arc::new(breaking)];
        let mut lengths = vec![0; 4];
        let error = engine
            .generate(&requests, &Cancel::new(), &mut |event| {
                if let logitfuse_engine::Event::Token(report) = event {
                    lengths[report.request] += 1;
                }
                ControlFlow::Continue(())
            })
            .unwrap_err();
        assert_eq!(error.to_string(), "this processor breaks");
        requests[2].processors.clear();
        assert_eq!(lengths, [12, 12, 5, 12]);
        assert_eq!(run(&mut engine, &requests).0, expected);
    }
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
    // All sources count upwards and agree; 30 ends a text, and the context holds 12 tokens.
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

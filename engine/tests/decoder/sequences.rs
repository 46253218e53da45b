//! The decode loop's promises, on synthetic sources: no model, no runtime.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{ErrorKind, FusionStrategy, LogitSource, SharedVocabulary, TokenId};
use logitfuse_engine::{
    BaseOnly, Cancel, Concurrency, Decoder, Event, FinishReason, Request, Role, Sampling, ScoreRequest,
};
use logitfuse_replay::{ScriptedSource, SyntheticSource};
use logitfuse_static_proxy::{Params, StaticProxy};

const VOCAB: usize = 97;

fn source(name: &str, seed: u64) -> Box<dyn LogitSource> {
    Box::new(SyntheticSource::new(name, VOCAB, seed))
}

fn proxy(alpha: f64) -> Arc<dyn FusionStrategy> {
    Arc::new(StaticProxy::new(Params { alpha, ..Params::default() }).unwrap())
}

fn three(alpha: f64, concurrency: Concurrency) -> Decoder {
    Decoder::builder(proxy(alpha))
        .source(source("large", 1))
        .source(source("tuned", 2))
        .source(source("small", 3))
        .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
        .concurrency(concurrency)
        .build()
        .unwrap()
}

fn base() -> Decoder {
    let builder = Decoder::builder(Arc::new(BaseOnly::new())).source(source("large", 1));
    builder.roles([Role::new("base", 0)]).build().unwrap()
}

fn prompt(n: TokenId, length: usize) -> Vec<TokenId> {
    (0..).map(|i| (i * 7 + n * 13) % 90).take(length).collect()
}

fn request(n: TokenId, roles: usize) -> Request {
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, seed: u64::from(n), ..Sampling::default() };
    Request::new(vec![prompt(n, 3 + n as usize); roles]).max_new_tokens(24).sampling(sampling).trace()
}

/// Tokens with the bits of everything that was reported about them.
fn bits(engine: &mut Decoder, requests: &[Request]) -> Vec<Vec<(TokenId, u64, Vec<u64>)>> {
    let mut out = vec![Vec::new(); requests.len()];
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(t) = event {
            let trace = t.trace.iter().map(|x| x.to_bits()).collect();
            out[t.request].push((t.token, t.log_prob.to_bits(), trace));
        }
        ControlFlow::Continue(())
    };
    engine.generate(requests, &Cancel::new(), &mut on_event).unwrap();
    out
}

#[test]
fn a_sequence_does_not_depend_on_its_batch() {
    let mut engine = three(1.0, Concurrency::Parallel);
    let requests: Vec<_> = (0..5).map(|n| request(n, 3)).collect();
    let together = bits(&mut engine, &requests);
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(bits(&mut engine, std::slice::from_ref(request))[0], together[n], "sequence {n}");
    }
    let mut reversed: Vec<_> = requests.iter().rev().cloned().collect();
    let mut backwards = bits(&mut engine, &reversed);
    backwards.reverse();
    reversed.reverse();
    assert_eq!(backwards, together);
}

#[test]
fn side_by_side_and_in_turn_give_the_same_bits() {
    let requests = [request(1, 3), request(2, 3)];
    let parallel = bits(&mut three(0.7, Concurrency::Parallel), &requests);
    assert_eq!(bits(&mut three(0.7, Concurrency::Sequential), &requests), parallel);
}

#[test]
fn alpha_zero_is_the_base() {
    let (fused, plain) =
        (bits(&mut three(0.0, Concurrency::Parallel), &[request(3, 3)]), bits(&mut base(), &[request(3, 1)]));
    let without_trace = |runs: &[(TokenId, u64, Vec<u64>)]| runs.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>();
    assert_eq!(without_trace(&fused[0]), without_trace(&plain[0]));
}

#[test]
fn an_expert_that_is_its_own_base_changes_nothing() {
    for alpha in [-1.0, 0.3, 1.0, 5.0] {
        let mut engine = Decoder::builder(proxy(alpha))
            .source(source("large", 1))
            .source(source("small", 3))
            .source(source("small too", 3))
            .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
            .build()
            .unwrap();
        let fused: Vec<_> = bits(&mut engine, &[request(4, 3)])[0].iter().map(|r| (r.0, r.1)).collect();
        let plain: Vec<_> = bits(&mut base(), &[request(4, 1)])[0].iter().map(|r| (r.0, r.1)).collect();
        assert_eq!(fused, plain, "alpha {alpha}");
    }
}

#[test]
fn a_score_agrees_with_what_generating_reported() {
    let mut engine = three(1.0, Concurrency::Parallel);
    let prompts = vec![prompt(2, 9); 3];
    let generation = engine.generate_one(&Request::new(prompts.clone()).max_new_tokens(150)).unwrap();
    let request = ScoreRequest::new(prompts, [generation.tokens.clone()]);
    let score = engine.score(&request, &Cancel::new()).unwrap().remove(0);
    assert!(score.is_greedy);
    assert_eq!(score.tokens.len(), generation.tokens.len());
    assert!((score.log_prob - generation.log_prob).abs() < 1e-9, "{} {}", score.log_prob, generation.log_prob);
}

#[test]
fn long_prompts_go_in_by_pieces() {
    let mut engine = base();
    let long = Request::new([prompt(1, 1500)]).max_new_tokens(3);
    let mut seen = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Prefill { done, total } = event {
            seen.push((done, total));
        }
        ControlFlow::Continue(())
    };
    engine.generate(&[long], &Cancel::new(), &mut on_event).unwrap();
    assert_eq!(seen, [(0, 1500), (512, 1500), (1024, 1500), (1500, 1500)]);
}

#[test]
fn ends_are_told_apart() {
    // A source that counts: after token t comes t + 1.
    let counting = |context| {
        let next = |prefix: &[TokenId]| {
            let mut row = vec![0.0; VOCAB];
            row[(prefix[prefix.len() - 1] as usize + 1) % VOCAB] = 9.0;
            row
        };
        ScriptedSource::from_fn("counter", VOCAB, next).context_length(context).end_of_sequence([50, 60])
    };
    let run = |context, request: Request| {
        let source: Box<dyn LogitSource> = Box::new(counting(context));
        let engine = Decoder::builder(Arc::new(BaseOnly::new())).source(source).roles([Role::new("base", 0)]);
        engine.build().unwrap().generate_one(&request)
    };
    let from = |token| Request::new([vec![token]]).max_new_tokens(20);
    assert_eq!(run(99, from(48)).unwrap().finish, FinishReason::EndOfSequence(50));
    assert_eq!(run(99, from(58)).unwrap().finish, FinishReason::EndOfSequence(60));
    assert_eq!(run(99, from(1)).unwrap().finish, FinishReason::Length);
    let full = run(8, from(1)).unwrap();
    assert_eq!((full.finish, full.tokens.len()), (FinishReason::Context("counter".into()), 8));
    let overflow = run(8, Request::new([prompt(0, 9)])).unwrap_err();
    assert_eq!(overflow.kind(), ErrorKind::ContextOverflow);
    assert_eq!(overflow.to_string(), "source `counter`: the prompt has 9 tokens, the context holds 8");
    let mut past_the_end = from(48);
    past_the_end.ignore_end_of_sequence = true;
    assert_eq!(run(99, past_the_end).unwrap().finish, FinishReason::Length);
}

#[test]
fn cancelling_keeps_what_there_is() {
    let mut engine = base();
    let mut left = 5;
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(_) = event {
            left -= 1;
        }
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let done = engine.generate(&[request(1, 1)], &Cancel::new(), &mut on_event).unwrap();
    assert_eq!((&done[0].finish, done[0].tokens.len()), (&FinishReason::Cancelled, 5));
    // And the engine goes on working.
    assert_eq!(engine.generate_one(&request(1, 1)).unwrap().tokens.len(), 24);
}

#[test]
fn masked_ids_are_never_emitted() {
    let missing: Vec<TokenId> = (0..VOCAB).step_by(2).map(|id| TokenId::try_from(id).unwrap()).collect();
    let mut engine = Decoder::builder(proxy(1.0))
        .source(source("large", 1))
        .source(source("tuned", 2))
        .source(source("small", 3))
        .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
        .vocabulary(SharedVocabulary::new(VOCAB, missing))
        .build()
        .unwrap();
    let sampling = Sampling { temperature: 3.0, ..Sampling::default() };
    let generation =
        engine.generate_one(&Request::new(vec![prompt(1, 4); 3]).max_new_tokens(300).sampling(sampling)).unwrap();
    assert!(generation.tokens.iter().all(|id| id % 2 == 1));
}

#[test]
fn a_row_that_is_no_distribution_is_an_error_that_names_its_source() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let broken = ScriptedSource::from_fn("broken", 4, move |_| vec![bad; 4]);
        let builder = Decoder::builder(Arc::new(BaseOnly::new())).source(Box::new(broken));
        let mut engine = builder.roles([Role::new("base", 0)]).build().unwrap();
        let e = engine.generate_one(&Request::new([vec![1]])).unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::Numeric | ErrorKind::InvalidData), "{e:?}");
        assert!(e.to_string().contains("broken"), "{e}");
    }
}

#[test]
fn wiring_that_does_not_fit_is_refused() {
    let builder = || Decoder::builder(proxy(1.0)).source(source("large", 1));
    let message = |builder: logitfuse_engine::DecoderBuilder| builder.build().err().unwrap().to_string();
    assert_eq!(
        message(builder().roles([Role::new("base", 0), Role::new("teacher", 0)])),
        "strategy `static-proxy` has no role `teacher`; it has base, expert, anti"
    );
    assert_eq!(
        message(builder().roles([Role::new("expert", 0), Role::new("anti", 0)])),
        "strategy `static-proxy` wants exactly 1 source(s) in role `base`, got 0"
    );
    assert_eq!(message(builder().roles([Role::new("base", 7)])), "role `base` names source 7, there are 1");
}

#[test]
fn sequences_join_as_others_end_and_nothing_else_changes() {
    let request = |n: TokenId| request(n, 3).max_new_tokens(1 + (n as usize * 5) % 17);
    let requests: Vec<Request> = (0..12).map(request).collect();
    let expected =
        three(1.0, Concurrency::Parallel).generate(&requests, &Cancel::new(), &mut |_| ControlFlow::Continue(()));
    let expected: Vec<_> = expected.unwrap().into_iter().map(|g| (g.tokens, g.log_prob.to_bits())).collect();
    for limit in [1, 3, 100] {
        let (mut order, mut most, mut open) = (Vec::new(), 0, std::collections::BTreeSet::new());
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Token(t) => {
                    open.insert(t.request);
                    most = most.max(open.len());
                }
                Event::Done { request, generation } => {
                    open.remove(&request);
                    assert_eq!((generation.tokens, generation.log_prob.to_bits()), expected[request]);
                    order.push(request);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        };
        let mut each = requests.iter().cloned().map(Ok);
        three(1.0, Concurrency::Parallel).generate_stream(&mut each, limit, &Cancel::new(), &mut on_event).unwrap();
        assert_eq!(most, limit.min(12));
        if limit == 3 {
            assert_ne!(order, (0..12).collect::<Vec<_>>(), "short ones do not wait");
        }
        order.sort_unstable();
        assert_eq!(order, (0..12).collect::<Vec<_>>());
    }
}

#[test]
fn a_request_that_is_wrong_ends_alone() {
    for limit in [1, 3, 8] {
        let wrong = Request::new(vec![Vec::new(); 3]);
        let requests = [Ok(request(1, 3)), Ok(request(2, 3)), Ok(wrong), Ok(request(3, 3))];
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Done { request, generation } => done.push((request, generation.tokens.len())),
                Event::Failed { request, error } => failed.push((request, error.kind())),
                _ => {}
            }
            ControlFlow::Continue(())
        };
        let mut engine = three(1.0, Concurrency::Parallel);
        let error =
            engine.generate_stream(&mut requests.into_iter(), limit, &Cancel::new(), &mut on_event).unwrap_err();
        done.sort_unstable();
        assert_eq!((&*done, error.kind()), (&[(0, 24), (1, 24), (3, 24)][..], ErrorKind::InvalidConfig));
        assert_eq!(failed, [(2, ErrorKind::InvalidConfig)]);
        // And the engine goes on working.
        assert_eq!(engine.generate_one(&request(1, 3)).unwrap().tokens.len(), 24);
    }
}

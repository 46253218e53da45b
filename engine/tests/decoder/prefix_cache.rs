//! Beginnings that prompts share are run once, and nothing else changes.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::TokenId;
use logitfuse_engine::{Cancel, Decoder, Event, Request, Role};
use logitfuse_replay::SyntheticSource;
use logitfuse_static_proxy::{Params, StaticProxy};

const VOCAB: usize = 89;

fn engine(prefix_cache_bytes: u64) -> Decoder {
    let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), VOCAB, seed));
    Decoder::builder(Arc::new(StaticProxy::new(Params::default()).unwrap()))
        .source(source(1))
        .source(source(2))
        // Two roles of one source, with prompts of their own.
        .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 1)])
        .prefix_cache_bytes(prefix_cache_bytes)
        .build()
        .unwrap()
}

fn text(n: usize, length: usize) -> Vec<TokenId> {
    (0..length).map(|i| TokenId::try_from((i * i + 7 * n) % VOCAB).unwrap()).collect()
}

/// Requests that begin alike, and every third one that does not.
fn requests() -> Vec<Request> {
    let request = |n: usize| {
        let prompt = |role: usize| {
            let shots = if n % 3 == 2 { text(50 + n, 300) } else { text(role, 700) };
            [shots, text(100 + n, 5 + n)].concat()
        };
        Request::new([prompt(1), prompt(2), prompt(3)]).max_new_tokens(6).trace()
    };
    (0..9).map(request).collect()
}

/// What came out, and how many tokens of prompts were run and reused.
fn run(engine: &mut Decoder, limit: usize) -> (Vec<(Vec<TokenId>, u64)>, usize, usize) {
    let mut out = vec![(Vec::new(), 0); requests().len()];
    let mut on_event = |event: Event<'_>| {
        if let Event::Done { request, generation } = event {
            out[request] = (generation.tokens, generation.log_prob.to_bits());
        }
        ControlFlow::Continue(())
    };
    let mut each = requests().into_iter().map(Ok);
    let timings = engine.generate_stream(&mut each, limit, &Cancel::new(), &mut on_event).unwrap();
    (out, timings.prefill_tokens.iter().sum(), timings.reused_tokens.iter().sum())
}

#[test]
fn shared_beginnings_are_run_once() {
    let (expected, all, none) = run(&mut engine(0), 1);
    assert_eq!(none, 0);
    for limit in [1, 4, 9] {
        let mut engine = engine(1 << 20);
        let (out, fed, reused) = run(&mut engine, limit);
        assert_eq!(out, expected);
        assert!(reused > 0 && fed < all / 2, "{fed} of {all} tokens fed, {reused} reused");
        // What is kept serves the next call, too.
        let (again, fed_again, _) = run(&mut engine, limit);
        assert_eq!(again, expected);
        assert!(fed_again < fed, "{fed_again} {fed}");
    }
}

#[test]
fn a_small_budget_keeps_little_and_harms_nothing() {
    let (expected, all, _) = run(&mut engine(0), 1);
    // Four bytes a token: one beginning of 700 tokens fits, two do not.
    let (out, fed, _) = run(&mut engine(4 * 1000), 2);
    assert_eq!(out, expected);
    assert!(fed <= all + 2 * 700, "{fed} {all}");
}

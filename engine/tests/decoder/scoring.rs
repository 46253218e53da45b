//! Scoring many continuations at once is scoring each alone, only cheaper.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{ErrorKind, Result, TokenId};
use logitfuse_engine::{Cancel, Decoder, Role, Score, ScoreRequest, Timings};
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
    (0..length).map(|i| TokenId::try_from((i * i + 7 * n + i / 5) % VOCAB).unwrap()).collect()
}

/// Contexts that begin alike, each with choices of all kinds: single tokens, some that differ at their ends alone, one
/// twice, and some longer than a piece.
fn requests() -> Vec<ScoreRequest> {
    let request = |n: usize| {
        let prompt = |role: usize| [text(role, 300), text(100 + n, 1 + n)].concat();
        let choices = [
            text(n, 1),
            text(n + 1, 1),
            text(n, 70),
            [text(n, 69), text(3, 1)].concat(),
            text(n + 2, 3),
            text(n + 2, 3),
            text(n + 4, 64 + n),
        ];
        ScoreRequest::new([prompt(1), prompt(2), prompt(3)], choices).trace().top_logprobs(2)
    };
    (0..7).map(request).collect()
}

/// Everything that a score holds, as text: equal means equal bits.
fn exact(scores: &[Score]) -> Vec<String> {
    scores.iter().map(|score| format!("{score:?} {}", score.log_prob.to_bits())).collect()
}

fn all(engine: &mut Decoder, requests: Vec<ScoreRequest>, limit: usize) -> Result<(Vec<Vec<String>>, Timings)> {
    let mut out = vec![Vec::new(); requests.len()];
    let mut on_scored = |scored: logitfuse_engine::Scored| {
        out[scored.request] = exact(&scored.scores);
        ControlFlow::Continue(())
    };
    let timings = engine.score_stream(&mut requests.into_iter().map(Ok), limit, &Cancel::new(), &mut on_scored)?;
    Ok((out, timings))
}

fn one_at_a_time() -> Vec<Vec<String>> {
    let alone = |request: &ScoreRequest, continuation: &Vec<TokenId>| {
        let mut request = request.clone();
        request.continuations = vec![continuation.clone()];
        exact(&engine(0).score(&request, &Cancel::new()).unwrap()).remove(0)
    };
    requests().iter().map(|r| r.continuations.iter().map(|c| alone(r, c)).collect()).collect()
}

#[test]
fn company_changes_no_bit() {
    let expected = one_at_a_time();
    assert_eq!(expected[0][4], expected[0][5]);
    assert_ne!(expected[0][0], expected[0][1]);
    for (limit, cache) in [(1, 0), (1, 1 << 20), (3, 0), (3, 1 << 20), (8, 1 << 20)] {
        let (scores, _) = all(&mut engine(cache), requests(), limit).unwrap();
        assert_eq!(scores, expected, "{limit} at once, a cache of {cache} bytes");
    }
}

#[test]
fn contexts_and_what_they_share_are_run_once() {
    let fed = |cache| all(&mut engine(cache), requests(), 2).unwrap().1.prefill_tokens.iter().sum::<usize>();
    let contexts: usize = requests().iter().flat_map(|r| &r.prompts).map(|prompt| prompt.len() - 1).sum();
    assert_eq!(fed(0), contexts, "each context once, whatever the number of its choices");
    assert!(fed(1 << 20) < contexts / 3, "{} of {contexts}", fed(1 << 20));
}

#[test]
fn an_engine_that_drafts_scores_as_one_that_does_not() {
    use logitfuse_engine::{Draft, DraftLength, Speculation};
    let request = &requests()[0];
    let source = |seed| Box::new(SyntheticSource::new("m", VOCAB, seed));
    let build = |speculation| {
        Decoder::builder(Arc::new(logitfuse_engine::BaseOnly::new()))
            .source(source(1))
            .source(source(2))
            .roles([Role::new("base", 0)])
            .speculation(speculation)
            .build()
            .unwrap()
    };
    let mut request = request.clone();
    request.prompts.truncate(1);
    let draft = Speculation { draft: Draft::Source(1), length: DraftLength::Fixed(3) };
    let mut drafting = build(Some(draft));
    let scores = drafting.score(&request, &Cancel::new()).unwrap();
    assert_eq!(exact(&scores), exact(&build(None).score(&request, &Cancel::new()).unwrap()));
    // It drafts again when it generates.
    let generation = logitfuse_engine::Request::new(request.prompts.clone()).max_new_tokens(9);
    assert!(drafting.generate_one(&generation).unwrap().timings.drafted > 0);
}

#[test]
fn cancelling_ends_it_and_leaves_the_engine_sound() {
    let mut engine = engine(1 << 20);
    let cancel = Cancel::new();
    let mut seen = 0;
    let mut stop_after_two = |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut each = requests().into_iter().map(Ok);
    let error = engine.score_stream(&mut each, 1, &cancel, &mut stop_after_two).unwrap_err();
    assert_eq!((error.kind(), seen), (ErrorKind::Cancelled, 2));
    assert_eq!(engine.score(&requests()[0], &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(all(&mut engine, requests(), 4).unwrap().0, one_at_a_time());
}

#[test]
fn a_request_that_cannot_be_met_ends_alone() {
    let mut engine = engine(0);
    for (bad, message) in [
        (vec![], "there is no continuation to score"),
        (vec![vec![]], "a continuation to score has no token"),
        (vec![vec![1, 89]], "token 89 of the continuation is not in the shared vocabulary of 89"),
    ] {
        let mut requests = requests();
        requests[1].continuations = bad;
        let mut done = Vec::new();
        let mut keep = |scored: logitfuse_engine::Scored| {
            done.push(scored.request);
            ControlFlow::Continue(())
        };
        let error = engine.score_stream(&mut requests.into_iter().map(Ok), 4, &Cancel::new(), &mut keep).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidConfig, message));
        assert_eq!(done, [0, 2, 3, 4, 5, 6]);
    }
}

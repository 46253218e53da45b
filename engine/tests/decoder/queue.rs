//! Requests from other threads.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
};

use logitfuse_core::{ErrorKind, TokenId};
use logitfuse_engine::{
    BaseOnly, Cancel, Decoder, Event, EventSink, FinishReason, Request, Role, ScoreRequest, Submitter, Timings,
    request_queue,
};
use logitfuse_replay::SyntheticSource;

fn decoder() -> Decoder {
    let builder = Decoder::builder(Arc::new(BaseOnly::new())).source(Box::new(SyntheticSource::new("toy", 64, 1)));
    builder.roles([Role::new("base", 0)]).build().unwrap()
}

fn serving(capacity: usize, limit: usize) -> (Submitter, thread::JoinHandle<Timings>) {
    let (submitter, queue) = request_queue(capacity);
    (submitter, thread::spawn(move || decoder().serve(&queue, limit, &Cancel::new())))
}

/// What a request's listener hears, in short.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Token(TokenId),
    Done(Vec<TokenId>, FinishReason),
    Scored(usize),
    Failed(ErrorKind),
}

fn listener() -> (EventSink, Receiver<Heard>) {
    let (sender, receiver) = channel();
    let sink = move |event: Event<'_>| {
        let heard = match event {
            Event::Token(report) => Heard::Token(report.token),
            Event::Done { generation, .. } => Heard::Done(generation.tokens, generation.finish),
            Event::Scored(scored) => Heard::Scored(scored.scores.len()),
            Event::Failed { error, .. } => Heard::Failed(error.kind()),
            _ => return ControlFlow::Continue(()),
        };
        if sender.send(heard).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    (Box::new(sink), receiver)
}

fn request(n: TokenId) -> Request {
    Request::new([vec![n, 2, 3]]).max_new_tokens(10 + n as usize % 20)
}

#[test]
fn requests_of_many_threads_say_what_they_say_alone() {
    let (submitter, decoding) = serving(3, 4);
    let clients: Vec<_> = (0..6)
        .map(|client| {
            let submitter = submitter.clone();
            thread::spawn(move || {
                for n in (0..5).map(|n| client * 5 + n) {
                    let (sink, heard) = listener();
                    submitter.submit(request(n), sink).unwrap();
                    let heard: Vec<Heard> = heard.iter().collect();
                    let expected = decoder().generate_one(&request(n)).unwrap();
                    let tokens = expected.tokens.iter().map(|&token| Heard::Token(token));
                    let last = Heard::Done(expected.tokens.clone(), expected.finish.clone());
                    assert_eq!(heard, tokens.chain([last]).collect::<Vec<_>>());
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    drop(submitter);
    let expected: usize = (0..30).map(|n| 10 + n % 20).sum();
    assert_eq!(decoding.join().unwrap().tokens, expected);
}

#[test]
fn a_request_is_cancelled_alone_by_its_flag_or_by_its_listener() {
    let (submitter, decoding) = serving(4, 4);
    let (sink, endless) = listener();
    let cancel = submitter.submit(request(1).max_new_tokens(1_000_000), sink).unwrap();
    let (sink, dropped) = listener();
    submitter.submit(request(2).max_new_tokens(1_000_000), sink).unwrap();
    assert!(matches!(endless.recv().unwrap(), Heard::Token(_)));
    assert!(matches!(dropped.recv().unwrap(), Heard::Token(_)));
    drop(dropped);
    let (sink, other) = listener();
    submitter.submit(request(3), sink).unwrap();
    assert_eq!(other.iter().filter(|heard| matches!(heard, Heard::Token(_))).count(), 13);
    cancel.cancel();
    assert!(matches!(endless.iter().last(), Some(Heard::Done(_, FinishReason::Cancelled))));
    // The decoder has nothing left to do and ends.
    submitter.stop();
    decoding.join().unwrap();
}

#[test]
fn failures_scores_and_the_end_are_told() {
    let (submitter, decoding) = serving(4, 2);
    let (sink, failed) = listener();
    submitter.submit(Request::new([vec![]]), sink).unwrap();
    assert_eq!(failed.iter().collect::<Vec<_>>(), [Heard::Failed(ErrorKind::InvalidConfig)]);
    let (sink, scored) = listener();
    submitter.submit_score(ScoreRequest::new([vec![1, 2]], [vec![3], vec![4, 5]]), sink).unwrap();
    assert_eq!(scored.iter().collect::<Vec<_>>(), [Heard::Scored(2)]);
    submitter.stop();
    decoding.join().unwrap();
    let (sink, _) = listener();
    assert_eq!(submitter.submit(request(1), sink).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_full_queue_says_so() {
    let (submitter, queue) = request_queue(2);
    let heard: Vec<_> = (0..2)
        .map(|n| {
            let (sink, heard) = listener();
            assert!(submitter.try_submit(request(n), sink).unwrap().is_some());
            heard
        })
        .collect();
    assert!(submitter.try_submit(request(2), listener().0).unwrap().is_none());
    let scored = ScoreRequest::new([vec![1, 2]], [vec![3]]);
    assert!(submitter.try_submit_score(scored, listener().0).unwrap().is_none());
    drop(submitter);
    assert_eq!(decoder().serve(&queue, 1, &Cancel::new()).tokens, 21);
    assert_eq!(heard.iter().map(|heard| heard.iter().count()).collect::<Vec<_>>(), [11, 12]);
}

#[test]
fn a_request_tells_first_that_it_left_the_queue() {
    let (submitter, queue) = request_queue(4);
    let (sender, heard) = channel();
    for score in [false, true] {
        let sender = sender.clone();
        let sink: EventSink = Box::new(move |event| {
            let started = matches!(event, Event::Started { .. });
            let last = matches!(event, Event::Done { .. } | Event::Scored(_));
            if started || last {
                sender.send((score, started)).unwrap();
            }
            ControlFlow::Continue(())
        });
        let cancel = if score {
            submitter.try_submit_score(ScoreRequest::new([vec![1, 2]], [vec![3]]), sink)
        } else {
            submitter.try_submit(request(1), sink)
        };
        assert!(cancel.unwrap().is_some());
    }
    drop((submitter, sender));
    decoder().serve(&queue, 1, &Cancel::new());
    assert_eq!(heard.iter().collect::<Vec<_>>(), [(false, true), (false, false), (true, true), (true, false)]);
}

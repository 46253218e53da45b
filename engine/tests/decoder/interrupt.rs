//! A pass that would not end ends with the request that is cancelled, and what was there before stays.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use logitfuse_core::{Error, ErrorKind, Interrupt, LogitSource, Result, Rows, SequenceId, SourceInfo, Step, TokenId};
use logitfuse_engine::{
    BaseOnly, Cancel, Concurrency, Decoder, Draft, DraftLength, Event, FinishReason, Fusion, Request, Role,
    ScoreRequest, SourcePool, Speculation,
};
use logitfuse_replay::SyntheticSource;
use logitfuse_static_proxy::{Params, StaticProxy};

const VOCAB: usize = 40;
const PROMPT: [TokenId; 3] = [1, 2, 3];

/// What others see of an endless source.
#[derive(Default)]
struct Shared {
    raised: AtomicBool,
    /// How often a pass was entered that does not end.
    stuck: AtomicUsize,
}

impl Interrupt for Shared {
    fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
    }

    fn lower(&self) {
        self.raised.store(false, Ordering::SeqCst);
    }
}

/// Does not end the first pass that makes a sequence longer than this, unless it is interrupted.
struct Endless {
    inner: SyntheticSource,
    beyond: usize,
    shared: Arc<Shared>,
}

impl LogitSource for Endless {
    fn info(&self) -> &SourceInfo {
        self.inner.info()
    }

    fn open(&mut self) -> Result<SequenceId> {
        self.inner.open()
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.inner.fork(of)
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.inner.truncate(sequence, len)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.inner.close(sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.inner.len(sequence)
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.shared) as _)
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        let long = |step: &Step<'_>| self.inner.len(step.sequence).unwrap() + step.tokens.len() > self.beyond;
        if self.shared.stuck.load(Ordering::SeqCst) == 0 && batch.iter().any(long) {
            self.shared.stuck.fetch_add(1, Ordering::SeqCst);
            while !self.shared.raised.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
        }
        self.inner.forward(batch, out)
    }
}

/// Three sources, of which this one gets stuck once a sequence is longer than `beyond`.
fn pool(endless: usize, beyond: usize) -> (SourcePool, Arc<Shared>) {
    let shared = Arc::new(Shared::default());
    let source = |place: usize| -> Box<dyn LogitSource> {
        let inner = SyntheticSource::new(&format!("model {place}"), VOCAB, place as u64);
        if place == endless {
            Box::new(Endless { inner, beyond, shared: Arc::clone(&shared) })
        } else {
            Box::new(inner)
        }
    };
    let pool = SourcePool::builder().source(source(0)).source(source(1)).source(source(2)).build().unwrap();
    (pool, shared)
}

fn proxy(pool: &SourcePool) -> Fusion {
    let roles = [Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)];
    Fusion::new(pool, Arc::new(StaticProxy::new(Params::default()).unwrap()), roles).unwrap()
}

/// Does something while another thread waits for the source to be stuck and then cancels.
fn cancelling<T>(shared: &Shared, call: impl FnOnce(&Cancel) -> T) -> T {
    let cancel = Cancel::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while shared.stuck.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            cancel.cancel();
        });
        call(&cancel)
    })
}

fn request() -> Request {
    Request::new(vec![PROMPT.to_vec(); 3]).max_new_tokens(9)
}

#[test]
fn a_text_keeps_its_tokens_and_the_decoder_goes_on() {
    let expected = {
        let (pool, _) = pool(0, usize::MAX);
        Decoder::new(&proxy(&pool)).generate_one(&request()).unwrap()
    };
    for concurrency in [Concurrency::Parallel, Concurrency::Sequential] {
        for endless in 0..3 {
            let (pool, shared) = pool(endless, PROMPT.len() + 3);
            let fusion = proxy(&pool.with_concurrency(&concurrency));
            let mut decoder = Decoder::new(&fusion);
            let cut = cancelling(&shared, |cancel| {
                decoder.generate(&[request(), request()], cancel, &mut |_| ControlFlow::Continue(()))
            });
            for cut in cut.unwrap() {
                assert_eq!(cut.finish, FinishReason::Cancelled);
                assert_eq!(cut.tokens, expected.tokens[..4], "source {endless}");
            }
            let again = decoder.generate_one(&request()).unwrap();
            assert_eq!((again.finish, again.tokens), (FinishReason::Length, expected.tokens.clone()));
        }
    }
}

#[test]
fn a_prompt_is_given_up() {
    let (pool, shared) = pool(1, 2);
    let mut decoder = Decoder::new(&proxy(&pool));
    let cut = cancelling(&shared, |cancel| decoder.generate(&[request()], cancel, &mut |_| ControlFlow::Continue(())));
    let cut = cut.unwrap().remove(0);
    assert_eq!((cut.finish, cut.tokens), (FinishReason::Cancelled, vec![]));
}

#[test]
fn a_draft_is_given_up() {
    let (pool, shared) = pool(1, PROMPT.len() + 5);
    let speculation = Speculation { draft: Draft::Binding(1), length: DraftLength::Fixed(3) };
    let mut decoder = Decoder::new(&proxy(&pool).with_speculation(Some(speculation)).unwrap());
    let cut = cancelling(&shared, |cancel| decoder.generate(&[request()], cancel, &mut |_| ControlFlow::Continue(())));
    let cut = cut.unwrap().remove(0);
    assert_eq!(cut.finish, FinishReason::Cancelled);
    let whole = decoder.generate_one(&request()).unwrap();
    assert!(!cut.tokens.is_empty() && whole.tokens.starts_with(&cut.tokens));
}

#[test]
fn scores_are_cancelled_and_those_before_were_told() {
    let (pool, shared) = pool(0, PROMPT.len() + 2);
    let fusion = Fusion::new(&pool, Arc::new(BaseOnly::new()), [Role::new("base", 0)]).unwrap();
    let mut decoder = Decoder::new(&fusion);
    let requests = [vec![1, 2], vec![1, 2, 3, 4]].map(|text| Ok(ScoreRequest::new([PROMPT.to_vec()], [text])));
    let mut told = Vec::new();
    let scored = cancelling(&shared, |cancel| {
        let mut on_event = |event: Event<'_>| {
            if let Event::Scored(scored) = event {
                told.push(scored.request);
            }
            ControlFlow::Continue(())
        };
        decoder.score_observed(&mut requests.into_iter(), 1, cancel, &mut on_event)
    });
    assert_eq!(scored.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(told, [0]);
}

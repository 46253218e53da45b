//! Requests of different strategies, roles and processors in one batch; decoders that share a pool; failures that end one
//! sequence and no other.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, LogitSource, Result, RoleSpec, Rows,
    SequenceId, SessionInfo, SourceInfo, Step, StrategyInfo, TokenId,
};
use logitfuse_dynamic_kl::DynamicKl;
use logitfuse_engine::{
    BaseOnly, Cancel, Decoder, Draft, DraftLength, Event, Fusion, Request, Role, Sampling, ScoreRequest, SourcePool,
    Speculation,
};
use logitfuse_replay::SyntheticSource;
use logitfuse_static_proxy::{Params, StaticProxy};

const VOCAB: usize = 83;

fn source(seed: u64) -> Box<dyn LogitSource> {
    Box::new(SyntheticSource::new(&format!("model {seed}"), VOCAB, seed))
}

fn pool() -> SourcePool {
    SourcePool::builder().source(source(1)).source(source(2)).source(source(3)).source(source(4)).build().unwrap()
}

fn proxy(alpha: f64) -> Arc<dyn FusionStrategy> {
    Arc::new(StaticProxy::new(Params { alpha, ..Params::default() }).unwrap())
}

fn roles(expert: usize) -> [Role; 3] {
    [Role::new("base", 0), Role::new("expert", expert), Role::new("anti", 2)]
}

/// Four strategies over the same sources; one of them drafts.
fn fusions(pool: &SourcePool) -> Vec<Fusion> {
    let drafts = Speculation { draft: Draft::Binding(1), length: DraftLength::Fixed(3) };
    let dynamic = Arc::new(DynamicKl::new(logitfuse_dynamic_kl::Params::default()).unwrap());
    vec![
        Fusion::new(pool, Arc::new(BaseOnly::new()), [Role::new("base", 0)]).unwrap(),
        Fusion::new(pool, proxy(1.0), roles(1)).unwrap(),
        Fusion::new(pool, proxy(0.4), roles(3)).unwrap().with_speculation(Some(drafts)).unwrap(),
        Fusion::new(pool, dynamic, roles(1)).unwrap(),
    ]
}

fn prompt(n: usize, length: usize) -> Vec<TokenId> {
    (0..length).map(|i| TokenId::try_from((i * 7 + n * 13) % VOCAB).unwrap()).collect()
}

/// Three requests of each fusion, greedy and sampled.
fn requests(fusions: &[Fusion]) -> Vec<Request> {
    let request = |n: usize| {
        let fusion = &fusions[n % fusions.len()];
        let prompts = vec![prompt(n, 3 + n); fusion.session().bindings.len()];
        let temperature = if n < fusions.len() { 0.0 } else { 0.8 };
        let sampling = Sampling { temperature, seed: n as u64, ..Sampling::default() };
        Request::new(prompts).fusion(fusion).max_new_tokens(9 + n).sampling(sampling)
    };
    (0..3 * fusions.len()).map(request).collect()
}

type Told = Vec<Vec<(TokenId, u64)>>;

fn run(decoder: &mut Decoder, requests: &[Request], limit: usize) -> (Told, Vec<(usize, String)>) {
    let (mut told, mut failed) = (vec![Vec::new(); requests.len()], Vec::new());
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Token(t) => told[t.request].push((t.token, t.log_prob.to_bits())),
            Event::Failed { request, error } => failed.push((request, error.to_string())),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let _ = decoder.generate_stream(&mut requests.iter().cloned().map(Ok), limit, &Cancel::new(), &mut on_event);
    (told, failed)
}

/// Each request alone, in a pool of its own.
fn alone(count: usize) -> Told {
    (0..count)
        .map(|n| {
            let fusions = fusions(&pool());
            run(&mut Decoder::new(&fusions[0]), &requests(&fusions)[n..=n], 1).0.remove(0)
        })
        .collect()
}

#[test]
fn four_strategies_in_one_batch_say_what_each_says_alone() {
    let fusions = fusions(&pool());
    let requests = requests(&fusions);
    let expected = alone(requests.len());
    for limit in [1, 4, 12] {
        let (told, failed) = run(&mut Decoder::new(&fusions[0]), &requests, limit);
        assert_eq!((&told, failed.len()), (&expected, 0), "{limit} at a time");
    }
}

#[test]
fn two_decoders_over_one_pool_do_not_see_each_other() {
    let pool = pool();
    let expected = alone(12);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let fusions = fusions(&pool);
                run(&mut Decoder::new(&fusions[0]), &requests(&fusions), 3).0
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn texts_and_scores_share_a_batch() {
    let fusions = fusions(&pool());
    let mut decoder = Decoder::new(&fusions[1]);
    let generation = decoder.generate_one(&Request::new(vec![prompt(5, 6); 3]).max_new_tokens(20)).unwrap();
    let request = ScoreRequest::new(vec![prompt(5, 6); 3], [generation.tokens.clone()]);
    let score = decoder.score(&request, &Cancel::new()).unwrap().remove(0);
    let base =
        decoder.score(&ScoreRequest::new([prompt(5, 6)], [generation.tokens]).fusion(&fusions[0]), &Cancel::new());
    assert!(score.is_greedy && base.unwrap()[0].log_prob < score.log_prob);
}

#[test]
fn a_role_may_be_bound_by_its_alias() {
    let pool = pool();
    let roles = [Role::new("base", 0), Role::new("expert", 1), Role::new("anti_expert", 2)];
    let fusion = Fusion::new(&pool, proxy(1.0), roles).unwrap();
    assert_eq!(fusion.session().bindings[2].role, "anti");
}

#[test]
fn a_fusion_of_another_pool_is_refused() {
    let (one, other) = (fusions(&pool()), fusions(&pool()));
    let request = Request::new([vec![1, 2]]).fusion(&other[0]);
    let error = Decoder::new(&one[0]).generate_one(&request).unwrap_err();
    assert_eq!(error.to_string(), "the fusion of strategy `none` is over another pool of sources");
}

/// Fails at a position, in one of the calls that a strategy's state has.
#[derive(Clone, Copy, PartialEq)]
enum Breaks {
    Start,
    Begin,
    Fuse,
    Garbage,
    Commit,
}

struct Breaking(StrategyInfo, Breaks);

#[derive(Clone)]
struct BreakingState(Breaks, usize);

fn broken<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Backend, "this strategy breaks"))
}

impl FusionStrategy for Breaking {
    fn info(&self) -> &StrategyInfo {
        &self.0
    }
    fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
        if self.1 == Breaks::Start { broken() } else { Ok(Box::new(BreakingState(self.1, 0))) }
    }
}

impl FusionState for BreakingState {
    fn begin(&mut self, _: &FusionStep<'_>, _: &[logitfuse_core::PromptScore]) -> Result<()> {
        if self.0 == Breaks::Begin { broken() } else { Ok(()) }
    }
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        match self.0 {
            Breaks::Fuse if self.1 == 4 => broken(),
            Breaks::Garbage if self.1 == 4 => {
                out.logits.fill(f32::NEG_INFINITY);
                Ok(())
            }
            _ => Ok(()),
        }
    }
    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.1 += tokens.len();
        if self.0 == Breaks::Commit && self.1 == 4 { broken() } else { Ok(()) }
    }
    fn rollback(&mut self, n: usize) -> Result<()> {
        self.1 -= n;
        Ok(())
    }
    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.clone()))
    }
}

#[test]
fn a_strategy_that_breaks_ends_its_own_sequence_only() {
    let expected = alone(12);
    for breaks in [Breaks::Start, Breaks::Begin, Breaks::Fuse, Breaks::Garbage, Breaks::Commit] {
        let fusions = fusions(&pool());
        let strategy = Breaking(StrategyInfo::new("breaking", [RoleSpec::one("base")]), breaks);
        let breaking = Fusion::new(fusions[0].pool(), Arc::new(strategy), [Role::new("base", 0)]).unwrap();
        let mut all = requests(&fusions);
        all.insert(5, Request::new([prompt(1, 9)]).fusion(&breaking).max_new_tokens(20));
        let (mut told, failed) = run(&mut Decoder::new(&fusions[0]), &all, 13);
        let message = &failed[0].1;
        assert!(failed.len() == 1 && failed[0].0 == 5, "{failed:?}");
        assert!(message == "this strategy breaks" || message.contains("no distribution at token 4"), "{message}");
        told.remove(5);
        assert_eq!(told, expected);
    }
}

/// A source that fails, panics or yields no numbers after so many passes.
struct Failing {
    inner: SyntheticSource,
    passes: usize,
    panics: bool,
    no_numbers: bool,
}

impl LogitSource for Failing {
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
    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.inner.len(sequence)
    }
    fn close(&mut self, sequence: SequenceId) {
        self.inner.close(sequence);
    }
    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.passes = self.passes.saturating_sub(1);
        if self.passes == 0 && !self.no_numbers {
            assert!(!self.panics, "as the test wants");
            return Err(Error::new(ErrorKind::Backend, "this source breaks"));
        }
        self.inner.forward(batch, out)?;
        if self.passes == 0 && !out.is_empty() {
            // The last sequence's row alone.
            let last = out.len() - 1;
            out.row_mut(last)[7] = f32::INFINITY;
        }
        Ok(())
    }
}

#[test]
fn a_source_that_fails_ends_those_that_use_it() {
    let expected = alone(12);
    for panics in [false, true] {
        let inner = SyntheticSource::new("model 4", VOCAB, 4);
        let failing = Failing { inner, passes: 5, panics, no_numbers: false };
        let builder = SourcePool::builder().source(source(1)).source(source(2)).source(source(3));
        let fusions = fusions(&builder.source(Box::new(failing)).build().unwrap());
        let requests = requests(&fusions);
        let (told, failed) = run(&mut Decoder::new(&fusions[0]), &requests, 12);
        let message = if panics { "source `model 4` stopped: it panicked" } else { "this source breaks" };
        // The third fusion's expert is the source that breaks.
        assert_eq!(failed, [2, 6, 10].map(|request| (request, message.to_owned())));
        for n in (0..12).filter(|n| n % 4 != 2) {
            assert_eq!(told[n], expected[n]);
        }
        for n in [2, 6, 10] {
            assert!(told[n].len() < expected[n].len() && expected[n].starts_with(&told[n]));
        }
    }
}

#[test]
fn a_row_that_is_no_distribution_ends_the_sequence_that_asked_for_it() {
    let inner = SyntheticSource::new("model 1", VOCAB, 1);
    let failing = Failing { inner, passes: 5, panics: false, no_numbers: true };
    let pool = SourcePool::builder().source(Box::new(failing)).build().unwrap();
    let fusion = Fusion::new(&pool, Arc::new(BaseOnly::new()), [Role::new("base", 0)]).unwrap();
    let requests: Vec<_> = (0..3).map(|n| Request::new([prompt(n, 4)]).max_new_tokens(12)).collect();
    let (told, failed) = run(&mut Decoder::new(&fusion), &requests, 3);
    assert_eq!(failed.len(), 3, "each is the last in turn");
    assert!(failed[0].1.starts_with("source `model 1` yielded a row that is no distribution"), "{failed:?}");
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [6, 5, 4]);
}

#[test]
fn times_of_texts_add_up_to_those_of_the_call() {
    let fusions = fusions(&pool());
    let mut sum = logitfuse_engine::Timings::default();
    let mut on_event = |event: Event<'_>| {
        if let Event::Done { generation, .. } = event {
            assert!(generation.timings.tokens == generation.tokens.len() && !generation.timings.decode_wall.is_zero());
            sum.add(&generation.timings);
        }
        ControlFlow::Continue(())
    };
    let mut each = requests(&fusions).into_iter().map(Ok);
    let all = Decoder::new(&fusions[0]).generate_stream(&mut each, 5, &Cancel::new(), &mut on_event).unwrap();
    assert_eq!((sum.tokens, sum.drafted, sum.accepted), (all.tokens, all.drafted, all.accepted));
    assert_eq!((&sum.prefill_tokens, &sum.reused_tokens), (&all.prefill_tokens, &all.reused_tokens));
    let close = |a: std::time::Duration, b: std::time::Duration| a.abs_diff(b).as_secs_f64() < 1e-6;
    assert!(close(sum.decode_wall, all.decode_wall) && close(sum.prefill_wall, all.prefill_wall), "{sum:?} {all:?}");
    for (of_texts, of_call) in
        [(&sum.forward, &all.forward), (&sum.prefill, &all.prefill), (&sum.normalise, &all.normalise)]
    {
        assert!(of_texts.iter().zip(of_call).all(|(&a, &b)| close(a, b)), "{of_texts:?} {of_call:?}");
    }
}

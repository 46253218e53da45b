//! The decode loop: requests come in, every step advances all that are running, events go out.

mod builder;
mod context;
mod drafting;
mod emit;
mod fuse;
mod prefill;
mod score;
mod start;
mod step;

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result, SessionInfo, SourceInfo, TokenId};

pub use self::builder::DecoderBuilder;
pub(crate) use self::context::Context;
use self::fuse::FusionBuffers;
use crate::{
    Cancel, Event, FinishReason, Fusion, Generation, Request, Score, ScoreRequest, Scored, SourcePool, Timings,
    TokenReport,
    active::{ActiveSequence, End, Task},
    draft::scheduler::AcceptanceStats,
    pool::batch::BatchBuffers,
    prefix_cache::PrefixCache,
};

/// Fusions whose acceptance of drafts is remembered.
const REMEMBERED_FUSIONS: usize = 16;

/// What is asked of a decoder.
pub(crate) enum Job {
    Generate(Request),
    Score(ScoreRequest),
}

/// Where requests come from.
pub(crate) trait Intake {
    /// The next request, if there is one. `idle` says that nothing is running, so that it may wait.
    fn next(&mut self, idle: bool) -> Option<Result<Job>>;
}

/// Decodes requests over a pool of sources: generates texts, scores texts, both in one continuous batch.
///
/// Every step advances all running sequences: it gathers what each needs of each source, runs the sources, and then per
/// sequence masks, fuses the rows at temperature 1, applies the logits processors, samples and commits. A sequence that ends
/// makes room for the next request. A request may bring its own [`Fusion`], logits processors and limits; without, the
/// decoder's own fusion serves it. What comes out does not depend on what runs beside it, and a request that fails ends
/// alone.
///
/// See the [crate's page](crate) for an example.
pub struct Decoder {
    fusion: Fusion,
    pool: SourcePool,
    prefixes: PrefixCache,
    fuser: FusionBuffers,
    batches: BatchBuffers,
    /// A text and its draft, while sources are fed.
    text: Vec<TokenId>,
    /// What is told of a token.
    report: TokenReport,
    /// How often drafts were accepted, by fusion, where what is drafted changes no token.
    acceptance: Vec<(usize, AcceptanceStats)>,
}

impl Decoder {
    /// A decoder over a fusion's pool, with that fusion for requests that bring none.
    pub fn new(fusion: &Fusion) -> Self {
        Self::with_prefix_cache(fusion, builder::PREFIX_CACHE_BYTES)
    }

    /// As [`new`](Self::new), with so many bytes of key/value cache, over all sources, for beginnings that prompts share; 0
    /// keeps none.
    pub fn with_prefix_cache(fusion: &Fusion, bytes: u64) -> Self {
        let pool = fusion.pool().clone();
        Self {
            prefixes: PrefixCache::new(pool.len(), bytes),
            fuser: FusionBuffers::new(pool.vocabulary().width()),
            batches: BatchBuffers::default(),
            text: Vec::new(),
            report: TokenReport::default(),
            acceptance: Vec::new(),
            fusion: fusion.clone(),
            pool,
        }
    }

    /// Begins a pool, a fusion over it and a decoder in one.
    pub fn builder(strategy: Arc<dyn FusionStrategy>) -> DecoderBuilder {
        DecoderBuilder::new(strategy)
    }

    /// The fusion of requests that bring none.
    pub fn fusion(&self) -> &Fusion {
        &self.fusion
    }

    /// Sets the fusion of requests that bring none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if it is over another pool.
    pub fn set_fusion(&mut self, fusion: &Fusion) -> Result<()> {
        self.check_pool(fusion)?;
        self.fusion = fusion.clone();
        Ok(())
    }

    /// The sources.
    pub fn pool(&self) -> &SourcePool {
        &self.pool
    }

    /// What the strategy of the decoder's own fusion fuses: one binding per row, and the shared vocabulary.
    pub fn session(&self) -> &SessionInfo {
        self.fusion.session()
    }

    /// The strategy of the decoder's own fusion.
    pub fn strategy(&self) -> &dyn FusionStrategy {
        self.fusion.strategy().as_ref()
    }

    /// The sources, in the order in which they were added.
    pub fn sources(&self) -> impl Iterator<Item = &SourceInfo> {
        self.pool.sources()
    }

    /// The ids that end a text of the decoder's own fusion.
    pub fn end_of_sequence(&self) -> &[TokenId] {
        self.fusion.end_of_sequence()
    }

    /// Generates for one request, without events.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_one(&mut self, request: &Request) -> Result<Generation> {
        let mut done =
            self.generate(std::slice::from_ref(request), &Cancel::new(), &mut |_| ControlFlow::Continue(()))?;
        done.pop().ok_or_else(|| Error::new(ErrorKind::Internal, "one request gave no generation"))
    }

    /// Generates for several requests in step, reporting every token as it is chosen. The result does not depend on
    /// which requests run together. `on_event` may break off, which has the effect of `cancel`: what was generated is
    /// returned, marked [`FinishReason::Cancelled`].
    ///
    /// # Errors
    /// That of the first request that failed, after the others have ended.
    pub fn generate(
        &mut self,
        requests: &[Request],
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>> {
        let mut done: Vec<Option<Generation>> = vec![None; requests.len()];
        let mut collect = |event: Event<'_>| match event {
            Event::Done { request, generation } => {
                done[request] = Some(*generation);
                ControlFlow::Continue(())
            }
            event => on_event(event),
        };
        self.generate_stream(&mut requests.iter().cloned().map(Ok), requests.len(), cancel, &mut collect)?;
        let done: Option<Vec<Generation>> = done.into_iter().collect();
        done.ok_or_else(|| Error::new(ErrorKind::Internal, "a request gave no generation"))
    }

    /// Generates for requests as an iterator yields them, at most `limit` at a time: a sequence that ends makes room for
    /// the next, so that short texts do not wait for long ones. Each ends with an [`Event::Done`] or an [`Event::Failed`],
    /// in the order in which they end; requests are numbered as they come. What comes out does not depend on `limit`.
    ///
    /// Cancelling ends the running sequences, which are reported as they are, and asks for no more requests.
    ///
    /// # Errors
    /// After everything has ended: the error of the first request that failed, or that of the iterator, after which no more
    /// requests are asked for.
    ///
    /// ```
    /// use std::{ops::ControlFlow, sync::Arc};
    /// use logitfuse_engine::{BaseOnly, Cancel, Decoder, Event, Request, Role};
    /// use logitfuse_replay::SyntheticSource;
    ///
    /// let mut decoder = Decoder::builder(Arc::new(BaseOnly::new()))
    ///     .source(Box::new(SyntheticSource::new("toy", 32, 1)))
    ///     .roles([Role::new("base", 0)])
    ///     .build()?;
    /// let mut requests = (0..100).map(|n| Ok(Request::new([vec![n % 32]]).max_new_tokens(1 + n as usize % 7)));
    /// let mut tokens = 0;
    /// let mut on_event = |event: Event<'_>| {
    ///     if let Event::Done { generation, .. } = event {
    ///         tokens += generation.tokens.len();
    ///     }
    ///     ControlFlow::Continue(())
    /// };
    /// let timings = decoder.generate_stream(&mut requests, 8, &Cancel::new(), &mut on_event)?;
    /// assert_eq!(timings.tokens, tokens);
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn generate_stream(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<Request>>,
        limit: usize,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Timings> {
        self.run_iterator(&mut requests.map(|request| request.map(Job::Generate)), limit, cancel, on_event)
    }

    /// Scores the continuations of one context.
    ///
    /// # Errors
    /// As [`score_stream`](Self::score_stream).
    pub fn score(&mut self, request: &ScoreRequest, cancel: &Cancel) -> Result<Vec<Score>> {
        let mut scores = Vec::new();
        let mut keep = |scored: Scored| {
            scores = scored.scores;
            ControlFlow::Continue(())
        };
        self.score_stream(&mut std::iter::once(Ok(request.clone())), 1, cancel, &mut keep)?;
        Ok(scores)
    }

    /// Scores requests as an iterator yields them, at most `limit` contexts at a time, and hands each to `on_scored` as it
    /// is done: the counterpart of [`generate_stream`](Self::generate_stream) for texts that are given. Beginnings that
    /// contexts share are run once. A score has the same bits whatever is scored beside it, in the same request or another.
    ///
    /// # Errors
    /// As [`generate_stream`](Self::generate_stream); of kind `Cancelled` if `cancel` was set or `on_scored` broke off.
    pub fn score_stream(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<ScoreRequest>>,
        limit: usize,
        cancel: &Cancel,
        on_scored: &mut dyn FnMut(Scored) -> ControlFlow<()>,
    ) -> Result<Timings> {
        let mut on_event = |event: Event<'_>| match event {
            Event::Scored(scored) => on_scored(scored),
            _ => ControlFlow::Continue(()),
        };
        self.score_observed(requests, limit, cancel, &mut on_event)
    }

    /// As [`score_stream`](Self::score_stream), with all events: progress, and rows where a request asks for them.
    ///
    /// # Errors
    /// As [`score_stream`](Self::score_stream).
    pub fn score_observed(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<ScoreRequest>>,
        limit: usize,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Timings> {
        let timings =
            self.run_iterator(&mut requests.map(|request| request.map(Job::Score)), limit, cancel, on_event)?;
        if cancel.is_cancelled() { Err(score::cancelled()) } else { Ok(timings) }
    }

    fn run_iterator(
        &mut self,
        jobs: &mut dyn Iterator<Item = Result<Job>>,
        limit: usize,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Timings> {
        struct Listed<'a>(&'a mut dyn Iterator<Item = Result<Job>>);
        impl Intake for Listed<'_> {
            fn next(&mut self, _idle: bool) -> Option<Result<Job>> {
                self.0.next()
            }
        }
        let mut first = Ok(());
        let mut note = |event: Event<'_>| {
            if let Event::Failed { error, .. } = &event
                && first.is_ok()
            {
                first = Err(error.clone());
            }
            on_event(event)
        };
        let mut context = Context::new(cancel, &mut note, self.pool.len());
        let ended = self.run(&mut Listed(jobs), limit, &mut context);
        let timings = context.timings;
        first.and(ended).map(|()| timings)
    }

    /// Decodes until there is nothing left to do. The error is the intake's.
    pub(crate) fn run(&mut self, intake: &mut dyn Intake, limit: usize, context: &mut Context<'_>) -> Result<()> {
        let mut active: Vec<ActiveSequence> = Vec::new();
        let (mut count, mut refused) = (0, Ok(()));
        loop {
            let before = active.len();
            while active.len() < limit.max(1) && refused.is_ok() && !context.is_cancelled() {
                match intake.next(active.is_empty()) {
                    None => break,
                    Some(Err(error)) => refused = Err(error),
                    Some(Ok(job)) => match self.start(count, job) {
                        Ok(started) => {
                            active.push(started);
                            context.tell(Event::Started { request: count });
                        }
                        Err(error) => context.tell(Event::Failed { request: count, error }),
                    },
                }
                count += 1;
            }
            if active.is_empty() {
                return refused;
            }
            let start = Instant::now();
            if active.len() > before {
                let joining = &mut active[before..];
                self.prefill(joining, context);
                context.divide_prefill(joining, start.elapsed());
            } else {
                self.step(&mut active, context);
                context.divide_decode(&mut active, start.elapsed());
            }
            let cancelled = context.is_cancelled();
            for mut ended in active.extract_if(.., |a| cancelled || !a.is_running()) {
                ended.sequence.close(&self.pool);
                if ended.is_running() {
                    ended.cancelled();
                }
                context.tell_end(ended);
            }
        }
    }

    /// Statistics that a sequence of this fusion begins with.
    fn acceptance_of(&self, fusion: &Fusion) -> Option<AcceptanceStats> {
        self.acceptance.iter().find(|known| known.0 == fusion.address()).map(|known| known.1)
    }

    fn remember_acceptance(&mut self, fusion: usize, stats: AcceptanceStats) {
        if let Some(known) = self.acceptance.iter_mut().find(|known| known.0 == fusion) {
            known.1 = stats;
            return;
        }
        if self.acceptance.len() == REMEMBERED_FUSIONS {
            self.acceptance.remove(0);
        }
        self.acceptance.push((fusion, stats));
    }

    fn check_pool(&self, fusion: &Fusion) -> Result<()> {
        if fusion.pool().is_same(&self.pool) {
            return Ok(());
        }
        let what = format!("the fusion of strategy `{}` is over another pool of sources", fusion.strategy().info().id);
        Err(Error::new(ErrorKind::InvalidConfig, what).with_help("build it over the decoder's pool"))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.prefixes.clear(&self.pool);
    }
}

impl Context<'_> {
    /// Tells the last event of a request.
    fn tell_end(&mut self, ended: ActiveSequence) {
        let inexact_drafts = ended.fusion.has_inexact_drafts();
        let ActiveSequence { index: request, sequence, task, timings, end, .. } = ended;
        let event = match (end, task) {
            (Some(End::Failed(error)), _) => Event::Failed { request, error },
            (end, Task::Generate(generating)) => {
                let finish = match end {
                    Some(End::Generated(finish)) => finish,
                    _ => FinishReason::Cancelled,
                };
                let (tokens, text, log_prob) = (sequence.tokens, generating.text, generating.log_prob);
                let generation = Generation { tokens, text, finish, log_prob, inexact_drafts, timings };
                Event::Done { request, generation: Box::new(generation) }
            }
            (_, Task::Score(scoring)) => Event::Scored(Scored { request, scores: scoring.scores, timings }),
        };
        self.tell(event);
    }
}

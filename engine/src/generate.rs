use std::{ops::ControlFlow, time::Instant};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_text::OutputText;

use crate::{
    Cancel, Engine, Event, FinishReason, Generation, Request, Sampler, Timings,
    emit::Outlet,
    pace::{Habit, Pace},
    running::{Few, Running},
    sequence::{Sequence, Yielded},
    step::Purpose,
};

impl Engine {
    /// Generates for one request, without events.
    pub fn generate_one(&mut self, request: &Request) -> Result<Generation> {
        let mut done =
            self.generate(std::slice::from_ref(request), &Cancel::new(), &mut |_| ControlFlow::Continue(()))?;
        done.pop().ok_or_else(|| Error::new(ErrorKind::Internal, "one request gave no generation"))
    }

    /// Generates for several requests in step, reporting every token as it is chosen. The result does not depend on
    /// which requests run together. `on_event` may break off, which has the effect of `cancel`: what was generated is
    /// returned, marked [`FinishReason::Cancelled`].
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
        let mut each = requests.iter().cloned().map(Ok);
        let timings = self.serve(&mut each, requests.len(), cancel, &mut collect)?;
        let done: Option<Vec<Generation>> = done.into_iter().collect();
        let mut done = done.ok_or_else(|| Error::new(ErrorKind::Internal, "a request gave no generation"))?;
        for generation in &mut done {
            generation.timings = timings.clone();
        }
        Ok(done)
    }

    /// Generates for requests as an iterator yields them, at most `limit` at a time: a sequence that ends makes room for
    /// the next, so that short texts do not wait for long ones. Each ends with an [`Event::Done`], in the order in which
    /// they end; requests are numbered as they come. What comes out does not depend on `limit`.
    ///
    /// Cancelling ends the running sequences, which are reported as they are, and asks for no more requests.
    ///
    /// # Errors
    /// The first error of a source or the strategy, which ends everything; or that of the iterator or of a request that
    /// cannot be met, after which no more requests are asked for and the running sequences go on to their ends.
    ///
    /// ```
    /// use std::{ops::ControlFlow, sync::Arc};
    /// use logitfuse_engine::{BaseOnly, Cancel, Engine, Event, Request, Role};
    /// use logitfuse_replay::SyntheticSource;
    ///
    /// let mut engine = Engine::builder(Arc::new(BaseOnly::new()))
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
    /// let timings = engine.serve(&mut requests, 8, &Cancel::new(), &mut on_event)?;
    /// assert_eq!(timings.tokens, tokens);
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn serve(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<Request>>,
        limit: usize,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Timings> {
        let mut timings = Timings::new(self.workers.len());
        let mut running = Vec::new();
        let result = self.serve_all(requests, limit.max(1), &mut running, cancel, &mut timings, on_event);
        for r in &running {
            self.close(&r.sequence);
        }
        result.map(|()| timings)
    }

    fn serve_all(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<Request>>,
        limit: usize,
        running: &mut Vec<Running>,
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let speculation = self.speculation.clone();
        let mut count = 0;
        let mut refused = Ok(());
        loop {
            let before = running.len();
            while running.len() < limit && refused.is_ok() && !cancel.is_cancelled() {
                let Some(request) = requests.next() else { break };
                match request.and_then(|request| self.start(count, request)) {
                    Ok(started) => running.push(started),
                    Err(e) => refused = Err(e),
                }
                count += 1;
            }
            let start = Instant::now();
            if running.len() > before {
                self.join(&mut running[before..], cancel, timings, on_event)?;
                timings.prefill_wall += start.elapsed();
            } else if running.is_empty() {
                return refused;
            } else {
                match &speculation {
                    Some(speculation) => self.round(speculation, running, cancel, timings, on_event)?,
                    None => self.step(running, cancel, timings, on_event)?,
                }
                timings.decode_wall += start.elapsed();
            }
            let cancelled = cancel.is_cancelled();
            for r in running.extract_if(.., |r| cancelled || r.finish.is_some()) {
                self.close(&r.sequence);
                let generation = Generation {
                    tokens: r.sequence.tokens,
                    text: r.text,
                    finish: r.finish.unwrap_or(FinishReason::Cancelled),
                    log_prob: r.log_prob,
                    timings: timings.clone(),
                };
                if on_event(Event::Done { request: r.index, generation: Box::new(generation) }).is_break() {
                    cancel.cancel();
                }
            }
        }
    }

    fn start(&self, index: usize, request: Request) -> Result<Running> {
        let first = request.prompts.first().map_or(&[][..], Vec::as_slice);
        Ok(Running {
            index,
            sampler: Sampler::new(&request.sampling, first)?,
            output: request.text.as_ref().map(|t| OutputText::new(&t.tokenizer, &t.stop)),
            sequence: self.open(&request.prompts, request.max_new_tokens)?,
            text: String::new(),
            log_prob: 0.0,
            finish: (request.max_new_tokens == 0).then_some(FinishReason::Length),
            pace: self.speculation.as_ref().map_or_else(Pace::none, |speculation| {
                // Greedy, a draft changes no token; sampled, it would change what is drawn.
                let habit = self.habit.filter(|_| request.sampling.is_greedy());
                Pace::new(&speculation.length, habit.as_ref().map(Habit::legacy))
            }),
            draft: Vec::new(),
            draft_ends: false,
            request,
        })
    }

    /// Feeds the prompts of new sequences and emits the first token of each.
    fn join(
        &mut self,
        joining: &mut [Running],
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let Some(yielded) = self.prefill(joining, cancel, on_event, timings)? else { return Ok(()) };
        for r in joining.iter_mut().filter(|r| r.finish.is_none()) {
            let start = Instant::now();
            self.end_prompt(&mut r.sequence, &yielded)?;
            timings.fuse += start.elapsed();
        }
        let all: Few = (0..joining.len()).collect();
        self.choose_all(&all, joining, yielded, cancel, timings, on_event)
    }

    /// One more token for every sequence that goes on.
    fn step(
        &mut self,
        running: &mut [Running],
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut unsettled: Few = (0..running.len()).filter(|&i| running[i].finish.is_none()).collect();
        let mut yielded = Yielded::new();
        if let Some(lead) = self.lead {
            let mut call = self.call(Purpose::Step);
            for &i in &unsettled {
                let Sequence { slots, slot_of, tokens, .. } = &mut running[i].sequence;
                slots[slot_of[lead]].catch_up(0, tokens, &mut call);
            }
            yielded.push(self.forward(call, timings, false)?);
            let mut open = Few::new();
            for i in unsettled {
                let r = &mut running[i];
                let start = Instant::now();
                let rows = r.sequence.rows(&yielded, self.session.vocabulary.width())?;
                let row = rows[lead].ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "the leading source was asked and yielded no row")
                })?;
                let Sequence { state, tokens, .. } = &mut r.sequence;
                let settled = self.fuser.settle(state.as_mut(), &row, tokens, r.request.trace)?;
                timings.fuse += start.elapsed();
                match settled {
                    None => open.push(i),
                    Some(log_normaliser) => {
                        timings.early_exits += 1;
                        let mut outlet = Outlet { timings, on_event };
                        if self.emit(r, &rows, &yielded, log_normaliser, None, &mut outlet)?.flow.is_break() {
                            cancel.cancel();
                        }
                    }
                }
            }
            unsettled = open;
        }
        let mut call = self.call(Purpose::Step);
        for &i in &unsettled {
            let Sequence { slots, tokens, .. } = &mut running[i].sequence;
            for slot in slots.iter_mut() {
                slot.catch_up(yielded.len(), tokens, &mut call);
            }
        }
        yielded.push(self.forward(call, timings, false)?);
        self.choose_all(&unsettled, running, yielded, cancel, timings, on_event)
    }

    /// Fuses, samples and commits one token of each of these sequences, whose rows are all there.
    fn choose_all(
        &mut self,
        which: &[usize],
        running: &mut [Running],
        yielded: Yielded,
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        for &i in which {
            let r = &mut running[i];
            if r.finish.is_some() {
                continue;
            }
            let mut outlet = Outlet { timings, on_event };
            if self.fuse_and_emit(r, &yielded, None, &mut outlet)?.flow.is_break() {
                cancel.cancel();
            }
        }
        self.recycle(yielded);
        Ok(())
    }
}

use std::{ops::ControlFlow, time::Instant};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_text::OutputText;

use crate::{
    Cancel, Engine, Event, FinishReason, Generation, Request, Sampler, Speculation, Timings,
    emit::Outlet,
    pace::Pace,
    sequence::{Sequence, Slot, Yielded},
    step::PIECE,
};

/// A request on its way.
pub(crate) struct Running<'a> {
    pub(crate) request: &'a Request,
    pub(crate) sequence: Sequence,
    pub(crate) sampler: Sampler,
    pub(crate) output: Option<OutputText>,
    pub(crate) text: String,
    pub(crate) log_prob: f64,
    pub(crate) finish: Option<FinishReason>,
    /// How much is drafted.
    pub(crate) pace: Pace,
}

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
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>> {
        let mut running = Vec::with_capacity(requests.len());
        let result = self.start(requests, &mut running).and_then(|()| self.decode(&mut running, cancel, on_event));
        for r in &running {
            self.close(&r.sequence);
        }
        let timings = result?;
        Ok(running
            .into_iter()
            .map(|r| Generation {
                tokens: r.sequence.tokens,
                text: r.text,
                finish: r.finish.unwrap_or(FinishReason::Cancelled),
                log_prob: r.log_prob,
                timings: timings.clone(),
            })
            .collect())
    }

    fn start<'a>(&self, requests: &'a [Request], running: &mut Vec<Running<'a>>) -> Result<()> {
        for request in requests {
            let first = request.prompts.first().map_or(&[][..], Vec::as_slice);
            running.push(Running {
                sampler: Sampler::new(&request.sampling, first)?,
                output: request.text.as_ref().map(|t| OutputText::new(&t.tokenizer, &t.stop)),
                sequence: self.open(&request.prompts, request.max_new_tokens)?,
                request,
                text: String::new(),
                log_prob: 0.0,
                finish: (request.max_new_tokens == 0).then_some(FinishReason::Length),
                pace: self.speculation.as_ref().map_or_else(Pace::none, Speculation::pace),
            });
        }
        Ok(())
    }

    fn decode(
        &mut self,
        running: &mut [Running<'_>],
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Timings> {
        let mut timings = Timings::new(self.workers.len());
        let start = Instant::now();
        let Some(yielded) = self.prefill(running, cancel, on_event, &mut timings)? else {
            return Ok(timings);
        };
        timings.prefill_wall = start.elapsed();
        let start = Instant::now();
        let all: Vec<usize> = (0..running.len()).collect();
        self.choose_all(&all, running, yielded, cancel, &mut timings, on_event)?;
        let speculation = self.speculation.clone();
        while !cancel.is_cancelled() && running.iter().any(|r| r.finish.is_none()) {
            match &speculation {
                Some(speculation) => self.round(speculation, running, cancel, &mut timings, on_event)?,
                None => self.step(running, cancel, &mut timings, on_event)?,
            }
        }
        timings.decode_wall = start.elapsed();
        Ok(timings)
    }

    /// One more token for every sequence that goes on.
    fn step(
        &mut self,
        running: &mut [Running<'_>],
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut unsettled: Vec<usize> = (0..running.len()).filter(|&i| running[i].finish.is_none()).collect();
        let mut yielded = Yielded::new();
        if let Some(lead) = self.lead {
            let mut feeds = self.no_feeds();
            for &i in &unsettled {
                let Sequence { slots, slot_of, tokens, .. } = &mut running[i].sequence;
                slots[slot_of[lead]].catch_up(0, tokens, &mut feeds);
            }
            yielded.push(self.forward(feeds, timings, false)?);
            let mut open = Vec::new();
            for i in unsettled {
                let r = &mut running[i];
                let start = Instant::now();
                let row = r.sequence.rows(&yielded, self.session.vocabulary.width())?[lead];
                let Some(row) = row else { continue };
                let Sequence { state, tokens, .. } = &mut r.sequence;
                let settled = self.fuser.settle(state.as_mut(), &row, tokens, r.request.trace)?;
                timings.fuse += start.elapsed();
                match settled {
                    None => open.push(i),
                    Some(log_normaliser) => {
                        timings.settled += 1;
                        let mut outlet = Outlet { timings, on_event };
                        if self.emit(i, r, &yielded, log_normaliser, None, &mut outlet)?.flow.is_break() {
                            cancel.cancel();
                        }
                    }
                }
            }
            unsettled = open;
        }
        let mut feeds = self.no_feeds();
        for &i in &unsettled {
            let Sequence { slots, tokens, .. } = &mut running[i].sequence;
            for slot in slots.iter_mut() {
                slot.catch_up(yielded.len(), tokens, &mut feeds);
            }
        }
        yielded.push(self.forward(feeds, timings, false)?);
        self.choose_all(&unsettled, running, yielded, cancel, timings, on_event)
    }

    /// Fuses, samples and commits one token of each of these sequences, whose rows are all there.
    fn choose_all(
        &mut self,
        which: &[usize],
        running: &mut [Running<'_>],
        yielded: Yielded,
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<()> {
        for &i in which.iter().filter(|&&i| running[i].finish.is_none()).collect::<Vec<_>>() {
            let mut outlet = Outlet { timings, on_event };
            if self.fuse_and_emit(i, &mut running[i], &yielded, None, &mut outlet)?.flow.is_break() {
                cancel.cancel();
            }
        }
        self.recycle(yielded);
        Ok(())
    }

    /// Feeds all prompts; the last piece of each yields its first row. `None` if cancelled before that.
    fn prefill(
        &mut self,
        running: &mut [Running<'_>],
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
        timings: &mut Timings,
    ) -> Result<Option<Yielded>> {
        let piece = |slot: &Slot| (slot.prompt.len() - 1) / PIECE * PIECE;
        let slots = || running.iter().filter(|r| r.finish.is_none()).flat_map(|r| &r.sequence.slots);
        let total = slots().map(|slot| slot.prompt.len()).sum();
        let prefixes: Vec<_> = slots().map(|s| (s.source, s.sequence, &s.prompt[..piece(s)])).collect();
        let mut proceed = |done| !cancel.is_cancelled() && on_event(Event::Prefill { done, total }).is_continue();
        if !self.fill(&prefixes, timings, &mut proceed)? {
            return Ok(None);
        }
        let mut feeds = self.no_feeds();
        for r in running.iter_mut().filter(|r| r.finish.is_none()) {
            for slot in &mut r.sequence.slots {
                let last = slot.prompt[piece(slot)..].to_vec();
                slot.feed(0, last, 1, &mut feeds);
            }
        }
        let forwarded = self.forward(feeds, timings, true)?;
        let _ = on_event(Event::Prefill { done: total, total });
        Ok(Some(vec![forwarded]))
    }
}

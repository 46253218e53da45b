use std::{ops::ControlFlow, time::Instant};

use logitfuse_core::{Error, ErrorKind, Result, RoleRow, TokenId, numerics};
use logitfuse_text::OutputText;

use crate::{
    Cancel, Engine, Event, FinishReason, Generation, Request, RoleReport, Sampler, Timings, TokenReport,
    sequence::{Sequence, Slot, Yielded},
    step::PIECE,
};

/// A request on its way.
struct Running<'a> {
    request: &'a Request,
    sequence: Sequence,
    sampler: Sampler,
    output: Option<OutputText>,
    text: String,
    log_prob: f64,
    finish: Option<FinishReason>,
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
        while !cancel.is_cancelled() && running.iter().any(|r| r.finish.is_none()) {
            self.step(running, cancel, &mut timings, on_event)?;
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
                running[i].sequence.slot(lead).catch_up(0, &mut feeds);
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
                        if self.emit(i, r, &yielded, log_normaliser, timings, on_event)?.is_break() {
                            cancel.cancel();
                        }
                    }
                }
            }
            unsettled = open;
        }
        let mut feeds = self.no_feeds();
        for &i in &unsettled {
            for slot in running[i].sequence.slots.iter_mut().filter(|slot| slot.row.is_none()) {
                slot.catch_up(yielded.len(), &mut feeds);
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
            let r = &mut running[i];
            let start = Instant::now();
            let rows = r.sequence.rows(&yielded, self.session.vocabulary.width())?;
            let rows: Vec<_> = rows.into_iter().flatten().collect();
            let Sequence { state, tokens, .. } = &mut r.sequence;
            let log_normaliser = self.fuser.fuse(state.as_mut(), &rows, tokens, r.request.trace)?;
            timings.fuse += start.elapsed();
            if self.emit(i, r, &yielded, log_normaliser, timings, on_event)?.is_break() {
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

    /// Samples from the fused row and commits one token of one sequence, and decides whether it ends there.
    fn emit(
        &mut self,
        index: usize,
        r: &mut Running<'_>,
        yielded: &Yielded,
        log_normaliser: f64,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let start = Instant::now();
        let favourites = favourites(&self.fuser.row, log_normaliser, r.request.favourites);
        let candidates = r.sampler.candidates(&self.fuser.row);
        if candidates.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfig, "logit_bias bans every token that the models allow"));
        }
        let token = r.sampler.draw(&candidates);
        let log_prob = f64::from(self.fuser.row[token as usize]) - log_normaliser;
        timings.sample += start.elapsed();
        timings.tokens += 1;
        timings.steps = timings.steps.max(r.sequence.tokens.len() + 1);

        let report = |row: Option<RoleRow<'_>>| match row {
            None => RoleReport { log_prob: f64::NAN, favourites: Vec::new() },
            Some(row) => RoleReport {
                log_prob: f64::from(row.logits()[token as usize]) - row.log_normaliser,
                favourites: self::favourites(row.logits(), row.log_normaliser, r.request.favourites),
            },
        };
        let rows = r.sequence.rows(yielded, self.session.vocabulary.width())?;
        let roles = rows.into_iter().map(report).collect();
        r.sampler.commit(token);
        r.sequence.commit(token, yielded)?;
        r.log_prob += log_prob;

        let ends = !r.request.ignore_end_of_sequence && self.end_of_sequence.binary_search(&token).is_ok();
        let mut text = String::new();
        if ends {
            r.finish = Some(FinishReason::EndOfSequence(token));
        } else if let Some(output) = &mut r.output {
            let delta = output.push(token)?;
            text = delta.text;
            r.finish = delta.stopped.map(FinishReason::Stop);
        }
        if r.finish.is_none() {
            r.finish = self.exhausted(r);
        }
        r.text.push_str(&text);
        let flow = on_event(Event::Token(TokenReport {
            request: index,
            position: r.sequence.tokens.len() - 1,
            token,
            text,
            log_prob,
            favourites,
            roles,
            trace: self.fuser.trace.clone(),
        }));
        if let Some(reason) = &r.finish {
            let text = r.output.take().map_or_else(|| Ok(String::new()), OutputText::finish)?;
            r.text.push_str(&text);
            let finished = on_event(Event::Finished { request: index, text, reason: reason.clone() });
            return Ok(if flow.is_break() { flow } else { finished });
        }
        Ok(flow)
    }

    /// Whether the request's limit or a source's context leaves no room for another token.
    fn exhausted(&self, r: &Running<'_>) -> Option<FinishReason> {
        let generated = r.sequence.tokens.len();
        if generated >= r.request.max_new_tokens {
            return Some(FinishReason::Length);
        }
        r.sequence.slots.iter().find_map(|slot| {
            let info = self.workers[slot.source].info();
            let full = info.context_length.is_some_and(|limit| slot.prompt.len() + generated > limit);
            full.then(|| FinishReason::Context(info.name.clone()))
        })
    }
}

fn favourites(row: &[f32], log_normaliser: f64, count: usize) -> Vec<(TokenId, f64)> {
    if count == 0 {
        return Vec::new();
    }
    numerics::top_k(row, count).into_iter().map(|(id, x)| (id, f64::from(x) - log_normaliser)).collect()
}

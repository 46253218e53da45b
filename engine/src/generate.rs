use std::{ops::ControlFlow, time::Instant};

use logitfuse_core::{Error, ErrorKind, Result, TokenId, numerics};
use logitfuse_text::OutputText;

use crate::{
    Cancel, Engine, Event, FinishReason, Generation, Request, RoleReport, Sampler, Timings, TokenReport,
    sequence::Sequence,
    step::{Feed, Forwarded, PIECE},
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
        let Some(mut forwarded) = self.prefill(running, cancel, on_event, &mut timings)? else {
            return Ok(timings);
        };
        timings.prefill_wall = start.elapsed();
        let start = Instant::now();
        loop {
            for (i, r) in running.iter_mut().enumerate() {
                if r.finish.is_none() && self.choose(i, r, &forwarded, &mut timings, on_event)?.is_break() {
                    cancel.cancel();
                }
            }
            self.recycle(forwarded);
            if cancel.is_cancelled() || running.iter().all(|r| r.finish.is_some()) {
                break;
            }
            let mut feeds = self.no_feeds();
            for r in running.iter_mut().filter(|r| r.finish.is_none()) {
                for slot in &mut r.sequence.slots {
                    slot.row = feeds[slot.source].len();
                    let last = r.sequence.tokens.last().copied().into_iter().collect();
                    feeds[slot.source].push(Feed { sequence: slot.sequence, tokens: last, rows: 1 });
                }
            }
            forwarded = self.forward(feeds, &mut timings, false)?;
        }
        timings.decode_wall = start.elapsed();
        Ok(timings)
    }

    /// Feeds all prompts; the last piece of each yields its first row. `None` if cancelled before that.
    fn prefill(
        &mut self,
        running: &mut [Running<'_>],
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
        timings: &mut Timings,
    ) -> Result<Option<Vec<Option<Forwarded>>>> {
        let mut total = 0;
        let mut prefixes = Vec::new();
        let mut feeds = self.no_feeds();
        for r in running.iter_mut().filter(|r| r.finish.is_none()) {
            for slot in &mut r.sequence.slots {
                total += slot.prompt.len();
                let (prefix, last) = slot.prompt.split_at((slot.prompt.len() - 1) / PIECE * PIECE);
                prefixes.push((slot.source, slot.sequence, prefix));
                slot.row = feeds[slot.source].len();
                feeds[slot.source].push(Feed { sequence: slot.sequence, tokens: last.to_vec(), rows: 1 });
            }
        }
        let mut proceed = |done| !cancel.is_cancelled() && on_event(Event::Prefill { done, total }).is_continue();
        let fed = self.fill(&prefixes, timings, &mut proceed)?;
        if !fed {
            return Ok(None);
        }
        let forwarded = self.forward(feeds, timings, true)?;
        let _ = on_event(Event::Prefill { done: total, total });
        Ok(Some(forwarded))
    }

    /// Fuses, samples and commits one token of one sequence, and decides whether it ends there.
    fn choose(
        &mut self,
        index: usize,
        r: &mut Running<'_>,
        forwarded: &[Option<Forwarded>],
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let width = self.session.vocabulary.width();
        let start = Instant::now();
        let rows = r.sequence.rows(forwarded, width)?;
        let log_normaliser = self.fuser.fuse(r.sequence.state.as_mut(), &rows, &r.sequence.tokens, r.request.trace)?;
        timings.fuse += start.elapsed();

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

        let roles = rows
            .iter()
            .map(|row| RoleReport {
                log_prob: f64::from(row.logits()[token as usize]) - row.log_normaliser,
                favourites: self::favourites(row.logits(), row.log_normaliser, r.request.favourites),
            })
            .collect();
        drop(rows);
        r.sampler.commit(token);
        r.sequence.commit(token, forwarded)?;
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

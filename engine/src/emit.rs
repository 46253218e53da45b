//! From a fused row to a token that is final.

use std::{ops::ControlFlow, time::Instant};

use logitfuse_core::{Detokenizer as _, Error, ErrorKind, Result, RoleRow, TokenId, numerics};

use crate::{
    Drafted, Engine, Event, FinishReason, RoleReport, Timings,
    running::Running,
    sequence::{ByBinding, Sequence, Yielded},
};

/// Where tokens and times are reported.
pub(crate) struct Outlet<'a> {
    pub(crate) timings: &'a mut Timings,
    pub(crate) on_event: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
}

/// What came of one position.
pub(crate) struct Emitted {
    /// Whether whoever listens wants to go on.
    pub(crate) flow: ControlFlow<()>,
    /// Whether the token is the drafted one.
    pub(crate) drafted: bool,
}

impl Engine {
    /// Fuses the rows of a position, which are all there, and emits its token.
    pub(crate) fn fuse_and_emit(
        &mut self,
        r: &mut Running,
        yielded: &Yielded,
        draft: Option<&Drafted>,
        outlet: &mut Outlet<'_>,
    ) -> Result<Emitted> {
        let start = Instant::now();
        let rows = r.sequence.rows(yielded, self.session.vocabulary.width())?;
        let present: ByBinding<_> = rows.iter().copied().flatten().collect();
        let Sequence { state, tokens, .. } = &mut r.sequence;
        let log_normaliser = self.fuser.fuse(state.as_mut(), &present, tokens, r.request.trace)?;
        outlet.timings.fuse += start.elapsed();
        self.emit(r, &rows, yielded, log_normaliser, draft, outlet)
    }

    /// Chooses from the fused row, commits the token, reports it, and decides whether the sequence ends with it. `rows` are
    /// those of the position by binding.
    pub(crate) fn emit(
        &mut self,
        r: &mut Running,
        rows: &[Option<RoleRow<'_>>],
        yielded: &Yielded,
        log_normaliser: f64,
        draft: Option<&Drafted>,
        outlet: &mut Outlet<'_>,
    ) -> Result<Emitted> {
        let start = Instant::now();
        let candidates = r.sampler.candidates(&self.fuser.row);
        if candidates.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfig, "logit_bias bans every token that the models allow"));
        }
        let (token, drafted) = match draft {
            Some(draft) => r.sampler.verify(draft, &candidates),
            None => (r.sampler.draw(&candidates), false),
        };
        r.sampler.reuse(candidates);
        let log_prob = f64::from(self.fuser.row[token as usize]) - log_normaliser;
        let timings = &mut *outlet.timings;
        timings.sample += start.elapsed();
        timings.tokens += 1;
        timings.steps = timings.steps.max(r.sequence.tokens.len() + 1);

        // Written over the last one, so that reporting allocates nothing but what was asked for.
        let report = &mut self.report;
        report.roles.resize_with(rows.len(), RoleReport::default);
        for (role, row) in report.roles.iter_mut().zip(rows) {
            match row {
                None => *role = RoleReport { log_prob: f64::NAN, top_logprobs: Vec::new() },
                Some(row) => {
                    role.log_prob = f64::from(row.logits()[token as usize]) - row.log_normaliser;
                    role.top_logprobs = top_logprobs(row.logits(), row.log_normaliser, r.request.top_logprobs);
                }
            }
        }
        report.top_logprobs = top_logprobs(&self.fuser.row, log_normaliser, r.request.top_logprobs);
        (report.request, report.token, report.log_prob, report.drafted) = (r.index, token, log_prob, drafted);
        report.trace.clone_from(&self.fuser.trace);
        report.text.clear();
        r.sampler.commit(token);
        r.sequence.commit(token, yielded)?;
        r.log_prob += log_prob;

        let ends = !r.request.ignore_end_of_sequence && self.end_of_sequence.binary_search(&token).is_ok();
        if ends {
            r.finish = Some(FinishReason::EndOfSequence(token));
        } else if let Some(output) = &mut r.output {
            let delta = output.push(token)?;
            self.report.text = delta.text;
            r.finish = delta.stopped.map(FinishReason::Stop);
        }
        if r.finish.is_none() {
            r.finish = self.exhausted(r);
        }
        r.text.push_str(&self.report.text);
        self.report.position = r.sequence.tokens.len() - 1;
        let flow = (outlet.on_event)(Event::Token(&self.report));
        if let Some(reason) = &r.finish {
            let text = r.output.take().map_or_else(|| Ok(String::new()), |mut output| output.finish())?;
            r.text.push_str(&text);
            let finished = (outlet.on_event)(Event::Finished { request: r.index, text, reason: reason.clone() });
            let flow = if flow.is_break() { flow } else { finished };
            return Ok(Emitted { flow, drafted });
        }
        Ok(Emitted { flow, drafted })
    }

    /// Whether the request's limit or a source's context leaves no room for another token.
    fn exhausted(&self, r: &Running) -> Option<FinishReason> {
        let generated = r.sequence.tokens.len();
        if generated >= r.request.max_new_tokens {
            return Some(FinishReason::Length);
        }
        r.sequence.slot_of.iter().map(|&slot| &r.sequence.slots[slot]).find_map(|slot| {
            let info = self.workers[slot.source].info();
            let full = info.context_length.is_some_and(|limit| slot.prompt.len() + generated > limit);
            full.then(|| FinishReason::Context(info.name.clone()))
        })
    }
}

/// The most probable tokens of a row with their log-probabilities, the best first.
pub(crate) fn top_logprobs(row: &[f32], log_normaliser: f64, count: usize) -> Vec<(TokenId, f64)> {
    if count == 0 {
        return Vec::new();
    }
    numerics::top_k(row, count).into_iter().map(|(id, x)| (id, f64::from(x) - log_normaliser)).collect()
}

//! From a fused row to a token that is final.

use std::time::Instant;

use logitfuse_core::{Detokenizer, Error, ErrorKind, Result, RoleRow, TokenId, numerics};

use super::{Context, Decoder};
use crate::{
    Drafted, Event, FinishReason, ObservedRows, RoleReport, SourcePool,
    active::{ActiveSequence, End, Generating, Task},
    pool::batch::StepOutputs,
    sequence::{ByBinding, Sequence},
};

impl Decoder {
    /// Fuses the rows of a position, which are all there, and emits its token. Returns whether it is the drafted one.
    pub(super) fn fuse_and_emit(
        &mut self,
        a: &mut ActiveSequence,
        outputs: &StepOutputs,
        draft: Option<&Drafted>,
        context: &mut Context<'_>,
    ) -> Result<bool> {
        let start = Instant::now();
        let rows = a.sequence.rows(outputs, &self.pool)?;
        let present: ByBinding<_> = rows.iter().copied().flatten().collect();
        let Sequence { state, tokens, .. } = &mut a.sequence;
        let strategy = a.fusion.strategy().as_ref();
        let log_normaliser = self.fuser.fuse(strategy, state.as_mut(), &present, tokens, a.trace)?;
        let took = start.elapsed();
        a.timings.fuse += took;
        context.timings.fuse += took;
        self.emit(a, &rows, outputs, log_normaliser, draft, context)
    }

    /// Chooses from the fused row, commits the token, reports it, and decides whether the sequence ends with it. `rows` are
    /// those of the position by binding. Returns whether the token is the drafted one.
    pub(super) fn emit(
        &mut self,
        a: &mut ActiveSequence,
        rows: &[Option<RoleRow<'_>>],
        outputs: &StepOutputs,
        log_normaliser: f64,
        draft: Option<&Drafted>,
        context: &mut Context<'_>,
    ) -> Result<bool> {
        let Task::Generate(generating) = &mut a.task else { return Ok(false) };
        let start = Instant::now();
        let candidates = generating.sampler.candidates(&self.fuser.row)?;
        if candidates.is_empty() {
            let what = "logit_bias or a logits processor bans every token that the models allow";
            return Err(Error::new(ErrorKind::InvalidConfig, what));
        }
        let (token, is_draft) = match draft {
            Some(draft) => generating.sampler.verify(draft, &candidates),
            None => (generating.sampler.draw(&candidates), false),
        };
        generating.sampler.reuse(candidates);
        let log_prob = f64::from(self.fuser.row[token as usize]) - log_normaliser;
        let took = start.elapsed();
        for timings in [&mut a.timings, &mut context.timings] {
            timings.sample += took;
            timings.tokens += 1;
            timings.fallbacks += usize::from(self.fuser.fell_back);
        }
        a.advanced += 1;
        let (position, request) = (a.sequence.tokens.len(), a.index);
        if a.observe_rows {
            context.tell(Event::Rows(&ObservedRows {
                request,
                continuation: 0,
                position,
                token,
                roles: rows,
                fused: RoleRow::new(&self.fuser.row, log_normaliser, generating.log_prob),
                prompt: &a.sequence.prompt_scores,
            }));
        }

        // Written over the last one, so that reporting allocates nothing but what was asked for.
        let report = &mut self.report;
        report.roles.resize_with(rows.len(), RoleReport::default);
        for (role, row) in report.roles.iter_mut().zip(rows) {
            match row {
                None => *role = RoleReport { log_prob: f64::NAN, top_logprobs: Vec::new() },
                Some(row) => {
                    role.log_prob = f64::from(row.logits()[token as usize]) - row.log_normaliser;
                    role.top_logprobs = top_logprobs(row.logits(), row.log_normaliser, a.top_logprobs);
                }
            }
        }
        report.top_logprobs = top_logprobs(&self.fuser.row, log_normaliser, a.top_logprobs);
        (report.request, report.token, report.log_prob, report.drafted) = (request, token, log_prob, is_draft);
        report.position = position;
        report.trace.clone_from(&self.fuser.trace);
        report.text.clear();
        generating.sampler.commit(token)?;
        a.sequence.commit(token, outputs, &self.pool)?;
        generating.log_prob += log_prob;

        let ends = !generating.ignore_end_of_sequence && a.fusion.end_of_sequence().binary_search(&token).is_ok();
        let mut finish = None;
        if ends {
            finish = Some(FinishReason::EndOfSequence(token));
        } else if let Some(detokenizer) = &mut generating.detokenizer {
            let delta = detokenizer.push(token)?;
            self.report.text = delta.text;
            finish = delta.stopped.map(FinishReason::Stop);
        }
        finish = finish.or_else(|| exhausted(&self.pool, &a.sequence, generating));
        generating.text.push_str(&self.report.text);
        context.tell(Event::Token(&self.report));
        if let Some(reason) = finish {
            let text = generating.detokenizer.take().map_or_else(|| Ok(String::new()), Detokenizer::finish)?;
            generating.text.push_str(&text);
            context.tell(Event::Finished { request, text, reason: reason.clone() });
            a.end = Some(End::Generated(reason));
        }
        Ok(is_draft)
    }
}

/// Whether the request's limit or a source's context leaves no room for another token.
fn exhausted(pool: &SourcePool, sequence: &Sequence, generating: &Generating) -> Option<FinishReason> {
    let generated = sequence.tokens.len();
    if generated >= generating.max_new_tokens {
        return Some(FinishReason::Length);
    }
    sequence.source_of.iter().map(|&at| &sequence.sources[at]).find_map(|source| {
        let info = pool.info(source.source);
        let full = info.context_length.is_some_and(|limit| source.prompt.len() + generated > limit);
        full.then(|| FinishReason::Context(info.name.clone()))
    })
}

/// The most probable tokens of a row with their log-probabilities, the best first.
pub(super) fn top_logprobs(row: &[f32], log_normaliser: f64, count: usize) -> Vec<(TokenId, f64)> {
    if count == 0 {
        return Vec::new();
    }
    numerics::top_k(row, count).into_iter().map(|(id, x)| (id, f64::from(x) - log_normaliser)).collect()
}

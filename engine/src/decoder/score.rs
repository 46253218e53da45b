//! How continuations are scored: a context is run once, then each continuation in turn behind it.
//!
//! The context's sequence is cut back after a continuation rather than forked before it. Where past and present are one
//! buffer, cutting back changes a number and forking copies the whole context, which for few-shot prompts costs more than
//! the few tokens of a choice.

use std::time::Instant;

use logitfuse_core::{Error, ErrorKind, Result, RoleRow, TokenId, numerics};

use super::{Context, Decoder, emit::top_logprobs};
use crate::{
    Event, Fusion, ObservedRows, RoleReport, Score, ScoreRequest, TokenScore,
    active::{ActiveSequence, End, Scoring, Task},
    pool::batch::{ForwardBatch, StepOutputs},
    sequence::{ByBinding, Sequence},
};

/// Rows are asked for by this many at a time: 64 rows of a vocabulary of 128 k are 32 MB a source. Pieces of a continuation
/// end at multiples of it whatever else is scored, so that its bits do not depend on company.
pub(super) const ROWS: usize = 64;

impl Scoring {
    /// The tokens of the group, its first continuation standing for all.
    fn tokens(&self) -> &[TokenId] {
        &self.request.continuations[self.groups[self.group][0]]
    }

    /// How many rows are asked for next.
    pub(super) fn piece(&self) -> usize {
        (self.tokens().len() - self.done).min(ROWS)
    }

    /// Feeds the next piece: the token before it, and its tokens but for the last.
    pub(super) fn feed(&self, sequence: &mut Sequence, pass: usize, batch: &mut ForwardBatch) {
        let (done, piece) = (self.done, self.piece());
        let given = &self.tokens()[..done + piece - 1];
        for source in &mut sequence.sources {
            let before = done.checked_sub(1).map_or_else(|| source.prompt.last().copied(), |at| given.get(at).copied());
            let tokens: Vec<TokenId> = before.into_iter().chain(given[done..].iter().copied()).collect();
            source.feed(pass, &tokens, piece, batch);
        }
    }
}

impl Decoder {
    /// Scores the positions of a piece, whose rows are all there, and begins the next continuation behind the last one.
    pub(super) fn score_piece(
        &mut self,
        a: &mut ActiveSequence,
        outputs: &StepOutputs,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Task::Score(scoring) = &a.task else { return Ok(()) };
        if scoring.begun.is_none() {
            self.end_prompt(a, outputs, context)?;
            let begun = a.sequence.state.fork()?;
            if let Task::Score(scoring) = &mut a.task {
                scoring.begun = Some(begun);
            }
        }
        let Task::Score(scoring) = &a.task else { return Ok(()) };
        for _ in 0..scoring.piece() {
            if let Err(error) = self.score_position(a, outputs, context) {
                return Err(of_continuation(error, a));
            }
        }
        let Task::Score(scoring) = &mut a.task else { return Ok(()) };
        if scoring.done == scoring.tokens().len() {
            (scoring.group, scoring.done) = (scoring.group + 1, 0);
            if scoring.group == scoring.groups.len() {
                a.end = Some(End::Scored);
                return Ok(());
            }
            // Cuts the sequences back to the context, for the next continuation to follow it.
            for source in &mut a.sequence.sources {
                let len = source.restart();
                self.pool.truncate(source.source, source.id, len)?;
            }
            a.sequence.tokens.clear();
            if let Some(begun) = &scoring.begun {
                a.sequence.state = begun.fork()?;
            }
        }
        Ok(())
    }

    /// Fuses the rows of one position and asks for the tokens that the group has there.
    fn score_position(
        &mut self,
        a: &mut ActiveSequence,
        outputs: &StepOutputs,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Task::Score(scoring) = &mut a.task else { return Ok(()) };
        let Scoring { request, groups, group, done, scores, .. } = scoring.as_mut();
        let start = Instant::now();
        let roles = a.sequence.rows(outputs, &self.pool)?;
        let rows: ByBinding<_> = roles.iter().copied().flatten().collect();
        let Sequence { state, tokens, .. } = &mut a.sequence;
        let strategy = a.fusion.strategy().as_ref();
        let log_normaliser = self.fuser.fuse(strategy, state.as_mut(), &rows, tokens, a.trace)?;
        let fused = start.elapsed();
        let start = Instant::now();
        let members = &groups[*group];
        for &member in members {
            let token = request.continuations[member][*done];
            if a.observe_rows {
                context.tell(Event::Rows(&ObservedRows {
                    request: a.index,
                    continuation: member,
                    position: *done,
                    token,
                    roles: &roles,
                    fused: RoleRow::new(&self.fuser.row, log_normaliser, scores[member].log_prob),
                    prompt: &a.sequence.prompt_scores,
                }));
            }
            let entry = self.entry(token, &rows, log_normaliser, a.top_logprobs);
            let score = &mut scores[member];
            score.log_prob += entry.log_prob;
            score.is_greedy &= entry.greedy == token;
            score.tokens.push(entry);
        }
        let scored = start.elapsed();
        for timings in [&mut a.timings, &mut context.timings] {
            timings.fuse += fused;
            timings.sample += scored;
            timings.tokens += members.len();
            timings.fallbacks += if self.fuser.fell_back { members.len() } else { 0 };
        }
        a.advanced += members.len();
        let tokens = &request.continuations[members[0]];
        let token = tokens[*done];
        *done += 1;
        if *done < tokens.len() { a.sequence.commit(token, outputs, &self.pool) } else { Ok(()) }
    }

    fn entry(&self, token: TokenId, rows: &[RoleRow<'_>], log_normaliser: f64, count: usize) -> TokenScore {
        let log_prob = |row: &[f32], log_normaliser: f64| f64::from(row[token as usize]) - log_normaliser;
        let role = |row: &RoleRow<'_>| RoleReport {
            log_prob: log_prob(row.logits(), row.log_normaliser),
            top_logprobs: top_logprobs(row.logits(), row.log_normaliser, count),
        };
        #[expect(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32, ids are u32 throughout")]
        let greedy = numerics::argmax(&self.fuser.row) as TokenId;
        TokenScore {
            token,
            log_prob: log_prob(&self.fuser.row, log_normaliser),
            greedy,
            top_logprobs: top_logprobs(&self.fuser.row, log_normaliser, count),
            roles: rows.iter().map(role).collect(),
            trace: self.fuser.trace.clone(),
        }
    }
}

/// An error names the continuation where there are several.
fn of_continuation(error: Error, a: &ActiveSequence) -> Error {
    match &a.task {
        Task::Score(scoring) if scoring.request.continuations.len() > 1 => {
            error.context(format_args!("continuation {}", scoring.groups[scoring.group][0]))
        }
        _ => error,
    }
}

/// Whether a fusion can score these continuations.
pub(super) fn check(fusion: &Fusion, request: &ScoreRequest) -> Result<()> {
    let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
    if request.continuations.is_empty() {
        return wrong("there is no continuation to score".to_owned());
    }
    let vocabulary = &fusion.session().vocabulary;
    for continuation in &request.continuations {
        if continuation.is_empty() {
            return wrong("a continuation to score has no token".to_owned());
        }
        if let Some(id) = continuation.iter().find(|&&id| !vocabulary.contains(id)) {
            let width = vocabulary.width();
            return wrong(format!("token {id} of the continuation is not in the shared vocabulary of {width}"));
        }
    }
    Ok(())
}

/// What is scored, in groups of continuations that differ in their last token alone.
pub(super) fn scoring(request: ScoreRequest) -> Scoring {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let all_but_last = |i: usize| request.continuations[i].split_last().map(|(_, before)| before);
    for i in 0..request.continuations.len() {
        match groups.iter_mut().find(|group| all_but_last(group[0]) == all_but_last(i)) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    let expecting = |tokens| Score { log_prob: 0.0, is_greedy: true, tokens: Vec::with_capacity(tokens) };
    let scores = request.continuations.iter().map(|c| expecting(c.len())).collect();
    Scoring { request, begun: None, groups, group: 0, done: 0, scores }
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "scoring was cancelled")
}

//! How continuations are scored: a context is run once, then each continuation in turn behind it.
//!
//! The context's sequence is cut back after a continuation rather than forked before it. Where past and present are one
//! buffer, cutting back changes a number and forking copies the whole context, which for few-shot prompts costs more than
//! the few tokens of a choice.

use std::{ops::ControlFlow, time::Instant};

use logitfuse_core::{Error, ErrorKind, FusionState, PromptReading, Result, RoleRow, TokenId, numerics};
use smallvec::smallvec;

use crate::{
    Cancel, Engine, RoleReport, Score, ScoreRequest, Scored, Timings, TokenScore,
    emit::top_logprobs,
    sequence::{ByBinding, Sequence, Yielded},
    step::Purpose,
};

/// Rows are asked for by this many at a time: 64 rows of a vocabulary of 128 k are 32 MB a source. Pieces of a continuation
/// end at multiples of it whatever else is scored, so that its bits do not depend on company.
pub(crate) const ROWS: usize = 64;

/// A request on its way.
pub(crate) struct Scoring {
    index: usize,
    request: ScoreRequest,
    pub(crate) sequence: Sequence,
    /// The strategy's state behind the context, once it is known: where every continuation begins.
    begun: Option<Box<dyn FusionState>>,
    /// Continuations that differ in their last token alone, as indices; their rows are the same.
    groups: Vec<Vec<usize>>,
    /// The group that is scored, and how many of its tokens are.
    group: usize,
    done: usize,
    scores: Vec<Score>,
}

impl Scoring {
    /// The tokens of the group, its first continuation standing for all.
    fn tokens(&self) -> &[TokenId] {
        &self.request.continuations[self.groups[self.group][0]]
    }

    /// What is fed next: how many rows.
    fn piece(&self) -> usize {
        (self.tokens().len() - self.done).min(ROWS)
    }

    fn is_done(&self) -> bool {
        self.group == self.groups.len()
    }
}

impl Engine {
    pub(crate) fn score_running(
        &mut self,
        requests: &mut dyn Iterator<Item = Result<ScoreRequest>>,
        limit: usize,
        running: &mut Vec<Scoring>,
        cancel: &Cancel,
        timings: &mut Timings,
        on_scored: &mut dyn FnMut(Scored) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut count = 0;
        let mut refused = Ok(());
        loop {
            if cancel.is_cancelled() {
                return Err(cancelled());
            }
            let before = running.len();
            while running.len() < limit && refused.is_ok() {
                let Some(request) = requests.next() else { break };
                match request.and_then(|request| self.begin(count, request)) {
                    Ok(scoring) => running.push(scoring),
                    Err(e) => refused = Err(e),
                }
                count += 1;
            }
            let start = Instant::now();
            if running.len() > before {
                self.read_contexts(&mut running[before..], cancel, timings)?;
                timings.prefill_wall += start.elapsed();
            } else if running.is_empty() {
                return refused;
            } else {
                self.score_pieces(running, timings)?;
                timings.decode_wall += start.elapsed();
            }
            for done in running.extract_if(.., |scoring| scoring.is_done()) {
                self.close(&done.sequence);
                let scored = Scored { request: done.index, scores: done.scores, timings: timings.clone() };
                if on_scored(scored).is_break() {
                    cancel.cancel();
                }
            }
        }
    }

    fn begin(&self, index: usize, request: ScoreRequest) -> Result<Scoring> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if request.continuations.is_empty() {
            return wrong("there is no continuation to score".to_owned());
        }
        let vocabulary = &self.session.vocabulary;
        for continuation in &request.continuations {
            if continuation.is_empty() {
                return wrong("a continuation to score has no token".to_owned());
            }
            if let Some(id) = continuation.iter().find(|&&id| !vocabulary.contains(id)) {
                let width = vocabulary.width();
                return wrong(format!("token {id} of the continuation is not in the shared vocabulary of {width}"));
            }
        }
        let longest = request.continuations.iter().map(Vec::len).max().unwrap_or(0);
        // The last token of a continuation is asked about, never fed.
        let sequence = self.open(&request.prompts, longest - 1)?;
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let all_but_last = |i: usize| request.continuations[i].split_last().map(|(_, before)| before);
        for i in 0..request.continuations.len() {
            match groups.iter_mut().find(|group| all_but_last(group[0]) == all_but_last(i)) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        let scores = request.continuations.iter().map(|c| Score::expecting(c.len())).collect();
        Ok(Scoring { index, request, sequence, begun: None, groups, group: 0, done: 0, scores })
    }

    /// Runs the contexts up to their last tokens: the row of a last token predicts a continuation's first, so that token
    /// goes with the continuation.
    fn read_contexts(&mut self, joining: &mut [Scoring], cancel: &Cancel, timings: &mut Timings) -> Result<()> {
        let mut proceed = |_| !cancel.is_cancelled();
        for scoring in joining.iter_mut() {
            if self.reading != PromptReading::End {
                if self.read(&mut scoring.sequence, timings, &mut proceed)? {
                    continue;
                }
                return Err(cancelled());
            }
            let reach = scoring.request.continuations.iter().map(Vec::len).max().unwrap_or(0);
            for slot in &mut scoring.sequence.slots {
                if !self.reuse(slot, reach, timings, &mut proceed)? {
                    return Err(cancelled());
                }
            }
        }
        let slots = joining.iter().flat_map(|scoring| &scoring.sequence.slots);
        let contexts: Vec<_> = slots.map(|s| (s.source, s.sequence, &s.prompt[s.held..s.prompt.len() - 1])).collect();
        if self.fill(&contexts, timings, &mut proceed)? { Ok(()) } else { Err(cancelled()) }
    }

    /// The next piece of as many sequences as their rows fit, the longest-waiting first.
    fn score_pieces(&mut self, running: &mut [Scoring], timings: &mut Timings) -> Result<()> {
        let mut rows = 0;
        let chosen = running.iter_mut().take_while(|scoring| {
            rows += scoring.piece();
            rows <= ROWS
        });
        let mut chosen: Vec<&mut Scoring> = chosen.collect();
        let mut call = self.call(Purpose::Step);
        for scoring in &mut chosen {
            let (done, piece) = (scoring.done, scoring.piece());
            let given = scoring.tokens()[..done + piece - 1].to_vec();
            for slot in &mut scoring.sequence.slots {
                let before =
                    done.checked_sub(1).map_or_else(|| slot.prompt.last().copied(), |at| given.get(at).copied());
                let tokens: Vec<TokenId> = before.into_iter().chain(given[done..].iter().copied()).collect();
                slot.feed(0, &tokens, piece, &mut call);
            }
        }
        let yielded = smallvec![self.forward(call, timings, false)?];
        timings.steps += 1;
        for scoring in chosen {
            for _ in 0..scoring.piece() {
                self.score_position(scoring, &yielded, timings)?;
            }
            if scoring.done == scoring.tokens().len() {
                self.next_group(scoring)?;
            }
        }
        self.recycle(yielded);
        Ok(())
    }

    /// Fuses the rows of one position and asks for the tokens that the group has there.
    fn score_position(&mut self, scoring: &mut Scoring, yielded: &Yielded, timings: &mut Timings) -> Result<()> {
        let start = Instant::now();
        if scoring.begun.is_none() {
            self.end_prompt(&mut scoring.sequence, yielded)?;
            scoring.begun = Some(scoring.sequence.state.fork()?);
        }
        let Scoring { request, sequence, groups, group, done, scores, .. } = scoring;
        let rows: ByBinding<_> =
            sequence.rows(yielded, self.session.vocabulary.width())?.into_iter().flatten().collect();
        let log_normaliser = self.fuser.fuse(sequence.state.as_mut(), &rows, &sequence.tokens, request.trace)?;
        timings.fuse += start.elapsed();
        let start = Instant::now();
        for &member in &groups[*group] {
            let token = request.continuations[member][*done];
            let entry = self.entry(token, &rows, log_normaliser, request.top_logprobs);
            let score = &mut scores[member];
            score.log_prob += entry.log_prob;
            score.is_greedy &= entry.greedy == token;
            score.tokens.push(entry);
        }
        timings.sample += start.elapsed();
        timings.tokens += groups[*group].len();
        let tokens = &request.continuations[groups[*group][0]];
        let token = tokens[*done];
        *done += 1;
        if *done < tokens.len() { sequence.commit(token, yielded) } else { Ok(()) }
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

    /// Cuts the sequences back to the context, for the next continuation to follow it.
    fn next_group(&mut self, scoring: &mut Scoring) -> Result<()> {
        (scoring.group, scoring.done) = (scoring.group + 1, 0);
        if scoring.is_done() {
            return Ok(());
        }
        for slot in &mut scoring.sequence.slots {
            slot.restart();
            let (sequence, len) = (slot.sequence, slot.prompt.len() - 1);
            self.workers[slot.source].call(move |source| source.truncate(sequence, len))??;
        }
        scoring.sequence.tokens.clear();
        if let Some(begun) = &scoring.begun {
            scoring.sequence.state = begun.fork()?;
        }
        Ok(())
    }
}

impl Score {
    fn expecting(tokens: usize) -> Self {
        Self { log_prob: 0.0, is_greedy: true, tokens: Vec::with_capacity(tokens) }
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "scoring was cancelled")
}

//! One step of all sequences: drafts, then one pass over the sources, then tokens.

use std::time::Instant;

use logitfuse_core::{Error, ErrorKind, Result, TokenId};

use super::{Context, Decoder, context::Phase, score::ROWS};
use crate::{
    Drafted,
    active::{ActiveSequence, IndexVec, Task},
    pool::batch::{Purpose, StepOutputs},
    sequence::Sequence,
};

impl Decoder {
    /// Advances every sequence that goes on: one token or more of a text, one piece of what is scored.
    pub(super) fn step(&mut self, active: &mut [ActiveSequence], context: &mut Context<'_>) {
        active.iter_mut().for_each(ActiveSequence::check_cancelled);
        let mut outputs = StepOutputs::new();
        self.draft(active, &mut outputs, context);
        self.early_exits(active, &mut outputs, context);

        let mut batch = self.batch(Purpose::Step);
        let mut taking_part = IndexVec::new();
        let (mut rows, mut full) = (0, false);
        let mut text = std::mem::take(&mut self.text);
        for (at, a) in active.iter_mut().enumerate() {
            // What exited early has its token.
            if !a.is_running() || a.advanced > 0 {
                continue;
            }
            match &mut a.task {
                Task::Generate(generating) => {
                    write_text(&a.sequence.tokens, &generating.draft, &mut text);
                    if generating.draft_ends {
                        // The row behind the end is not needed.
                        text.pop();
                    }
                    a.sequence.catch_up(outputs.len(), &text, &mut batch);
                }
                Task::Score(scoring) => {
                    // As many pieces as their rows fit, the longest-waiting first.
                    rows += scoring.piece();
                    full |= rows > ROWS;
                    if full {
                        continue;
                    }
                    scoring.feed(&mut a.sequence, outputs.len(), &mut batch);
                }
            }
            taking_part.push(at);
        }
        self.text = text;
        outputs.push(self.forward(batch, active, context, Phase::Decode));

        for at in taking_part {
            let a = &mut active[at];
            if !a.is_running() {
                continue;
            }
            let advanced = match a.task {
                Task::Generate(_) => self.verify(a, &outputs, context),
                Task::Score(_) => self.score_piece(a, &outputs, context),
            };
            if let Err(error) = advanced {
                a.fail(error);
            }
        }
        self.batches.recycle(outputs);
    }

    /// Lets the lead role's row decide a step alone, where a strategy has such a role and nothing is drafted: then the other
    /// sources stay idle.
    fn early_exits(&mut self, active: &mut [ActiveSequence], outputs: &mut StepOutputs, context: &mut Context<'_>) {
        let lead = |a: &ActiveSequence| {
            a.fusion.lead().filter(|_| a.generating().is_some() && a.fusion.speculation().is_none())
        };
        let mut batch = self.batch(Purpose::Step);
        for a in active.iter_mut() {
            if let Some(binding) = lead(a) {
                let Sequence { sources, source_of, tokens, .. } = &mut a.sequence;
                sources[source_of[binding]].catch_up(outputs.len(), tokens, &mut batch);
            }
        }
        if batch.is_empty() {
            self.batches.recycle([batch]);
            return;
        }
        outputs.push(self.forward(batch, active, context, Phase::Decode));
        for a in active {
            if let Some(binding) = lead(a)
                && let Err(error) = self.early_exit(a, binding, outputs, context)
            {
                a.fail(error);
            }
        }
    }

    fn early_exit(
        &mut self,
        a: &mut ActiveSequence,
        binding: usize,
        outputs: &StepOutputs,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let start = Instant::now();
        let rows = a.sequence.rows(outputs, &self.pool)?;
        let row = rows[binding]
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the lead role's source was asked and yielded no row"))?;
        let Sequence { state, tokens, .. } = &mut a.sequence;
        let decided = self.fuser.early_exit(a.fusion.strategy().as_ref(), state.as_mut(), &row, tokens, a.trace)?;
        let took = start.elapsed();
        a.timings.fuse += took;
        context.timings.fuse += took;
        let Some(log_normaliser) = decided else { return Ok(()) };
        a.timings.early_exits += 1;
        context.timings.early_exits += 1;
        self.emit(a, &rows, outputs, log_normaliser, None, context).map(|_| ())
    }

    /// Fuses and emits at every position of a draft up to the first rejected one, and the token after an accepted draft.
    fn verify(&mut self, a: &mut ActiveSequence, outputs: &StepOutputs, context: &mut Context<'_>) -> Result<()> {
        let Task::Generate(generating) = &mut a.task else { return Ok(()) };
        let drafted = std::mem::take(&mut generating.draft);
        let mut accepted = 0;
        for place in 0..=drafted.len() {
            let draft = drafted.get(place);
            let is_draft = self.fuse_and_emit(a, outputs, draft, context)?;
            accepted += usize::from(is_draft);
            if !a.is_running() || (draft.is_some() && !is_draft) {
                break;
            }
        }
        for timings in [&mut a.timings, &mut context.timings] {
            timings.drafted += drafted.len();
            timings.accepted += accepted;
        }
        if a.fusion.speculation().is_none() {
            return Ok(());
        }
        let Task::Generate(generating) = &mut a.task else { return Ok(()) };
        generating.scheduler.learn(drafted.iter().map(|drafted| drafted.confidence), accepted);
        generating.take_back(drafted);
        if generating.greedy {
            let stats = generating.scheduler.stats();
            self.remember_acceptance(a.fusion.address(), stats);
        }
        for source in &mut a.sequence.sources {
            if let Some(len) = source.rewind(a.sequence.tokens.len()) {
                self.pool.truncate(source.source, source.id, len)?;
            }
        }
        Ok(())
    }
}

/// The generated text of a sequence and its draft.
pub(super) fn write_text(tokens: &[TokenId], draft: &[Drafted], text: &mut Vec<TokenId>) {
    text.clear();
    text.extend_from_slice(tokens);
    text.extend(draft.iter().map(|drafted| drafted.token));
}

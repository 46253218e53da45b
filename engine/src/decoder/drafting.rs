//! Drafts of all sequences, from models or from the text itself.

use logitfuse_core::{Detokenizer, Error, ErrorKind, Result, TokenId};
use smallvec::SmallVec;

use super::{Context, Decoder, context::Phase, step::write_text};
use crate::{
    Draft, Drafted, Speculation,
    active::{ActiveSequence, Generating, Task},
    draft::lookup::prompt_lookup,
    pool::batch::{Purpose, StepOutputs},
    sequence::Sequence,
};

/// A sequence whose draft a model makes.
struct Drafting {
    /// Its place among the active sequences.
    at: usize,
    /// The drafter's place among the sequence's sources.
    drafter: usize,
    longest: usize,
    /// Whether the draft came to where the text would end: nothing behind it would be kept.
    ended: bool,
    /// A copy of the text's detokenizer, where stop strings end it.
    detokenizer: Option<Box<dyn Detokenizer>>,
}

impl Decoder {
    /// Makes a draft for each sequence that is to have one; it may be empty.
    pub(super) fn draft(
        &mut self,
        active: &mut [ActiveSequence],
        outputs: &mut StepOutputs,
        context: &mut Context<'_>,
    ) {
        let mut drafting: SmallVec<[Drafting; 4]> = SmallVec::new();
        for (at, a) in active.iter_mut().enumerate() {
            let Some(speculation) = a.fusion.shared_speculation() else { continue };
            drafting.extend(self.begin_draft(at, a, &speculation));
        }
        if drafting.is_empty() {
            return;
        }
        let mut text = std::mem::take(&mut self.text);
        for nth in 0..drafting.iter().map(|d| d.longest).max().unwrap_or(0) {
            let mut batch = self.batch(Purpose::Draft);
            for d in &drafting {
                if !d.goes_on(active, nth) {
                    continue;
                }
                let Sequence { tokens, sources, .. } = &mut active[d.at].sequence;
                let Task::Generate(generating) = &active[d.at].task else { continue };
                write_text(tokens, &generating.draft, &mut text);
                sources[d.drafter].catch_up(outputs.len(), &text, &mut batch);
            }
            if batch.is_empty() {
                self.batches.recycle([batch]);
                break;
            }
            outputs.push(self.forward(batch, active, context, Phase::Decode));
            for d in &mut drafting {
                if !d.goes_on(active, nth) {
                    continue;
                }
                let drafted = self.draft_token(d, &mut active[d.at], outputs, &mut text);
                if let Err(error) = drafted {
                    active[d.at].fail(error);
                }
            }
        }
        self.text = text;
        for d in drafting {
            let a = &mut active[d.at];
            let Task::Generate(generating) = &mut a.task else { continue };
            generating.draft_ends = d.ended;
            let undone = generating.sampler.rollback(generating.draft.len());
            if let Err(error) = undone
                && a.is_running()
            {
                a.fail(error);
            }
        }
    }

    /// What drafts for the sequence at this place, if it is a model. Prompt lookup drafts at once.
    fn begin_draft(&self, at: usize, a: &mut ActiveSequence, speculation: &Speculation) -> Option<Drafting> {
        let generating = a.generating()?;
        let room = self.room(a, generating);
        let drafter = match speculation.draft {
            Draft::PromptLookup { longest } => {
                let length = generating.scheduler.length().min(room);
                let mut draft = prompt_lookup(&a.sequence.sources[0].prompt, &a.sequence.tokens, longest, length);
                // A prompt may hold tokens that no text may.
                let barred = draft.iter().position(|drafted| !self.pool.vocabulary().contains(drafted.token));
                draft.truncate(barred.unwrap_or(draft.len()));
                if let Task::Generate(generating) = &mut a.task {
                    (generating.draft, generating.draft_ends) = (draft, false);
                }
                return None;
            }
            Draft::Binding(binding) => a.sequence.source_of[binding],
            Draft::Source(_) => a.sequence.drafter?,
        };
        let stops = generating.detokenizer.as_ref().filter(|detokenizer| detokenizer.has_stops());
        let detokenizer = stops.map(|detokenizer| detokenizer.fork());
        Some(Drafting { at, drafter, longest: generating.scheduler.longest().min(room), ended: false, detokenizer })
    }

    fn draft_token(
        &self,
        drafting: &mut Drafting,
        a: &mut ActiveSequence,
        outputs: &StepOutputs,
        text: &mut Vec<TokenId>,
    ) -> Result<()> {
        let Task::Generate(generating) = &mut a.task else { return Ok(()) };
        write_text(&a.sequence.tokens, &generating.draft, text);
        let row = a.sequence.sources[drafting.drafter].row(text, outputs, &self.pool)?;
        let row = row.ok_or_else(|| Error::new(ErrorKind::Internal, "a drafter yielded no row"))?;
        let Some(draft) = generating.sampler.draft(row.logits(), row.log_normaliser)? else { return Ok(()) };
        drafting.ended =
            !generating.ignore_end_of_sequence && a.fusion.end_of_sequence().binary_search(&draft.token).is_ok();
        if let Some(detokenizer) = &mut drafting.detokenizer {
            drafting.ended |= detokenizer.push(draft.token)?.stopped.is_some();
        }
        generating.draft.push(draft);
        Ok(())
    }

    /// How many tokens may be drafted: the last one of a text needs no draft behind it, and every source must be able to
    /// hold the draft.
    fn room(&self, a: &ActiveSequence, generating: &Generating) -> usize {
        let generated = a.sequence.tokens.len();
        let wanted = (generating.max_new_tokens - generated).saturating_sub(1);
        let held = a.sequence.sources.iter().filter_map(|source| {
            let limit = self.pool.info(source.source).context_length?;
            Some(limit.saturating_sub(source.prompt.len() + generated))
        });
        held.min().unwrap_or(usize::MAX).min(wanted)
    }
}

impl Drafting {
    /// Whether another token is drafted behind `nth`. A draft that broke off earlier stays as it is.
    fn goes_on(&self, active: &[ActiveSequence], nth: usize) -> bool {
        active[self.at].generating().is_some_and(|generating| {
            let confidences = generating.draft.iter().map(|drafted| drafted.confidence);
            !self.ended
                && self.longest > nth
                && generating.draft.len() == nth
                && generating.scheduler.continues(confidences)
        })
    }
}

impl Generating {
    /// Takes a draft's buffers back for the next one.
    pub(super) fn take_back(&mut self, mut drafted: Vec<Drafted>) {
        drafted.drain(..).for_each(|drafted| self.sampler.reuse(drafted.candidates));
        self.draft = drafted;
    }
}

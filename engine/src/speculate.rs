//! Drafting several tokens and verifying them at once.

use std::ops::ControlFlow;

use logitfuse_core::{Detokenizer as _, Error, ErrorKind, Result, TokenId};
use logitfuse_text::OutputText;
use smallvec::SmallVec;

use crate::{
    Cancel, Candidates, Engine, Event, Timings,
    emit::Outlet,
    running::{Few, Running},
    sequence::{Sequence, Yielded},
    step::Purpose,
};

/// Speculative decoding: somebody cheap drafts the next tokens, all sources look at the whole draft in one `forward`
/// each, and the *fused* distribution accepts a prefix of it.
///
/// Nothing is lost: greedy, a drafted token stands if it is the fused row's favourite; sampled, it stands with
/// probability `min(1, p/q)` and is replaced by a draw from `max(0, p − q)` otherwise, where `p` is the fused
/// distribution after penalties, temperature and truncation, and `q` the drafter's. Tokens are then distributed as
/// without drafts (Leviathan et al. 2023, theorem in appendix A.1; Chen et al. 2023, theorem 1). The strategy fuses every
/// position by itself, so a strength that is solved per token is the one of that very prefix, and it sees `commit` only
/// for tokens that stand.
///
/// ```
/// use logitfuse_engine::{Draft, DraftLength, Speculation};
///
/// // The source in the second binding, usually the expert, drafts four tokens at a time.
/// let speculation = Speculation { draft: Draft::Binding(1), length: DraftLength::Fixed(4) };
/// # let _ = speculation;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Speculation {
    /// Who drafts.
    pub draft: Draft,
    /// How much.
    pub length: DraftLength,
}

/// Who drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// The source of this binding, which has to run anyway: its rows at drafted positions are not computed twice.
    Binding(usize),
    /// A source that plays no role. It reads the prompt of the first binding.
    Source(usize),
    /// Nobody: what followed the last tokens where they occurred before, in the first binding's prompt or in the text.
    PromptLookup {
        /// How many tokens are compared at most; two must agree at least.
        longest: usize,
    },
}

/// How many tokens are drafted at once.
#[derive(Clone, Debug, PartialEq)]
pub enum DraftLength {
    /// Always this many.
    Fixed(usize),
    /// As many as promise the most tokens per time, given these costs and the share of drafts that a sequence accepted so
    /// far; none where drafts do not pay. A drafter that is a model says with each token how sure it is, and the draft goes
    /// on while the next token is likely enough to stand. Depends on the sequence alone, never on a clock.
    Adaptive(DraftCosts),
}

/// What speculation costs on a machine, in any unit of time.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftCosts {
    /// Drafting one token.
    pub draft: f64,
    /// `verify[n]`: running what remains to be run for a draft of `n` tokens. `verify[0]` is a step without draft; the
    /// length of the list limits that of a draft.
    pub verify: Vec<f64>,
}

/// A drafted token and the distribution that it was drawn from.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// The token.
    pub token: TokenId,
    /// Where it was drawn from; the token alone if it was not drawn.
    pub candidates: Candidates,
    /// How probable the drafter took it to be, after penalties; after temperature and truncation if it was drawn.
    pub confidence: f64,
}

impl Engine {
    /// Drafts, verifies, and emits one token or more for every sequence that goes on.
    pub(crate) fn round(
        &mut self,
        speculation: &Speculation,
        running: &mut [Running],
        cancel: &Cancel,
        timings: &mut Timings,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let active: Few = (0..running.len()).filter(|&i| running[i].finish.is_none()).collect();
        let mut yielded = Yielded::new();
        let mut text = std::mem::take(&mut self.text);
        self.draft(speculation, &active, running, &mut yielded, &mut text, timings)?;

        let unbound = matches!(speculation.draft, Draft::Source(_));
        let mut call = self.call(Purpose::Step);
        for &i in &active {
            let r = &mut running[i];
            write_text(&r.sequence, &r.draft, &mut text);
            if r.draft_ends {
                // Nobody asks for the row behind the end.
                text.pop();
            }
            let slots = &mut r.sequence.slots;
            let bound = slots.len() - usize::from(unbound);
            slots[..bound].iter_mut().for_each(|slot| slot.catch_up(yielded.len(), &text, &mut call));
        }
        self.text = text;
        yielded.push(self.forward(call, timings, false)?);

        for &i in &active {
            let r = &mut running[i];
            let drafted = std::mem::take(&mut r.draft);
            let mut stood = 0;
            for place in 0..=drafted.len() {
                let draft = drafted.get(place);
                let mut outlet = Outlet { timings, on_event };
                let emitted = self.fuse_and_emit(r, &yielded, draft, &mut outlet)?;
                stood += usize::from(emitted.drafted);
                if emitted.flow.is_break() {
                    cancel.cancel();
                }
                if r.finish.is_some() || (draft.is_some() && !emitted.drafted) {
                    break;
                }
            }
            timings.drafted += drafted.len();
            timings.accepted += stood;
            r.pace.learn(drafted.iter().map(|drafted| drafted.confidence), stood);
            if r.request.sampling.is_greedy() {
                self.habit = Some(r.pace.habit());
            }
            r.take_back(drafted);
            for slot in &mut r.sequence.slots {
                if let Some(len) = slot.rewind(r.sequence.tokens.len()) {
                    self.workers[slot.source].call(|source| source.truncate(slot.sequence, len)).flatten()?;
                }
            }
        }
        self.recycle(yielded);
        Ok(())
    }

    /// A draft for each active sequence, which may be empty.
    fn draft(
        &mut self,
        speculation: &Speculation,
        active: &[usize],
        running: &mut [Running],
        yielded: &mut Yielded,
        text: &mut Vec<TokenId>,
        timings: &mut Timings,
    ) -> Result<()> {
        if let Draft::PromptLookup { longest } = speculation.draft {
            for &i in active {
                let length = running[i].pace.length().min(self.room(&running[i]));
                let r = &mut running[i];
                r.draft = looked_up(&r.sequence.slots[0].prompt, &r.sequence.tokens, longest, length);
            }
            return Ok(());
        }
        let longest: Few = active.iter().map(|&i| running[i].pace.longest().min(self.room(&running[i]))).collect();
        let drafter = |sequence: &Sequence| match speculation.draft {
            Draft::Binding(binding) => sequence.slot_of[binding],
            _ => sequence.slots.len() - 1,
        };
        let width = self.session.vocabulary.width();
        let seen: SmallVec<[_; 4]> = active.iter().map(|&i| running[i].sampler.memory()).collect();
        // Where a text ends, so does its draft: nothing behind it would be kept.
        let mut ends: SmallVec<[_; 4]> = active.iter().map(|&i| Ending::new(&running[i])).collect();
        for nth in 0..longest.iter().copied().max().unwrap_or(0) {
            // A draft that broke off earlier stays as it is.
            let going = |running: &[Running], a: usize| {
                let r = &running[active[a]];
                let sure = r.draft.iter().map(|drafted| drafted.confidence);
                longest[a] > nth && r.draft.len() == nth && r.pace.goes_on(sure)
            };
            let mut call = self.call(Purpose::Draft);
            for a in 0..active.len() {
                if going(running, a) && !ends[a].reached {
                    let r = &mut running[active[a]];
                    write_text(&r.sequence, &r.draft, text);
                    let slot = drafter(&r.sequence);
                    r.sequence.slots[slot].catch_up(yielded.len(), text, &mut call);
                }
            }
            if call.is_empty() {
                self.recycle([call]);
                break;
            }
            yielded.push(self.forward(call, timings, false)?);
            for a in 0..active.len() {
                if !going(running, a) || ends[a].reached {
                    continue;
                }
                let r = &mut running[active[a]];
                write_text(&r.sequence, &r.draft, text);
                let row = r.sequence.slots[drafter(&r.sequence)].row(text, yielded, width)?;
                let row = row.ok_or_else(|| Error::new(ErrorKind::Internal, "a drafter yielded no row"))?;
                if let Some(draft) = r.sampler.draft(row.logits()) {
                    ends[a].see(draft.token, r, &self.end_of_sequence)?;
                    r.draft.push(draft);
                }
            }
        }
        for ((&i, seen), end) in active.iter().zip(seen).zip(ends) {
            running[i].sampler.recall(seen);
            running[i].draft_ends = end.reached;
        }
        Ok(())
    }

    /// How many tokens may be drafted: the last one of a text needs no draft behind it, and every source must be able to
    /// hold the draft.
    fn room(&self, r: &Running) -> usize {
        let generated = r.sequence.tokens.len();
        let wanted = (r.request.max_new_tokens - generated).saturating_sub(1);
        let held = r.sequence.slots.iter().filter_map(|slot| {
            let limit = self.workers[slot.source].info().context_length?;
            Some(limit.saturating_sub(slot.prompt.len() + generated))
        });
        held.min().unwrap_or(usize::MAX).min(wanted)
    }
}

/// The generated text of a sequence and its draft.
fn write_text(sequence: &Sequence, draft: &[Drafted], text: &mut Vec<TokenId>) {
    text.clear();
    text.extend_from_slice(&sequence.tokens);
    text.extend(draft.iter().map(|drafted| drafted.token));
}

/// Whether a draft has come to where its text would end.
struct Ending {
    /// The text, where stop strings end it.
    output: Option<OutputText>,
    reached: bool,
}

impl Ending {
    fn new(r: &Running) -> Self {
        let stops = r.request.text.as_ref().is_some_and(|rules| rules.stop.iter().any(|stop| !stop.is_empty()));
        Self { output: r.output.as_ref().filter(|_| stops).cloned(), reached: false }
    }

    fn see(&mut self, token: TokenId, r: &Running, end_of_sequence: &[TokenId]) -> Result<()> {
        self.reached = !r.request.ignore_end_of_sequence && end_of_sequence.binary_search(&token).is_ok();
        if let Some(output) = &mut self.output {
            self.reached |= output.push(token)?.stopped.is_some();
        }
        Ok(())
    }
}

/// What followed the longest end of the text that occurred before, latest occurrence first.
fn looked_up(prompt: &[TokenId], tokens: &[TokenId], longest: usize, length: usize) -> Vec<Drafted> {
    let text: Vec<TokenId> = prompt.iter().chain(tokens).copied().collect();
    let found = (2..=longest.min(text.len().saturating_sub(1))).rev().find_map(|n| {
        let (before, end) = (&text[..text.len() - 1], &text[text.len() - n..]);
        before.windows(n).rposition(|window| window == end).map(|at| at + n)
    });
    let follows = found.map_or(&[][..], |at| &text[at..]);
    follows
        .iter()
        .take(length)
        .map(|&token| Drafted { token, candidates: vec![(token, 1.0)], confidence: 1.0 })
        .collect()
}

impl Running {
    /// Takes a draft's buffers back for the next one.
    fn take_back(&mut self, mut drafted: Vec<Drafted>) {
        drafted.drain(..).for_each(|drafted| self.sampler.reuse(drafted.candidates));
        self.draft = drafted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_prefers_the_longest_and_then_the_latest() {
        let tokens = |prompt: &[TokenId], text: &[TokenId], length| -> Vec<TokenId> {
            looked_up(prompt, text, 3, length).into_iter().map(|d| d.token).collect()
        };
        assert_eq!(tokens(&[1, 2, 3, 4, 9, 2, 3, 5], &[2, 3], 2), [5, 2]);
        assert_eq!(tokens(&[1, 2, 3, 4, 9, 2, 3, 5, 1], &[2, 3], 2), [4, 9]);
        assert!(tokens(&[1, 2, 3], &[4, 5], 2).is_empty());
        // A repetition may run into what it repeats.
        assert_eq!(tokens(&[7, 7], &[7], 5), [7]);
        assert!(tokens(&[], &[3], 5).is_empty());
    }
}

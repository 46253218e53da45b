//! Prompts: how they get into the sources, and what the strategy is told of them.

use std::ops::ControlFlow;

use logitfuse_core::{Error, ErrorKind, FusionStep, PromptReading, PromptScore, Result, RoleRow};
use smallvec::smallvec;

use crate::{
    Cancel, Engine, Event, Timings,
    running::Running,
    scoring::ROWS,
    sequence::{ByBinding, Sequence, Slot, Yielded},
    step::{Call, PIECE, Parcel, Purpose},
};

/// One slot's part of a piece: the first of its positions in the prompt, its first row among those of its source, and how
/// many there are.
#[derive(Clone, Copy)]
struct Part {
    position: usize,
    row: usize,
    len: usize,
}

impl Engine {
    /// Feeds the prompts of all sequences that go on; their ends yield the first rows. `None` if cancelled before that.
    pub(crate) fn prefill(
        &mut self,
        running: &mut [Running],
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
        timings: &mut Timings,
    ) -> Result<Option<Yielded>> {
        let mut going: Vec<&mut Running> = running.iter_mut().filter(|r| r.finish.is_none()).collect();
        let total = going.iter().flat_map(|r| &r.sequence.slots).map(|slot| slot.prompt.len()).sum();
        let mut proceed = |done| !cancel.is_cancelled() && on_event(Event::Prefill { done, total }).is_continue();
        if self.reading != PromptReading::End {
            let mut read = 0;
            for r in &mut going {
                if !self.read(&mut r.sequence, timings, &mut |done| proceed(read + done))? {
                    return Ok(None);
                }
                read += r.sequence.slots.iter().map(|slot| slot.held).sum::<usize>();
            }
        }
        let mut slots: Vec<(&mut Slot, usize)> = Vec::new();
        for r in going {
            let reach = r.request.max_new_tokens;
            slots.extend(r.sequence.slots.iter_mut().map(|slot| (slot, reach)));
        }
        let forwarded = self.feed_prompts(&mut slots, timings, &mut proceed)?;
        if forwarded.is_some() {
            let _ = on_event(Event::Prefill { done: total, total });
        }
        Ok(forwarded.map(|call| smallvec![call]))
    }

    /// Feeds what slots do not hold of their prompts, each of which will grow by so many tokens at most. The last piece of a
    /// prompt yields its row. `None` if `proceed` broke off.
    pub(crate) fn feed_prompts(
        &mut self,
        slots: &mut [(&mut Slot, usize)],
        timings: &mut Timings,
        proceed: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Call>> {
        let held = slots.iter().map(|(slot, _)| slot.held).sum::<usize>();
        // What is read is read in full: of a beginning that was run before, nobody knows the rows.
        if self.reading == PromptReading::End {
            for (slot, reach) in slots.iter_mut() {
                if !self.reuse(slot, *reach, timings, &mut |_| proceed(held))? {
                    return Ok(None);
                }
            }
        }
        // All pieces end where those of a prompt that was not reused do.
        let piece = |slot: &Slot| ((slot.prompt.len() - 1) / PIECE * PIECE).max(slot.held);
        let prefixes: Vec<_> = slots.iter().map(|(s, _)| (s.source, s.sequence, &s.prompt[s.held..piece(s)])).collect();
        if !self.fill(&prefixes, timings, &mut |done| proceed(held + done))? {
            return Ok(None);
        }
        let mut call = self.call(Purpose::Step);
        for (slot, _) in slots.iter_mut() {
            let last = slot.prompt[piece(slot)..].to_vec();
            slot.feed(0, &last, 1, &mut call);
        }
        self.forward(call, timings, true).map(Some)
    }

    /// Feeds the prompt of every binding, of which nothing was fed, but for its last token, and keeps or shows to the
    /// strategy what the sources said of it. `proceed` is told how many tokens are in; false breaks off, which is also what
    /// is returned.
    pub(crate) fn read(
        &mut self,
        sequence: &mut Sequence,
        timings: &mut Timings,
        proceed: &mut dyn FnMut(usize) -> bool,
    ) -> Result<bool> {
        let by_rows = self.reading == PromptReading::Rows;
        if by_rows {
            self.insist_on_one_prompt(sequence)?;
        }
        sequence.prompt = vec![PromptScore::default(); sequence.slot_of.len()];
        let longest = sequence.slots.iter().map(|slot| slot.prompt.len() - 1).max().unwrap_or(0);
        let mut done = 0;
        for start in (0..longest).step_by(ROWS) {
            if !proceed(done) {
                return Ok(false);
            }
            let mut call = self.call(Purpose::Step);
            let mut parts: Vec<Option<Part>> = vec![None; sequence.slots.len()];
            for (nth, (slot, part)) in sequence.slots.iter_mut().zip(&mut parts).enumerate() {
                let end = (start + ROWS).min(slot.prompt.len() - 1);
                // A drafter that plays no role is not asked.
                if end <= start || !sequence.slot_of.contains(&nth) {
                    continue;
                }
                let len = end - start;
                let row = call.parcels[slot.source].feed(slot.sequence, &slot.prompt[start..end], len);
                *part = Some(Part { position: start, row, len });
                done += len;
                slot.held = end;
            }
            let call = self.forward(call, timings, true)?;
            self.credit(sequence, &parts, &call.parcels)?;
            if by_rows {
                self.show(sequence, &parts, &call.parcels)?;
            }
            self.recycle([call]);
        }
        Ok(proceed(done))
    }

    /// Adds a piece to what each binding's source gives the prompt.
    fn credit(&self, sequence: &mut Sequence, parts: &[Option<Part>], parcels: &[Parcel]) -> Result<()> {
        let Sequence { slots, slot_of, prompt, .. } = sequence;
        for (&slot, score) in slot_of.iter().zip(prompt) {
            let Some(part) = parts[slot] else { continue };
            let slot = &slots[slot];
            let done = found(parcels, slot.source)?;
            for nth in 0..part.len {
                let next = slot.prompt[part.position + nth + 1];
                if self.session.vocabulary.contains(next) {
                    let row = part.row + nth;
                    score.log_prob += f64::from(done.rows.row(row)[next as usize]) - done.log_normalisers[row];
                    score.tokens += 1;
                }
            }
        }
        Ok(())
    }

    /// Shows a piece's rows to the strategy, position by position.
    fn show(&self, sequence: &mut Sequence, parts: &[Option<Part>], parcels: &[Parcel]) -> Result<()> {
        let width = self.session.vocabulary.width();
        let Sequence { slots, slot_of, state, .. } = sequence;
        let Some(Some(first)) = parts.first() else { return Ok(()) };
        let mut rows: Vec<RoleRow<'_>> = Vec::with_capacity(slot_of.len());
        for nth in 0..first.len {
            let next = slots[0].prompt[first.position + nth + 1];
            if !self.session.vocabulary.contains(next) {
                continue;
            }
            rows.clear();
            for &slot in slot_of.iter() {
                let Some(part) = parts[slot] else { continue };
                let done = found(parcels, slots[slot].source)?;
                let row = part.row + nth;
                rows.push(RoleRow::new(done.row(row, width), done.log_normalisers[row], 0.0));
            }
            state.read_prompt(&FusionStep::new(&rows, &[]), next)?;
        }
        Ok(())
    }

    fn insist_on_one_prompt(&self, sequence: &Sequence) -> Result<()> {
        let prompts = || sequence.slot_of.iter().map(|&slot| &sequence.slots[slot].prompt);
        let Some(other) = prompts().position(|prompt| *prompt != sequence.slots[0].prompt) else { return Ok(()) };
        let [first, other] = [0, other].map(|binding| &self.session.bindings[binding]);
        let what = format!(
            "strategy `{}` compares what its sources say of every token of a prompt; role `{}` (source `{}`) has another \
             prompt than role `{}` (source `{}`)",
            self.strategy.info().id,
            other.role,
            other.source,
            first.role,
            first.source
        );
        Err(Error::new(ErrorKind::InvalidConfig, what).with_help("give all sources the same templates and tokenizers"))
    }

    /// Tells the strategy that the prompt is over. `yielded` holds the rows of its end.
    pub(crate) fn end_prompt(&self, sequence: &mut Sequence, yielded: &Yielded) -> Result<()> {
        let rows: ByBinding<_> =
            sequence.rows(yielded, self.session.vocabulary.width())?.into_iter().flatten().collect();
        let Sequence { state, prompt, .. } = sequence;
        state.begin(&FusionStep::new(&rows, &[]), prompt)
    }
}

fn found(parcels: &[Parcel], source: usize) -> Result<&Parcel> {
    Some(&parcels[source])
        .filter(|parcel| !parcel.log_normalisers.is_empty())
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a source that was fed a prompt yielded no row"))
}

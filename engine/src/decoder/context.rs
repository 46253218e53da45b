use std::{ops::ControlFlow, time::Duration};

use crate::{Cancel, Event, Timings, active::ActiveSequence, pool::batch::ForwardBatch};

/// What one call of a decoder works with: where events go, whether it was cancelled, and where its time went.
pub(crate) struct Context<'a> {
    cancel: &'a Cancel,
    on_event: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    /// Of all sequences.
    pub(crate) timings: Timings,
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Prefill,
    Decode,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        cancel: &'a Cancel,
        on_event: &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
        sources: usize,
    ) -> Self {
        Self { cancel, on_event, timings: Timings::new(sources) }
    }

    pub(crate) fn cancel(&self) -> &'a Cancel {
        self.cancel
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Tells an event; a listener that breaks off cancels the call.
    pub(crate) fn tell(&mut self, event: Event<'_>) {
        if (self.on_event)(event).is_break() {
            self.cancel.cancel();
        }
    }

    /// Charges a pass to the sequences that took part in it, by the tokens that they fed to each source, and ends those
    /// whose source failed.
    pub(crate) fn charge(&mut self, batch: &ForwardBatch, active: &mut [ActiveSequence], phase: Phase) {
        for (source, done) in batch.sources.iter().enumerate().filter(|(_, done)| !done.is_empty()) {
            self.timings.add_pass(source, done.forward, done.normalise, done.tokens(), phase);
        }
        for sequence in active {
            let mut failed = None;
            for source in &mut sequence.sequence.sources {
                let tokens = std::mem::take(&mut source.pending);
                if tokens == 0 {
                    continue;
                }
                let done = &batch.sources[source.source];
                failed = failed.or(done.error());
                let share = |time: Duration| time.mul_f64((tokens as f64 / done.tokens().max(1) as f64).min(1.0));
                let (forward, normalise) = (share(done.forward), share(done.normalise));
                sequence.timings.add_pass(source.source, forward, normalise, tokens, phase);
            }
            if let Some(error) = failed {
                sequence.fail(error.clone());
            }
        }
    }

    /// Divides the time that prompts took by the tokens that were run for each.
    pub(crate) fn divide_prefill(&mut self, joined: &mut [ActiveSequence], wall: Duration) {
        self.timings.prefill_wall += wall;
        let tokens = |a: &ActiveSequence| a.timings.prefill_tokens.iter().sum::<usize>().max(1);
        let total: usize = joined.iter().map(tokens).sum();
        for a in joined {
            a.timings.prefill_wall += wall.mul_f64(tokens(a) as f64 / total as f64);
            // The first token came of the prompt.
            a.advanced = 0;
        }
    }

    /// Divides the time of a step by the tokens that each sequence has from it.
    pub(crate) fn divide_decode(&mut self, active: &mut [ActiveSequence], wall: Duration) {
        self.timings.decode_wall += wall;
        self.timings.steps += 1;
        let total: usize = active.iter().map(|a| a.advanced).sum();
        for a in active {
            let advanced = std::mem::take(&mut a.advanced);
            if advanced > 0 {
                a.timings.decode_wall += wall.mul_f64(advanced as f64 / total as f64);
                a.timings.steps += 1;
            }
        }
    }
}

impl Timings {
    fn add_pass(&mut self, source: usize, forward: Duration, normalise: Duration, tokens: usize, phase: Phase) {
        self.normalise[source] += normalise;
        match phase {
            Phase::Prefill => {
                self.prefill[source] += forward;
                self.prefill_tokens[source] += tokens;
            }
            Phase::Decode => self.forward[source] += forward,
        }
    }
}

//! The state of one sequence over all sources.

use logitfuse_core::{Error, ErrorKind, FusionState, PromptScore, Result, RoleRow, SequenceId, TokenId};

use smallvec::SmallVec;

use crate::{
    Draft, Engine,
    step::{Call, Parcel},
};

/// One source's sequence. Bindings that share a source *and* a prompt share a slot: the row is computed once.
pub(crate) struct Slot {
    pub(crate) source: usize,
    pub(crate) sequence: SequenceId,
    pub(crate) prompt: Vec<TokenId>,
    /// Tokens of the prompt that the source held before the prompt was fed: a prefix that another one had, too.
    pub(crate) held: usize,
    /// Generated tokens that the source holds, drafted ones included.
    pub(crate) fed: usize,
    /// Log-probability in nats of the first `credited` generated tokens under this source.
    log_prob: f64,
    credited: usize,
    /// Where the rows of the positions from `credited` on lie, as far as the source was asked for them.
    rows: Vec<RowAt>,
}

/// Where a row lies among what sources yielded since the last position was settled.
#[derive(Clone, Copy)]
struct RowAt {
    /// Which of the calls yielded it.
    call: usize,
    /// Its place among the rows of its source.
    index: usize,
}

/// What calls yielded, by source.
pub(crate) type Yielded = SmallVec<[Call; 10]>;

/// Something of every binding; most strategies have few.
pub(crate) type ByBinding<T> = SmallVec<[T; 8]>;

impl Slot {
    fn new(source: usize, sequence: SequenceId, prompt: &[TokenId]) -> Self {
        Self {
            source,
            sequence,
            prompt: prompt.to_vec(),
            held: 0,
            fed: 0,
            log_prob: 0.0,
            credited: 0,
            rows: Vec::new(),
        }
    }

    /// Feeds these tokens as part of the call with this number; the last `rows` of them yield rows.
    pub(crate) fn feed(&mut self, number: usize, tokens: &[TokenId], rows: usize, call: &mut Call) {
        let before = call.parcels[self.source].feed(self.sequence, tokens, rows);
        self.rows.extend((before..before + rows).map(|index| RowAt { call: number, index }));
    }

    /// Feeds what the source does not hold of `tokens`, the generated text so far and perhaps a draft of its
    /// continuation. Every token yields a row, so that a token's log-probability is known however late the source hears
    /// of it.
    pub(crate) fn catch_up(&mut self, number: usize, tokens: &[TokenId], call: &mut Call) {
        let new = &tokens[self.fed..];
        self.fed += new.len();
        if !new.is_empty() {
            self.feed(number, new, new.len(), call);
        }
    }

    /// Whether there is a row for the position after `generated` tokens.
    pub(crate) fn has_row(&self, generated: usize) -> bool {
        self.credited + self.rows.len() > generated
    }

    /// The row of the position after `tokens`.
    pub(crate) fn row<'a>(
        &self,
        tokens: &[TokenId],
        yielded: &'a Yielded,
        width: usize,
    ) -> Result<Option<RoleRow<'a>>> {
        if !self.has_row(tokens.len()) {
            return Ok(None);
        }
        let mut log_prob = self.log_prob;
        for (at, &token) in self.rows.iter().zip(&tokens[self.credited..]) {
            log_prob += at.log_prob(token, self.source, yielded)?;
        }
        let at = self.rows[tokens.len() - self.credited];
        let done = at.found(self.source, yielded)?;
        Ok(Some(RoleRow::new(done.row(at.index, width), done.log_normalisers[at.index], log_prob)))
    }

    /// Takes the rows of generated tokens into account.
    fn credit(&mut self, tokens: &[TokenId], yielded: &Yielded) -> Result<()> {
        let late = &tokens[self.credited..];
        let known = late.len().min(self.rows.len());
        for (at, &token) in self.rows.drain(..known).zip(late) {
            self.log_prob += at.log_prob(token, self.source, yielded)?;
        }
        self.credited += known;
        Ok(())
    }

    /// Forgets rows that nobody used, whose buffers go back to their source, and drafted tokens that did not become text.
    /// Of the generated tokens the last one is never fed: its row belongs to the next step. Returns how many tokens the
    /// source should keep, if it holds more.
    pub(crate) fn rewind(&mut self, generated: usize) -> Option<usize> {
        self.rows.clear();
        let kept = self.fed.min(generated.saturating_sub(1));
        let surplus = self.fed > kept;
        self.fed = kept;
        surplus.then_some(self.prompt.len() + kept)
    }
}

impl Slot {
    /// Forgets what followed the prompt, as if nothing had.
    pub(crate) fn restart(&mut self) {
        (self.fed, self.log_prob, self.credited) = (0, 0.0, 0);
        self.rows.clear();
    }
}

impl RowAt {
    fn found(self, source: usize, yielded: &Yielded) -> Result<&Parcel> {
        let parcel = yielded.get(self.call).map(|call| &call.parcels[source]);
        parcel
            .filter(|parcel| self.index < parcel.log_normalisers.len())
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a source that was fed yielded no row"))
    }

    fn log_prob(self, token: TokenId, source: usize, yielded: &Yielded) -> Result<f64> {
        let done = self.found(source, yielded)?;
        Ok(f64::from(done.rows.row(self.index)[token as usize]) - done.log_normalisers[self.index])
    }
}

pub(crate) struct Sequence {
    pub(crate) slots: Vec<Slot>,
    /// The slot of each binding.
    pub(crate) slot_of: Vec<usize>,
    pub(crate) state: Box<dyn FusionState>,
    /// How probable the prompt was under each binding; empty if the strategy does not ask.
    pub(crate) prompt: Vec<PromptScore>,
    pub(crate) tokens: Vec<TokenId>,
}

impl Sequence {
    /// The rows of this position by binding; `None` where the source was not asked.
    pub(crate) fn rows<'a>(&self, yielded: &'a Yielded, width: usize) -> Result<ByBinding<Option<RoleRow<'a>>>> {
        self.slot_of.iter().map(|&slot| self.slots[slot].row(&self.tokens, yielded, width)).collect()
    }

    /// Makes `token` final: in the strategy's state and in the running log-probability of every source that was asked.
    pub(crate) fn commit(&mut self, token: TokenId, yielded: &Yielded) -> Result<()> {
        self.tokens.push(token);
        for slot in &mut self.slots {
            slot.credit(&self.tokens, yielded)?;
        }
        self.state.commit(&[token])
    }
}

/// Room for so many tokens is made beforehand at most.
const MOST_RESERVED: usize = 1 << 16;

impl Engine {
    /// Opens the sequences of one request; `reach` is how many tokens it may add to each prompt.
    pub(crate) fn open(&self, prompts: &[Vec<TokenId>], reach: usize) -> Result<Sequence> {
        let all: Vec<usize> = (0..self.session.bindings.len()).collect();
        self.check_prompts(prompts, &all)?;
        let mut sequence = Sequence {
            slots: Vec::new(),
            slot_of: Vec::new(),
            state: self.strategy.start(&self.session)?,
            prompt: Vec::new(),
            tokens: Vec::with_capacity(reach.min(MOST_RESERVED)),
        };
        let drafter = match self.speculation.as_ref().map(|speculation| speculation.draft) {
            Some(Draft::Source(source)) => prompts.first().map(|prompt| (prompt, source)),
            _ => None,
        };
        let bound = prompts.iter().zip(self.binding_sources.iter().copied());
        for (nth, (prompt, source)) in bound.chain(drafter).enumerate() {
            let is_bound = nth < prompts.len();
            let shared = sequence.slots.iter().position(|s| s.source == source && s.prompt == *prompt);
            if let Some(slot) = shared.filter(|_| is_bound) {
                sequence.slot_of.push(slot);
                continue;
            }
            match self.open_slot(prompt, source, reach) {
                Ok(slot) => {
                    if is_bound {
                        sequence.slot_of.push(sequence.slots.len());
                    }
                    sequence.slots.push(slot);
                }
                Err(e) => {
                    self.close(&sequence);
                    return Err(e);
                }
            }
        }
        Ok(sequence)
    }

    /// Whether these bindings can read their prompts, of which there is one for every binding.
    pub(crate) fn check_prompts(&self, prompts: &[Vec<TokenId>], wanted: &[usize]) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if prompts.len() != self.session.bindings.len() {
            return wrong(format!("{} prompts for {} roles", prompts.len(), self.session.bindings.len()));
        }
        for &nth in wanted {
            let (prompt, binding) = (&prompts[nth], &self.session.bindings[nth]);
            let info = self.workers[self.binding_sources[nth]].info();
            if prompt.is_empty() {
                return wrong(format!(
                    "the prompt of role `{}` (source `{}`) has no token",
                    binding.role, binding.source
                ));
            }
            if let Some(limit) = info.context_length.filter(|&limit| prompt.len() > limit) {
                let what = format!(
                    "source `{}`: the prompt has {} tokens, the context holds {limit}",
                    info.name,
                    prompt.len()
                );
                return Err(Error::new(ErrorKind::ContextOverflow, what)
                    .with_help("shorten the prompt, or use a model with a longer context"));
            }
            if let Some(&id) = prompt.iter().find(|&&id| id as usize >= info.logit_width) {
                return wrong(format!(
                    "source `{}`: prompt token {id} is not in its vocabulary of {}",
                    info.name, info.logit_width
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn open_slot(&self, prompt: &[TokenId], source: usize, reach: usize) -> Result<Slot> {
        let limit = self.workers[source].info().context_length.unwrap_or(usize::MAX);
        let tokens = prompt.len().saturating_add(reach).min(limit);
        let id = self.workers[source].call(move |source| {
            let id = source.open()?;
            source.reserve(id, tokens).inspect_err(|_| source.close(id)).map(|()| id)
        })??;
        Ok(Slot::new(source, id, prompt))
    }

    /// Releases what a sequence holds in its sources.
    pub(crate) fn close(&self, sequence: &Sequence) {
        for slot in &sequence.slots {
            let id = slot.sequence;
            // A worker that is gone has nothing left to release.
            let _ = self.workers[slot.source].call(move |source| source.close(id));
        }
    }
}

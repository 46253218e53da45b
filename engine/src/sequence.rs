//! The state of one sequence over all sources.

use logitfuse_core::{Error, ErrorKind, FusionState, Result, RoleRow, SequenceId, TokenId};

use crate::{
    Engine,
    step::{Feed, Forwarded},
};

/// One source's sequence. Bindings that share a source *and* a prompt share a slot: the row is computed once.
pub(crate) struct Slot {
    pub(crate) source: usize,
    pub(crate) sequence: SequenceId,
    pub(crate) prompt: Vec<TokenId>,
    /// Log-probability in nats of the first `credited` generated tokens under this source.
    pub(crate) log_prob: f64,
    credited: usize,
    /// Generated tokens that the source has not been fed.
    pending: Vec<TokenId>,
    /// Where the row of the present position lies; `None` if the source was not asked for it.
    pub(crate) row: Option<RowAt>,
}

/// Where a row lies among what sources yielded at one step.
#[derive(Clone, Copy)]
pub(crate) struct RowAt {
    /// Which of the step's calls yielded it.
    pub(crate) call: usize,
    /// Its place among the rows of its source.
    pub(crate) index: usize,
}

/// What the calls of one step yielded, by source.
pub(crate) type Yielded = Vec<Vec<Option<Forwarded>>>;

impl Slot {
    /// The last `rows` tokens of this feed yield rows, the last one that of the present position.
    pub(crate) fn feed(&mut self, call: usize, tokens: Vec<TokenId>, rows: usize, feeds: &mut [Vec<Feed>]) {
        let feeds = &mut feeds[self.source];
        let before = feeds.iter().map(|feed| feed.rows).sum::<usize>();
        self.row = Some(RowAt { call, index: before + rows - 1 });
        feeds.push(Feed { sequence: self.sequence, tokens, rows });
    }

    /// Feeds all that is pending. Each token that nobody has asked the source about yields a row too, so that its
    /// log-probability is known however late the source hears of it.
    pub(crate) fn catch_up(&mut self, call: usize, feeds: &mut [Vec<Feed>]) {
        let tokens = std::mem::take(&mut self.pending);
        let rows = tokens.len();
        self.feed(call, tokens, rows, feeds);
    }

    fn yielded<'a>(&self, at: RowAt, yielded: &'a Yielded) -> Result<&'a Forwarded> {
        yielded[at.call][self.source]
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a source that was fed yielded no row"))
    }

    /// Takes the present position's row into account, and those of positions that went by without this source.
    fn credit(&mut self, tokens: &[TokenId], yielded: &Yielded) -> Result<()> {
        let Some(at) = self.row.take() else { return Ok(()) };
        let done = self.yielded(at, yielded)?;
        let late = &tokens[self.credited..];
        for (row, &token) in (at.index + 1 - late.len()..).zip(late) {
            self.log_prob += f64::from(done.rows.row(row)[token as usize]) - done.log_normalisers[row];
        }
        self.credited = tokens.len();
        Ok(())
    }
}

pub(crate) struct Sequence {
    pub(crate) slots: Vec<Slot>,
    /// The slot of each binding.
    pub(crate) slot_of: Vec<usize>,
    pub(crate) state: Box<dyn FusionState>,
    pub(crate) tokens: Vec<TokenId>,
}

impl Sequence {
    /// The slot of a binding.
    pub(crate) fn slot(&mut self, binding: usize) -> &mut Slot {
        &mut self.slots[self.slot_of[binding]]
    }

    /// The rows of this position by binding; `None` where the source was not asked.
    pub(crate) fn rows<'a>(&self, yielded: &'a Yielded, width: usize) -> Result<Vec<Option<RoleRow<'a>>>> {
        self.slot_of
            .iter()
            .map(|&slot| {
                let slot = &self.slots[slot];
                let Some(at) = slot.row else { return Ok(None) };
                let done = slot.yielded(at, yielded)?;
                // Rows of positions that went by without the source come before the present one.
                let late = self.tokens[slot.credited..].iter().zip(at.index + slot.credited - self.tokens.len()..);
                let late = late.map(|(&t, row)| f64::from(done.rows.row(row)[t as usize]) - done.log_normalisers[row]);
                let log_prob = late.fold(slot.log_prob, |sum, x| sum + x);
                Ok(Some(RoleRow::new(done.row(at.index, width), done.log_normalisers[at.index], log_prob)))
            })
            .collect()
    }

    /// Makes `token` final: in the strategy's state and in the running log-probability of every source that was asked.
    pub(crate) fn commit(&mut self, token: TokenId, yielded: &Yielded) -> Result<()> {
        self.tokens.push(token);
        for slot in &mut self.slots {
            slot.credit(&self.tokens, yielded)?;
            slot.pending.push(token);
        }
        self.state.commit(&[token])
    }
}

impl Engine {
    /// Opens the sequences of one request; `reach` is how many tokens it may add to each prompt.
    pub(crate) fn open(&self, prompts: &[Vec<TokenId>], reach: usize) -> Result<Sequence> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let bindings = &self.session.bindings;
        if prompts.len() != bindings.len() {
            return wrong(format!("{} prompts for {} roles", prompts.len(), bindings.len()));
        }
        for (prompt, binding) in prompts.iter().zip(bindings) {
            if prompt.is_empty() {
                return wrong(format!(
                    "the prompt of role `{}` (source `{}`) has no token",
                    binding.role, binding.source
                ));
            }
        }
        for (prompt, &source) in prompts.iter().zip(&self.binding_sources) {
            let info = self.workers[source].info();
            if let Some(limit) = info.context_length.filter(|&limit| prompt.len() > limit) {
                return Err(Error::new(
                    ErrorKind::ContextOverflow,
                    format!(
                        "source `{}`: the prompt has {} tokens, the context holds {limit}",
                        info.name,
                        prompt.len()
                    ),
                )
                .with_help("shorten the prompt, or use a model with a longer context"));
            }
            if let Some(&id) = prompt.iter().find(|&&id| id as usize >= info.logit_width) {
                return wrong(format!(
                    "source `{}`: prompt token {id} is not in its vocabulary of {}",
                    info.name, info.logit_width
                ));
            }
        }
        let mut sequence = Sequence {
            slots: Vec::new(),
            slot_of: Vec::new(),
            state: self.strategy.start(&self.session)?,
            tokens: Vec::new(),
        };
        for (prompt, &source) in prompts.iter().zip(&self.binding_sources) {
            let shared = sequence.slots.iter().position(|s| s.source == source && s.prompt == *prompt);
            if let Some(slot) = shared {
                sequence.slot_of.push(slot);
                continue;
            }
            let limit = self.workers[source].info().context_length.unwrap_or(usize::MAX);
            let tokens = prompt.len().saturating_add(reach).min(limit);
            let opened = self.workers[source].call(move |source| {
                let id = source.open()?;
                source.reserve(id, tokens).inspect_err(|_| source.close(id)).map(|()| id)
            })?;
            match opened {
                Ok(id) => {
                    sequence.slot_of.push(sequence.slots.len());
                    let prompt = prompt.clone();
                    let (log_prob, credited, pending) = (0.0, 0, Vec::new());
                    sequence.slots.push(Slot { source, sequence: id, prompt, log_prob, credited, pending, row: None });
                }
                Err(e) => {
                    self.close(&sequence);
                    return Err(e);
                }
            }
        }
        Ok(sequence)
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

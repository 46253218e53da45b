//! The state of one sequence over all sources.

use logitfuse_core::{Error, ErrorKind, FusionState, Result, RoleRow, SequenceId, TokenId};

use crate::{Engine, step::Forwarded};

/// One source's sequence. Bindings that share a source *and* a prompt share a slot: the row is computed once.
pub(crate) struct Slot {
    pub(crate) source: usize,
    pub(crate) sequence: SequenceId,
    pub(crate) prompt: Vec<TokenId>,
    /// Log-probability in nats of the committed tokens under this source.
    pub(crate) log_prob: f64,
    /// Where this slot's next row lies among the rows that its source yields.
    pub(crate) row: usize,
}

pub(crate) struct Sequence {
    pub(crate) slots: Vec<Slot>,
    /// The slot of each binding.
    pub(crate) slot_of: Vec<usize>,
    pub(crate) state: Box<dyn FusionState>,
    pub(crate) tokens: Vec<TokenId>,
}

impl Sequence {
    /// The rows of this position by binding.
    pub(crate) fn rows<'a>(&self, forwarded: &'a [Option<Forwarded>], width: usize) -> Result<Vec<RoleRow<'a>>> {
        self.slot_of
            .iter()
            .map(|&slot| {
                let slot = &self.slots[slot];
                let done = forwarded[slot.source]
                    .as_ref()
                    .ok_or_else(|| Error::new(ErrorKind::Internal, "a source that was fed yielded no row"))?;
                Ok(RoleRow::new(done.row(slot.row, width), done.log_normalisers[slot.row], slot.log_prob))
            })
            .collect()
    }

    /// Makes `token` final: in the strategy's state and in every source's running log-probability.
    pub(crate) fn commit(&mut self, token: TokenId, forwarded: &[Option<Forwarded>]) -> Result<()> {
        for slot in &mut self.slots {
            if let Some(done) = &forwarded[slot.source] {
                let logit = done.rows.row(slot.row)[token as usize];
                slot.log_prob += f64::from(logit) - done.log_normalisers[slot.row];
            }
        }
        self.tokens.push(token);
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
                    sequence.slots.push(Slot { source, sequence: id, prompt: prompt.clone(), log_prob: 0.0, row: 0 });
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

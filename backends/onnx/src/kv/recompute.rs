use std::collections::BTreeMap;

use logitfuse_core::{Result, Rows, SequenceId, TokenId};

use super::{Cache, Chunk, SequenceStep, copy_rows};
use crate::{
    decoder::{Binding, Call, Decoder},
    signature::LogitRows,
};

/// No cache, for graphs that have none: every call runs the whole sequence.
pub(crate) struct Recompute {
    sequences: BTreeMap<SequenceId, Vec<TokenId>>,
    binding: Binding,
}

impl Recompute {
    pub(crate) fn new(decoder: &Decoder) -> Result<Self> {
        Ok(Self { sequences: BTreeMap::new(), binding: decoder.binding()? })
    }

    fn run(&mut self, decoder: &mut Decoder, step: &SequenceStep<'_>, tokens: &[TokenId], rows: usize) -> Result<()> {
        decoder.run(&mut self.binding, &Call { tokens: &[tokens], pasts: &[0], rows })?;
        debug_assert!(rows <= step.rows.max(1), "more rows than were asked for");
        Ok(())
    }

    fn forward_one(&mut self, decoder: &mut Decoder, step: &SequenceStep<'_>, out: &mut Rows) -> Result<Vec<TokenId>> {
        let mut tokens = self.sequences.get(&step.sequence).cloned().unwrap_or_default();
        let past = tokens.len();
        tokens.extend_from_slice(step.tokens);
        let end = step.tokens.len();
        if decoder.signature.rows == Some(LogitRows::Last) {
            for wanted in end - step.rows..end {
                self.run(decoder, step, &tokens[..=past + wanted], 1)?;
                copy_rows(decoder, 0, step, &Chunk { tokens: wanted..wanted + 1, rows: 1 }, out);
            }
        } else if step.rows > 0 {
            self.run(decoder, step, &tokens, step.rows)?;
            copy_rows(decoder, 0, step, &Chunk { tokens: 0..end, rows: step.rows }, out);
        }
        Ok(tokens)
    }
}

impl Cache for Recompute {
    fn open(&mut self, sequence: SequenceId) {
        self.sequences.insert(sequence, Vec::new());
    }

    fn fork(&mut self, _decoder: &Decoder, of: SequenceId, sequence: SequenceId) -> Result<()> {
        if let Some(original) = self.sequences.get(&of).cloned() {
            self.sequences.insert(sequence, original);
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) {
        if let Some(tokens) = self.sequences.get_mut(&sequence) {
            tokens.truncate(len);
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.sequences.get(&sequence).map(Vec::len)
    }

    fn forward(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()> {
        let grown = steps
            .iter()
            .map(|step| Ok((step.sequence, self.forward_one(decoder, step, out)?)))
            .collect::<Result<Vec<_>>>()?;
        self.sequences.extend(grown);
        Ok(())
    }
}

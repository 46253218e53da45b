use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Result, Rows, SequenceId};
use ort::value::DynTensor;

use super::{Cache, SequenceStep, chunks, copy_rows};
use crate::{
    decoder::{Binding, Call, Decoder},
    error,
    memory::{HostMemory, TensorDesc, bytes_of},
    signature::{CacheTensor, LogitRows},
};

/// The present caches that one call returns are the past of the next: tensors are handed over, not copied. For graphs that
/// concatenate past and new themselves.
///
/// Sequences run one by one, which makes their rows independent of the batch. The tensors are never written again, so a fork
/// shares them; after a truncation the tokens that are left are copied when the sequence next grows.
pub(crate) struct PassThrough {
    sequences: BTreeMap<SequenceId, Sequence>,
    empty: Arc<Vec<DynTensor>>,
    binding: Binding,
}

#[derive(Clone)]
struct Sequence {
    len: usize,
    /// Tokens that `past` holds; more than `len` after a truncation.
    held: usize,
    past: Arc<Vec<DynTensor>>,
}

impl PassThrough {
    pub(crate) fn new(decoder: &Decoder) -> Result<Self> {
        let empty = Arc::new(decoder.empty_cache()?);
        Ok(Self { sequences: BTreeMap::new(), empty, binding: decoder.binding()? })
    }

    /// Runs one step and returns the sequence after it.
    fn run(&mut self, decoder: &mut Decoder, step: &SequenceStep<'_>, out: &mut Rows) -> Result<Sequence> {
        let Some(mut sequence) = self.sequences.get(&step.sequence).cloned() else {
            return Err(Error::new(ErrorKind::Internal, format!("{}: a sequence is missing", decoder.name)));
        };
        if sequence.len < sequence.held {
            sequence.past =
                if sequence.len == 0 { Arc::clone(&self.empty) } else { Arc::new(prefix(decoder, &sequence)?) };
            sequence.held = sequence.len;
        }
        let rows = decoder.signature.rows.unwrap_or(LogitRows::Last);
        for chunk in chunks(step.tokens.len(), step.rows, decoder.chunk_tokens, rows) {
            let tokens = &step.tokens[chunk.tokens.clone()];
            let call = Call { tokens: &[tokens], pasts: &[sequence.len], rows: chunk.rows };
            let present = decoder.run_with_past(&mut self.binding, &sequence.past, &call)?;
            sequence.past = Arc::new(present);
            sequence.len += tokens.len();
            sequence.held = sequence.len;
            check(decoder, &sequence)?;
            copy_rows(decoder, 0, step, &chunk, out);
        }
        Ok(sequence)
    }
}

impl Cache for PassThrough {
    fn open(&mut self, sequence: SequenceId) {
        self.sequences.insert(sequence, Sequence { len: 0, held: 0, past: Arc::clone(&self.empty) });
    }

    fn fork(&mut self, _decoder: &Decoder, of: SequenceId, sequence: SequenceId) -> Result<()> {
        if let Some(original) = self.sequences.get(&of).cloned() {
            self.sequences.insert(sequence, original);
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) {
        if let Some(sequence) = self.sequences.get_mut(&sequence) {
            sequence.len = len;
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.sequences.get(&sequence).map(|sequence| sequence.len)
    }

    fn forward(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()> {
        let grown =
            steps.iter().map(|step| Ok((step.sequence, self.run(decoder, step, out)?))).collect::<Result<Vec<_>>>()?;
        self.sequences.extend(grown);
        Ok(())
    }
}

/// Refuses a cache that drops tokens (a sliding window inside the graph): it cannot be truncated.
fn check(decoder: &Decoder, sequence: &Sequence) -> Result<()> {
    for (tensor, present) in decoder.signature.cache.iter().zip(&*sequence.past) {
        let tokens = present.shape().get(tensor.axis).copied().unwrap_or_default();
        if usize::try_from(tokens) != Ok(sequence.len) {
            let message = format!(
                "{}: output `{}` holds {tokens} tokens where {} were fed",
                decoder.name, tensor.present, sequence.len
            );
            return Err(Error::new(ErrorKind::Unsupported, message).with_help(
                "export the model with a cache that keeps every token; a sliding window belongs into the mask",
            ));
        }
    }
    Ok(())
}

/// Copies of the first `len` tokens.
fn prefix(decoder: &Decoder, sequence: &Sequence) -> Result<Vec<DynTensor>> {
    let cut = |(tensor, past): (&CacheTensor, &DynTensor)| {
        let fetched =
            if decoder.device.is_some() { Some(past.to(ort::memory::AllocationDevice::CPU, 0)?) } else { None };
        let source = bytes_of(fetched.as_ref().unwrap_or(past));
        let (from, to) = (tensor.shape(1, sequence.held), tensor.shape(1, sequence.len));
        let inner = from[tensor.axis + 1..].iter().product::<usize>() * tensor.element.bytes();
        let outer: usize = from[..tensor.axis].iter().product();
        let target = HostMemory::zeroed(outer * sequence.len * inner);
        let (Some(source), Some(mut target)) = (source, target) else {
            return Err(ort::Error::new("a cache is not readable"));
        };
        for i in 0..outer {
            target.copy_from(i * sequence.len * inner, &source, i * sequence.held * inner, sequence.len * inner);
        }
        target.to_tensor(&TensorDesc { element: tensor.element, shape: &to }, decoder.device)
    };
    let tensors = decoder.signature.cache.iter().zip(&*sequence.past);
    tensors.map(cut).collect::<ort::Result<_>>().map_err(error::backend(&decoder.name))
}

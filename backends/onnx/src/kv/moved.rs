use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Result, Rows, SequenceId};
use ort::{session::IoBinding, value::DynTensor};

use super::{Cache, Job, copy_rows, pieces};
use crate::{
    decoder::{Call, Decoder, Outputs},
    fault,
    memory::{Form, HostMemory, Memory, bytes_of},
    signature::{CacheTensor, LogitRows},
};

/// What a call returns as present is the past of the next: tensors are handed over, not copied. For graphs that
/// concatenate past and new themselves.
///
/// Sequences run one by one, which makes their rows independent of their company. The tensors are never written again,
/// so a fork shares them; what a truncation cuts off is copied away when the sequence next grows.
pub(crate) struct Moved {
    sequences: BTreeMap<SequenceId, Sequence>,
    empty: Arc<Vec<DynTensor>>,
    io: IoBinding,
}

#[derive(Clone)]
struct Sequence {
    len: usize,
    /// Tokens that `past` holds; more than `len` after a truncation.
    held: usize,
    past: Arc<Vec<DynTensor>>,
}

impl Moved {
    pub(crate) fn new(decoder: &Decoder) -> Result<Self> {
        let empty = Arc::new(decoder.empty_cache()?);
        Ok(Self { sequences: BTreeMap::new(), empty, io: decoder.binding()? })
    }

    /// Runs one job and returns what its sequence becomes.
    fn run(&mut self, decoder: &mut Decoder, job: &Job<'_>, out: &mut Rows) -> Result<Sequence> {
        let Some(mut sequence) = self.sequences.get(&job.sequence).cloned() else {
            return Err(Error::new(ErrorKind::Internal, format!("{}: a sequence is gone", decoder.name)));
        };
        if sequence.len < sequence.held {
            sequence.past =
                if sequence.len == 0 { Arc::clone(&self.empty) } else { Arc::new(prefix(decoder, &sequence)?) };
            sequence.held = sequence.len;
        }
        let rows = decoder.signature.rows.unwrap_or(LogitRows::Last);
        for piece in pieces(job.tokens.len(), job.rows, decoder.chunk_tokens, rows) {
            let tokens = &job.tokens[piece.tokens.clone()];
            let call = Call { tokens: &[tokens], pasts: &[sequence.len], rows: piece.rows };
            decoder.bind(&mut self.io, &call, Outputs::Taken)?;
            let present =
                bind_cache(&mut self.io, decoder, &sequence.past).and_then(|()| decoder.run_taking_cache(&self.io));
            // The binding would keep the old past alive beside the new.
            self.io.clear();
            sequence.past = Arc::new(present?);
            sequence.len += tokens.len();
            sequence.held = sequence.len;
            check(decoder, &sequence)?;
            copy_rows(decoder, 0, job, &piece, out);
        }
        Ok(sequence)
    }
}

impl Cache for Moved {
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

    fn forward(&mut self, decoder: &mut Decoder, jobs: &[Job<'_>], out: &mut Rows) -> Result<()> {
        let grown =
            jobs.iter().map(|job| Ok((job.sequence, self.run(decoder, job, out)?))).collect::<Result<Vec<_>>>()?;
        self.sequences.extend(grown);
        Ok(())
    }
}

fn bind_cache(io: &mut IoBinding, decoder: &Decoder, past: &[DynTensor]) -> Result<()> {
    let memory = decoder.cache_memory()?;
    let mut bind = |tensor: &CacheTensor, past: &DynTensor| {
        io.bind_input(&*tensor.past, past)?;
        io.bind_output_to_device(&*tensor.present, &memory)
    };
    decoder
        .signature
        .cache
        .iter()
        .zip(past)
        .try_for_each(|(tensor, past)| bind(tensor, past))
        .map_err(fault::backend(&decoder.name))
}

/// A cache that silently forgets (a window inside the graph) cannot be truncated or trusted: say so at once.
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
        let source = bytes_of(fetched.as_ref().unwrap_or(past), tensor.element);
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
        own(target, &Form { element: tensor.element, shape: &to }, decoder)
    };
    let tensors = decoder.signature.cache.iter().zip(&*sequence.past);
    tensors.map(cut).collect::<ort::Result<_>>().map_err(fault::backend(&decoder.name))
}

/// A tensor that owns what was assembled on the host.
fn own(host: HostMemory, form: &Form<'_>, decoder: &Decoder) -> ort::Result<DynTensor> {
    let memory = Memory::Host(host);
    let view = memory.view(0, form, &ort::memory::MemoryInfo::default())?;
    match decoder.device {
        Some(id) => view.to(ort::memory::AllocationDevice::CUDA, id),
        None => view.to(ort::memory::AllocationDevice::CPU, 0),
    }
}

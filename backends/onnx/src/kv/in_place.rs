use std::collections::{BTreeMap, btree_map::Entry};

use logitfuse_core::{Error, ErrorKind, Result, Rows, SequenceId};
use smallvec::SmallVec;

use super::{Cache, Chunk, SequenceStep, buffer::KvBuffer, chunks, copy_rows};
use crate::{
    decoder::{Call, Decoder},
    error,
    memory::{CacheMemory, HostMemory, TensorDesc, bytes_of},
    signature::LogitRows,
};

/// Key/value caches in buffers that past and present share, sized by need: the graph writes new keys and values behind the
/// old ones.
///
/// Sequences that decode together lie side by side in one buffer, `[slots, heads, capacity, head]`, so that one call
/// steps them all; a sequence that runs alone uses the part of the buffer that is its slot. Truncating a sequence changes a
/// number. Sequences are copied to another buffer only when another set decodes together or a buffer is full.
pub(crate) struct InPlace {
    sequences: BTreeMap<SequenceId, Sequence>,
    buffers: BTreeMap<BufferId, KvBuffer>,
    next_buffer: u64,
    limit: Option<usize>,
    /// By batch size: whether a batched step gives the very bits that stepping each sequence alone does.
    batch_exact: BTreeMap<usize, bool>,
}

type BufferId = u64;

#[derive(Clone, Copy, Default)]
struct Sequence {
    len: usize,
    reserved: usize,
    place: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    buffer: BufferId,
    slot: usize,
}

/// One entry per sequence of a batch; up to 16 need no allocation.
type BatchVec<T> = SmallVec<[T; 16]>;

/// Capacities are multiples of this.
const CAPACITY_STEP: usize = 16;

impl InPlace {
    /// `limit` is the context length: no buffer needs to be longer.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let (sequences, buffers, batch_exact) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { sequences, buffers, next_buffer: 0, limit, batch_exact }
    }

    fn sequence(&self, id: SequenceId) -> Sequence {
        self.sequences.get(&id).copied().unwrap_or_default()
    }

    /// Makes these sequences lie side by side, in some order, with room for `extra` more tokens each.
    /// Returns the buffer, its first slot of theirs, and the order of slots as indices into `ids`.
    fn gather(
        &mut self,
        decoder: &Decoder,
        ids: &[SequenceId],
        extra: usize,
    ) -> Result<(BufferId, usize, BatchVec<usize>)> {
        let need = ids.iter().map(|&id| self.sequence(id).len + extra).max().unwrap_or(extra);
        if let Some(found) = self.contiguous_slots(ids, need) {
            return Ok(found);
        }
        let before =
            ids.iter().filter_map(|&id| Some(self.buffers.get(&self.sequence(id).place?.buffer)?.capacity())).max();
        let capacity = self.capacity(ids, need, before.unwrap_or(0));
        let buffer = self.copy_into_new_buffer(decoder, ids, capacity)?;
        for (slot, id) in ids.iter().enumerate() {
            if let Some(sequence) = self.sequences.get_mut(id) {
                sequence.place = Some(Place { buffer, slot });
            }
        }
        self.drop_unused();
        Ok((buffer, 0, (0..ids.len()).collect()))
    }

    fn contiguous_slots(&self, ids: &[SequenceId], need: usize) -> Option<(BufferId, usize, BatchVec<usize>)> {
        let places = ids.iter().map(|&id| self.sequence(id).place).collect::<Option<BatchVec<_>>>()?;
        let buffer = places.first()?.buffer;
        let mut order: BatchVec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&i| places[i].slot);
        let first = places[order[0]].slot;
        let contiguous =
            order.iter().enumerate().all(|(n, &i)| places[i].buffer == buffer && places[i].slot == first + n);
        (contiguous && self.buffers.get(&buffer)?.capacity() >= need).then_some((buffer, first, order))
    }

    /// At least what is needed and what was announced; doubled where a buffer was too small before.
    fn capacity(&self, ids: &[SequenceId], need: usize, before: usize) -> usize {
        let announced = ids.iter().map(|&id| self.sequence(id).reserved).max().unwrap_or(0);
        let doubled = if before > 0 && before < need { 2 * before } else { before.min(2 * need) };
        let wanted = need.max(announced).max(doubled).next_multiple_of(CAPACITY_STEP);
        self.limit.map_or(wanted, |limit| wanted.min(limit)).max(need)
    }

    /// A new buffer that holds copies of these sequences, in this order.
    fn copy_into_new_buffer(&mut self, decoder: &Decoder, ids: &[SequenceId], capacity: usize) -> Result<BufferId> {
        let caches = (0..decoder.signature.cache.len())
            .map(|cache| self.copy_cache(decoder, ids, capacity, cache))
            .collect::<Result<Vec<_>>>()?;
        let id = self.next_buffer;
        self.next_buffer += 1;
        self.buffers.insert(id, KvBuffer::new(caches, ids.len(), capacity));
        Ok(id)
    }

    fn copy_cache(&self, decoder: &Decoder, ids: &[SequenceId], capacity: usize, cache: usize) -> Result<CacheMemory> {
        let tensor = &decoder.signature.cache[cache];
        let shape = tensor.shape(ids.len(), capacity);
        let row = shape[3] * tensor.element.bytes();
        let too_large = || {
            Error::new(ErrorKind::Backend, format!("{}: a cache of {capacity} tokens is too large", decoder.name))
                .with_help("shorten the prompt or ask for fewer tokens")
        };
        let bytes = shape[..3].iter().try_fold(row, |bytes, &n| bytes.checked_mul(n)).ok_or_else(too_large)?;
        let mut target = HostMemory::zeroed(bytes).ok_or_else(too_large)?;
        let mut on_host: BTreeMap<BufferId, HostMemory> = BTreeMap::new();
        for (slot, &id) in ids.iter().enumerate() {
            let Sequence { len, place, .. } = self.sequence(id);
            let Some((place, buffer)) = place.and_then(|place| Some((place, self.buffers.get(&place.buffer)?))) else {
                continue;
            };
            if len == 0 {
                continue;
            }
            let source = match buffer.cache(cache).host() {
                Some(host) => host,
                None => match on_host.entry(place.buffer) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let tensor = buffer.cache(cache).to_host().map_err(error::backend(&decoder.name))?;
                        let memory = tensor.and_then(|tensor| bytes_of(&tensor));
                        entry.insert(memory.ok_or_else(too_large)?)
                    }
                },
            };
            for head in 0..shape[1] {
                let from = (place.slot * shape[1] + head) * buffer.capacity() * row;
                let to = (slot * shape[1] + head) * capacity * row;
                target.copy_from(to, source, from, len * row);
            }
        }
        CacheMemory::on_device(target, &TensorDesc { element: tensor.element, shape: &shape }, decoder.device)
            .map_err(error::backend(&decoder.name))
    }

    fn drop_unused(&mut self) {
        let sequences = &self.sequences;
        self.buffers
            .retain(|id, _| sequences.values().any(|sequence| sequence.place.is_some_and(|place| place.buffer == *id)));
    }

    /// Runs one step, chunk by chunk.
    fn run_single(&mut self, decoder: &mut Decoder, step: &SequenceStep<'_>, out: &mut Rows) -> Result<()> {
        let (buffer, slot, _) = self.gather(decoder, &[step.sequence], step.tokens.len())?;
        let past = self.sequence(step.sequence).len;
        let rows = decoder.signature.rows.unwrap_or(LogitRows::Last);
        for chunk in chunks(step.tokens.len(), step.rows, decoder.chunk_tokens, rows) {
            let tokens = &step.tokens[chunk.tokens.clone()];
            let call = Call { tokens: &[tokens], pasts: &[past + chunk.tokens.start], rows: chunk.rows };
            self.run(decoder, buffer, slot, &call)?;
            copy_rows(decoder, 0, step, &chunk, out);
        }
        Ok(())
    }

    /// Runs steps of one token each as one call.
    fn run_batched(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()> {
        let ids: BatchVec<SequenceId> = steps.iter().map(|step| step.sequence).collect();
        let (buffer, first, order) = self.gather(decoder, &ids, 1)?;
        let tokens: BatchVec<_> = order.iter().map(|&i| steps[i].tokens).collect();
        let pasts: BatchVec<usize> = order.iter().map(|&i| self.sequence(steps[i].sequence).len).collect();
        self.run(decoder, buffer, first, &Call { tokens: &tokens, pasts: &pasts, rows: 1 })?;
        for (place, &i) in order.iter().enumerate() {
            let step = &steps[i];
            copy_rows(decoder, place, step, &Chunk { tokens: 0..1, rows: step.rows }, out);
        }
        Ok(())
    }

    fn run(&mut self, decoder: &mut Decoder, buffer: BufferId, slot: usize, call: &Call<'_>) -> Result<()> {
        self.buffers.get_mut(&buffer).ok_or_else(|| missing_buffer(decoder))?.run(decoder, slot, call)
    }

    /// Whether these sequences lie in one buffer with idle ones between them. Gathering them would copy their caches, and copy
    /// them back when the others go on.
    fn idle_between(&self, steps: &[SequenceStep<'_>]) -> bool {
        let places: Option<BatchVec<Place>> = steps.iter().map(|step| self.sequence(step.sequence).place).collect();
        let Some((buffer, places)) = places.and_then(|places| Some((places.first()?.buffer, places))) else {
            return false;
        };
        let Some(capacity) = self.buffers.get(&buffer).map(KvBuffer::capacity) else { return false };
        let fits = steps.iter().all(|step| self.sequence(step.sequence).len < capacity);
        if !fits || places.iter().any(|place| place.buffer != buffer) {
            return false;
        }
        let slots = places.iter().map(|place| place.slot);
        let (Some(first), Some(last)) = (slots.clone().min(), slots.max()) else { return false };
        let held =
            |slot| self.sequences.values().any(|s| s.place.is_some_and(|p| p.buffer == buffer && p.slot == slot));
        last - first >= steps.len() && (first..last).all(held)
    }

    fn slot(&self, sequence: SequenceId) -> usize {
        self.sequence(sequence).place.map_or(0, |place| place.slot)
    }

    /// Steps sequences by one token each.
    fn step(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()> {
        match steps {
            [] => Ok(()),
            [step] => self.run_single(decoder, step, out),
            several => self.step_all(decoder, several, out),
        }
    }

    /// Steps several sequences by one token. The first time that so many step together, each is also stepped alone: a
    /// matrix product of several rows may add up in another order, and rows must not depend on the batch. Where the
    /// bits differ, sequences are stepped one by one from then on.
    fn step_all(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()> {
        let known = self.batch_exact.get(&steps.len()).copied();
        if known == Some(true) {
            return self.run_batched(decoder, steps, out);
        }
        let mut together = (known.is_none() && steps.iter().all(|step| step.rows > 0)).then(|| out.clone());
        let ran = together.as_mut().is_some_and(|together| self.run_batched(decoder, steps, together).is_ok());
        for step in steps {
            self.run_single(decoder, step, out)?;
        }
        if let Some(together) = together {
            let mut rows = steps.iter().map(|step| step.first_row);
            let same = ran && rows.all(|row| same_bits(together.row(row), out.row(row)));
            self.batch_exact.insert(steps.len(), same);
        }
        Ok(())
    }
}

impl Cache for InPlace {
    fn open(&mut self, sequence: SequenceId) {
        self.sequences.insert(sequence, Sequence::default());
    }

    fn fork(&mut self, decoder: &Decoder, of: SequenceId, sequence: SequenceId) -> Result<()> {
        let original = self.sequence(of);
        let mut copy = Sequence { place: None, ..original };
        if original.len > 0 {
            let capacity = self.capacity(&[of], original.len + 1, 0);
            copy.place = Some(Place { buffer: self.copy_into_new_buffer(decoder, &[of], capacity)?, slot: 0 });
        }
        self.sequences.insert(sequence, copy);
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) {
        if let Some(sequence) = self.sequences.get_mut(&sequence) {
            sequence.len = len;
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.remove(&sequence);
        self.drop_unused();
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.sequences.get(&sequence).map(|sequence| sequence.len)
    }

    fn reserve(&mut self, sequence: SequenceId, tokens: usize) {
        if let Some(sequence) = self.sequences.get_mut(&sequence) {
            sequence.reserved = tokens;
        }
    }

    fn forward(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()> {
        // GroupQueryAttention takes several tokens after a past from one sequence only.
        let (mut single, several): (BatchVec<SequenceStep<'_>>, BatchVec<SequenceStep<'_>>) =
            steps.iter().copied().partition(|step| step.tokens.len() == 1);
        for step in &several {
            self.run_single(decoder, step, out)?;
        }
        if self.idle_between(&single) {
            single.sort_unstable_by_key(|step| self.slot(step.sequence));
            let mut rest = &single[..];
            while let Some(first) = rest.first() {
                let first = self.slot(first.sequence);
                let run = rest.iter().zip(first..).take_while(|(step, slot)| self.slot(step.sequence) == *slot).count();
                self.step(decoder, &rest[..run], out)?;
                rest = &rest[run..];
            }
        } else {
            self.step(decoder, &single, out)?;
        }
        for step in steps {
            if let Some(sequence) = self.sequences.get_mut(&step.sequence) {
                sequence.len += step.tokens.len();
            }
        }
        Ok(())
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn missing_buffer(decoder: &Decoder) -> Error {
    Error::new(ErrorKind::Internal, format!("{}: a cache buffer is gone", decoder.name))
}

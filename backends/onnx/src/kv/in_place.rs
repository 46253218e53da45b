use std::collections::{BTreeMap, btree_map::Entry};

use logitfuse_core::{Error, ErrorKind, Result, Rows, SequenceId};
use smallvec::SmallVec;

use super::{Cache, Job, Piece, block::Block, copy_rows, pieces};
use crate::{
    decoder::{Call, Decoder},
    fault,
    memory::{HostMemory, Memory, TensorDesc, bytes_of},
    signature::LogitRows,
};

/// Past and present are one buffer, sized by need: the graph writes new keys and values behind the old ones.
///
/// Sequences that decode together live side by side in one block, `[slots, heads, capacity, head]`, so that one call
/// steps them all; a sequence that runs alone uses the part of the block that is its slot. Shortening a sequence
/// changes a number. Moving sequences between blocks copies, and happens only when another set decodes together or a
/// block is full.
pub(crate) struct InPlace {
    sequences: BTreeMap<SequenceId, Sequence>,
    blocks: BTreeMap<BlockId, Block>,
    next_block: u64,
    limit: Option<usize>,
    /// By number of sequences: whether stepping them together gives the very bits that stepping each alone does.
    exact: BTreeMap<usize, bool>,
}

type BlockId = u64;

#[derive(Clone, Copy, Default)]
struct Sequence {
    len: usize,
    reserved: usize,
    place: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    block: BlockId,
    slot: usize,
}

/// Of sequences that run together; more need memory of their own.
type Few<T> = SmallVec<[T; 16]>;

/// Capacities are multiples of this.
const GRAIN: usize = 16;

impl InPlace {
    /// `limit` is the context length: no buffer needs to be longer.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let (sequences, blocks, exact) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { sequences, blocks, next_block: 0, limit, exact }
    }

    fn sequence(&self, id: SequenceId) -> Sequence {
        self.sequences.get(&id).copied().unwrap_or_default()
    }

    /// Makes sure that these sequences lie side by side, in some order, with room for `extra` more tokens each.
    /// Returns the block, its first slot of theirs, and the order of slots as indices into `ids`.
    fn gather(&mut self, decoder: &Decoder, ids: &[SequenceId], extra: usize) -> Result<(BlockId, usize, Few<usize>)> {
        let need = ids.iter().map(|&id| self.sequence(id).len + extra).max().unwrap_or(extra);
        if let Some(found) = self.side_by_side(ids, need) {
            return Ok(found);
        }
        let before =
            ids.iter().filter_map(|&id| Some(self.blocks.get(&self.sequence(id).place?.block)?.capacity())).max();
        let capacity = self.capacity(ids, need, before.unwrap_or(0));
        let block = self.assemble(decoder, ids, capacity)?;
        for (slot, id) in ids.iter().enumerate() {
            if let Some(sequence) = self.sequences.get_mut(id) {
                sequence.place = Some(Place { block, slot });
            }
        }
        self.drop_unused();
        Ok((block, 0, (0..ids.len()).collect()))
    }

    fn side_by_side(&self, ids: &[SequenceId], need: usize) -> Option<(BlockId, usize, Few<usize>)> {
        let places = ids.iter().map(|&id| self.sequence(id).place).collect::<Option<Few<_>>>()?;
        let block = places.first()?.block;
        let mut order: Few<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&i| places[i].slot);
        let first = places[order[0]].slot;
        let contiguous =
            order.iter().enumerate().all(|(n, &i)| places[i].block == block && places[i].slot == first + n);
        (contiguous && self.blocks.get(&block)?.capacity() >= need).then_some((block, first, order))
    }

    /// At least what is needed and what was announced; doubled where a block was too small before.
    fn capacity(&self, ids: &[SequenceId], need: usize, before: usize) -> usize {
        let announced = ids.iter().map(|&id| self.sequence(id).reserved).max().unwrap_or(0);
        let doubled = if before > 0 && before < need { 2 * before } else { before.min(2 * need) };
        let wanted = need.max(announced).max(doubled).next_multiple_of(GRAIN);
        self.limit.map_or(wanted, |limit| wanted.min(limit)).max(need)
    }

    /// A new block that holds copies of these sequences, in this order.
    fn assemble(&mut self, decoder: &Decoder, ids: &[SequenceId], capacity: usize) -> Result<BlockId> {
        let lanes = (0..decoder.signature.cache.len())
            .map(|lane| self.assemble_lane(decoder, ids, capacity, lane))
            .collect::<Result<Vec<_>>>()?;
        let id = self.next_block;
        self.next_block += 1;
        self.blocks.insert(id, Block::new(lanes, ids.len(), capacity));
        Ok(id)
    }

    fn assemble_lane(&self, decoder: &Decoder, ids: &[SequenceId], capacity: usize, lane: usize) -> Result<Memory> {
        let tensor = &decoder.signature.cache[lane];
        let shape = tensor.shape(ids.len(), capacity);
        let row = shape[3] * tensor.element.bytes();
        let too_large = || {
            Error::new(ErrorKind::Backend, format!("{}: a cache of {capacity} tokens is too large", decoder.name))
                .with_help("shorten the prompt or ask for fewer tokens")
        };
        let bytes = shape[..3].iter().try_fold(row, |bytes, &n| bytes.checked_mul(n)).ok_or_else(too_large)?;
        let mut target = HostMemory::zeroed(bytes).ok_or_else(too_large)?;
        let mut fetched: BTreeMap<BlockId, HostMemory> = BTreeMap::new();
        for (slot, &id) in ids.iter().enumerate() {
            let Sequence { len, place, .. } = self.sequence(id);
            let Some((place, block)) = place.and_then(|place| Some((place, self.blocks.get(&place.block)?))) else {
                continue;
            };
            if len == 0 {
                continue;
            }
            let source = match block.lane(lane).host() {
                Some(host) => host,
                None => match fetched.entry(place.block) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let tensor_on_host = block.lane(lane).fetch().map_err(fault::backend(&decoder.name))?;
                        let memory = tensor_on_host.and_then(|on_host| bytes_of(&on_host));
                        entry.insert(memory.ok_or_else(too_large)?)
                    }
                },
            };
            for head in 0..shape[1] {
                let from = (place.slot * shape[1] + head) * block.capacity() * row;
                let to = (slot * shape[1] + head) * capacity * row;
                target.copy_from(to, source, from, len * row);
            }
        }
        Memory::place(target, &TensorDesc { element: tensor.element, shape: &shape }, decoder.device)
            .map_err(fault::backend(&decoder.name))
    }

    fn drop_unused(&mut self) {
        let sequences = &self.sequences;
        self.blocks
            .retain(|id, _| sequences.values().any(|sequence| sequence.place.is_some_and(|place| place.block == *id)));
    }

    /// Runs one job, piece by piece.
    fn run_alone(&mut self, decoder: &mut Decoder, job: &Job<'_>, out: &mut Rows) -> Result<()> {
        let (block, slot, _) = self.gather(decoder, &[job.sequence], job.tokens.len())?;
        let past = self.sequence(job.sequence).len;
        let rows = decoder.signature.rows.unwrap_or(LogitRows::Last);
        for piece in pieces(job.tokens.len(), job.rows, decoder.chunk_tokens, rows) {
            let tokens = &job.tokens[piece.tokens.clone()];
            let call = Call { tokens: &[tokens], pasts: &[past + piece.tokens.start], rows: piece.rows };
            self.run(decoder, block, slot, &call)?;
            copy_rows(decoder, 0, job, &piece, out);
        }
        Ok(())
    }

    /// Runs jobs of one token each as one call.
    fn run_together(&mut self, decoder: &mut Decoder, jobs: &[Job<'_>], out: &mut Rows) -> Result<()> {
        let ids: Few<SequenceId> = jobs.iter().map(|job| job.sequence).collect();
        let (block, first, order) = self.gather(decoder, &ids, 1)?;
        let tokens: Few<_> = order.iter().map(|&i| jobs[i].tokens).collect();
        let pasts: Few<usize> = order.iter().map(|&i| self.sequence(jobs[i].sequence).len).collect();
        self.run(decoder, block, first, &Call { tokens: &tokens, pasts: &pasts, rows: 1 })?;
        for (place, &i) in order.iter().enumerate() {
            let job = &jobs[i];
            copy_rows(decoder, place, job, &Piece { tokens: 0..1, rows: job.rows }, out);
        }
        Ok(())
    }

    fn run(&mut self, decoder: &mut Decoder, block: BlockId, slot: usize, call: &Call<'_>) -> Result<()> {
        self.blocks.get_mut(&block).ok_or_else(|| lost(decoder))?.run(decoder, slot, call)
    }

    /// Whether these sequences lie in one block with others between them that rest for now. Moving them together would copy
    /// their caches, and copy them back when the others go on.
    fn rests_between(&self, jobs: &[Job<'_>]) -> bool {
        let places: Option<Few<Place>> = jobs.iter().map(|job| self.sequence(job.sequence).place).collect();
        let Some((block, places)) = places.and_then(|places| Some((places.first()?.block, places))) else {
            return false;
        };
        let Some(capacity) = self.blocks.get(&block).map(Block::capacity) else { return false };
        let fits = jobs.iter().all(|job| self.sequence(job.sequence).len < capacity);
        if !fits || places.iter().any(|place| place.block != block) {
            return false;
        }
        let slots = places.iter().map(|place| place.slot);
        let (Some(first), Some(last)) = (slots.clone().min(), slots.max()) else { return false };
        let held = |slot| self.sequences.values().any(|s| s.place.is_some_and(|p| p.block == block && p.slot == slot));
        last - first >= jobs.len() && (first..last).all(held)
    }

    fn slot(&self, sequence: SequenceId) -> usize {
        self.sequence(sequence).place.map_or(0, |place| place.slot)
    }

    /// Steps sequences by one token each.
    fn step(&mut self, decoder: &mut Decoder, jobs: &[Job<'_>], out: &mut Rows) -> Result<()> {
        match jobs {
            [] => Ok(()),
            [job] => self.run_alone(decoder, job, out),
            several => self.step_all(decoder, several, out),
        }
    }

    /// Steps several sequences by one token. The first time that so many step together, each is also stepped alone: a
    /// matrix product of several rows may add up in another order, and rows must not depend on their company. Where the
    /// bits differ, sequences are stepped one by one from then on.
    fn step_all(&mut self, decoder: &mut Decoder, jobs: &[Job<'_>], out: &mut Rows) -> Result<()> {
        let known = self.exact.get(&jobs.len()).copied();
        if known == Some(true) {
            return self.run_together(decoder, jobs, out);
        }
        let mut together = (known.is_none() && jobs.iter().all(|job| job.rows > 0)).then(|| out.clone());
        let ran = together.as_mut().is_some_and(|together| self.run_together(decoder, jobs, together).is_ok());
        for job in jobs {
            self.run_alone(decoder, job, out)?;
        }
        if let Some(together) = together {
            let mut rows = jobs.iter().map(|job| job.first_row);
            let same = ran && rows.all(|row| same_bits(together.row(row), out.row(row)));
            self.exact.insert(jobs.len(), same);
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
            copy.place = Some(Place { block: self.assemble(decoder, &[of], capacity)?, slot: 0 });
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

    fn forward(&mut self, decoder: &mut Decoder, jobs: &[Job<'_>], out: &mut Rows) -> Result<()> {
        // GroupQueryAttention takes several tokens after a past from one sequence only.
        let (steps, chunks): (Few<Job<'_>>, Few<Job<'_>>) = jobs.iter().copied().partition(|job| job.tokens.len() == 1);
        for job in &chunks {
            self.run_alone(decoder, job, out)?;
        }
        let mut steps = steps;
        if self.rests_between(&steps) {
            steps.sort_unstable_by_key(|job| self.slot(job.sequence));
            let mut rest = &steps[..];
            while let Some(first) = rest.first() {
                let first = self.slot(first.sequence);
                let run = rest.iter().zip(first..).take_while(|(job, slot)| self.slot(job.sequence) == *slot).count();
                self.step(decoder, &rest[..run], out)?;
                rest = &rest[run..];
            }
        } else {
            self.step(decoder, &steps, out)?;
        }
        for job in jobs {
            if let Some(sequence) = self.sequences.get_mut(&job.sequence) {
                sequence.len += job.tokens.len();
            }
        }
        Ok(())
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn lost(decoder: &Decoder) -> Error {
    Error::new(ErrorKind::Internal, format!("{}: a cache block is gone", decoder.name))
}

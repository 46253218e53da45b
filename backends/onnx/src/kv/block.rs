use std::collections::{BTreeMap, btree_map::Entry};

use logitfuse_core::Result;

use crate::{
    decoder::{Binding, Call, Decoder},
    fault,
    memory::{Memory, TensorDesc},
    signature::CacheTensor,
};

/// The key/value caches of sequences that lie side by side, and the bindings that point into them.
///
/// Bindings hold addresses of the caches, so both are owned together. Caches are neither exchanged nor lent for writing,
/// no binding leaves the block, and whoever reads a cache borrows the block, which a run needs for itself.
pub(crate) struct Block {
    /// By the first slot and the number of slots.
    bindings: BTreeMap<(usize, usize), Binding>,
    /// One memory for each cache tensor of the signature, `[slots, heads, capacity, head]`.
    lanes: Vec<Memory>,
    slots: usize,
    capacity: usize,
}

impl Block {
    pub(crate) fn new(lanes: Vec<Memory>, slots: usize, capacity: usize) -> Self {
        Self { bindings: BTreeMap::new(), lanes, slots, capacity }
    }

    /// Tokens that a slot has room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The memory of one cache tensor, to be read.
    pub(crate) fn lane(&self, lane: usize) -> &Memory {
        &self.lanes[lane]
    }

    /// Runs a call on as many slots as it has sequences, `slot` being the first. New keys and values are written behind the
    /// old ones.
    pub(crate) fn run(&mut self, decoder: &mut Decoder, slot: usize, call: &Call<'_>) -> Result<()> {
        let binding = self.binding(decoder, slot, call.tokens.len())?;
        decoder.run(binding, call)
    }

    /// The binding for `count` slots from `slot` on: made once, then only inputs and logits are bound anew.
    fn binding(&mut self, decoder: &Decoder, slot: usize, count: usize) -> Result<&mut Binding> {
        let Self { bindings, lanes, slots, capacity } = self;
        debug_assert!(slot + count <= *slots, "slots {slot}..{} of {slots}", slot + count);
        match bindings.entry((slot, count)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(bind(decoder, lanes, *capacity, slot..slot + count)?)),
        }
    }
}

#[expect(unsafe_code, reason = "a binding keeps the addresses of what is bound")]
fn bind(decoder: &Decoder, lanes: &[Memory], capacity: usize, slots: std::ops::Range<usize>) -> Result<Binding> {
    let info = decoder.cache_memory()?;
    let mut binding = decoder.binding()?;
    let mut bind = |tensor: &CacheTensor, lane: &Memory| {
        let shape = tensor.shape(slots.len(), capacity);
        let offset = slots.start * shape[1..].iter().product::<usize>() * tensor.element.bytes();
        let desc = TensorDesc { element: tensor.element, shape: &shape };
        // SAFETY: the lanes and the binding become fields of one block, which frees or exchanges no lane while it lives and
        // gives no binding away. It runs bindings with `&mut self`, so that no lane is borrowed then.
        unsafe { binding.bind_in_place(tensor, lane, offset, &desc, &info) }
    };
    for (tensor, lane) in decoder.signature.cache.iter().zip(lanes) {
        bind(tensor, lane).map_err(fault::backend(&decoder.name))?;
    }
    Ok(binding)
}

use std::collections::{BTreeMap, btree_map::Entry};

use logitfuse_core::Result;

use crate::{
    decoder::{Binding, Call, Decoder},
    error,
    memory::{CacheMemory, TensorDesc},
    signature::CacheTensor,
};

/// A buffer of key/value caches of several sequences, and the bindings that point into it.
///
/// Bindings hold addresses of the caches, so both are owned together. Caches are neither exchanged nor lent for writing,
/// no binding leaves the buffer, and reading a cache borrows the buffer, which a run needs for itself.
pub(crate) struct KvBuffer {
    /// By the first slot and the number of slots.
    bindings: BTreeMap<(usize, usize), Binding>,
    /// One for each cache tensor of the signature, `[slots, heads, capacity, head]`.
    caches: Vec<CacheMemory>,
    slots: usize,
    capacity: usize,
}

impl KvBuffer {
    pub(crate) fn new(caches: Vec<CacheMemory>, slots: usize, capacity: usize) -> Self {
        Self { bindings: BTreeMap::new(), caches, slots, capacity }
    }

    /// The number of tokens that a slot has room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The memory of a cache tensor, by its place in the signature, for reading.
    pub(crate) fn cache(&self, index: usize) -> &CacheMemory {
        &self.caches[index]
    }

    /// Runs a call on as many slots as it has sequences, `slot` being the first. New keys and values are written behind the
    /// old ones.
    pub(crate) fn run(&mut self, decoder: &mut Decoder, slot: usize, call: &Call<'_>) -> Result<()> {
        let binding = self.binding(decoder, slot, call.tokens.len())?;
        decoder.run(binding, call)
    }

    /// The binding for `count` slots from `slot` on: made once, then only inputs and logits are bound anew.
    fn binding(&mut self, decoder: &Decoder, slot: usize, count: usize) -> Result<&mut Binding> {
        let Self { bindings, caches, slots, capacity } = self;
        debug_assert!(slot + count <= *slots, "slots {slot}..{} of {slots}", slot + count);
        match bindings.entry((slot, count)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(bind(decoder, caches, *capacity, slot..slot + count)?)),
        }
    }
}

#[expect(unsafe_code, reason = "a binding keeps the addresses of what is bound")]
fn bind(decoder: &Decoder, caches: &[CacheMemory], capacity: usize, slots: std::ops::Range<usize>) -> Result<Binding> {
    let info = decoder.cache_memory()?;
    let mut binding = decoder.binding()?;
    let mut bind = |tensor: &CacheTensor, cache: &CacheMemory| {
        let shape = tensor.shape(slots.len(), capacity);
        let offset = slots.start * shape[1..].iter().product::<usize>() * tensor.element.bytes();
        let desc = TensorDesc { element: tensor.element, shape: &shape };
        // SAFETY: the caches and the binding become fields of one buffer, which frees or exchanges no cache while it lives and
        // gives no binding away. It runs bindings with `&mut self`, so that no cache is borrowed then.
        unsafe { binding.bind_in_place(tensor, cache, offset, &desc, &info) }
    };
    for (tensor, cache) in decoder.signature.cache.iter().zip(caches) {
        bind(tensor, cache).map_err(error::backend(&decoder.name))?;
    }
    Ok(binding)
}

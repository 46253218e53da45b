//! A loaded graph and how it is called: ids, mask and positions in, logits out. Key/value caches are the part of
//! [`crate::kv`].

use std::{ffi::CString, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
    value::{DynTensor, DynTensorValueType, Shape, Tensor},
};
use smallvec::{SmallVec, smallvec};

use crate::{
    Element, error,
    interrupt::RunStop,
    memory::{CacheMemory, HostMemory, Side, TensorDesc, as_i64},
    signature::{CacheTensor, LogitRows, Signature},
    tensor_info::TensorInfo,
};

/// A session, and the memory of its inputs and logits, which every call writes over.
///
/// [`Binding`]s keep addresses of that memory from one call to the next. They are sound because nothing but the `run…`
/// functions of this file runs a binding, and these first bind every input of [`GraphInputs`] and the logits anew
/// ([`bind_call`](Self::bind_call)), to memory that `&mut self` lends to the run.
pub(crate) struct Decoder {
    session: Session,
    pub(crate) signature: Signature,
    /// The source's name, for messages.
    pub(crate) name: String,
    /// The CUDA device that caches live on; `None` for host memory.
    pub(crate) device: Option<i32>,
    pub(crate) chunk_tokens: usize,
    stop: Arc<RunStop>,
    host: MemoryInfo<'static>,
    // These two, and which of the inputs there are, are never exchanged: a name that was bound once is bound by every call.
    inputs: GraphInputs,
    logits_name: CString,
    logits: HostMemory,
    /// Rows of each sequence that `logits` holds.
    logits_rows: usize,
}

/// The integer inputs of the graph, written over at every call.
struct GraphInputs {
    ids: IntegerInput,
    mask: Option<IntegerInput>,
    positions: Option<IntegerInput>,
    rows_to_keep: Option<IntegerInput>,
}

struct IntegerInput {
    name: CString,
    element: Element,
    memory: HostMemory,
}

impl IntegerInput {
    fn of(input: &TensorInfo) -> Self {
        Self { name: c_name(&input.name), element: input.element, memory: HostMemory::empty() }
    }

    #[expect(unsafe_code, reason = "see `Binding`")]
    fn bind(
        &mut self,
        io: &mut IoBinding,
        shape: &[usize],
        numbers: impl Iterator<Item = i64>,
        host: &MemoryInfo<'_>,
    ) -> ort::Result<()> {
        let Self { name, element, memory } = self;
        memory.write_integers(*element, shape.iter().product(), numbers)?;
        // SAFETY: the memory is the decoder's, which runs no binding without binding its inputs anew, and while `&mut self`
        // keeps the memory from all other use.
        unsafe { memory.bind(io, Side::Input, name, &TensorDesc { element: *element, shape }, host) }
    }
}

/// An `IoBinding` of one [`Decoder`]: which tensors its graph reads and writes. Caches stay bound from call to call;
/// inputs and logits are bound anew by each.
pub(crate) struct Binding {
    io: IoBinding,
    /// The address of the session. It stays this session's own: `io` keeps the session alive.
    session: usize,
}

impl Binding {
    /// Binds a part of `memory`, `offset` bytes from its start, as the past and as the present of a cache.
    ///
    /// # Safety
    /// From now on a run of this binding reads and writes the memory. At each run it must be allocated still and must not
    /// be borrowed.
    #[expect(unsafe_code, reason = "the binding keeps the address")]
    pub(crate) unsafe fn bind_in_place(
        &mut self,
        tensor: &CacheTensor,
        memory: &CacheMemory,
        offset: usize,
        desc: &TensorDesc<'_>,
        info: &MemoryInfo<'_>,
    ) -> ort::Result<()> {
        // SAFETY: the caller's promise; the tensor is used by runs of this binding only.
        let mut view = unsafe { memory.tensor(offset, desc, info) }?;
        self.io.bind_input(&*tensor.past, &view)?;
        self.io.bind_output(&*tensor.present, &mut view)
    }
}

/// A name for the C API. Names come out of a file in which a NUL would have ended them.
fn c_name(name: &str) -> CString {
    CString::new(name.replace('\0', "")).unwrap_or_default()
}

/// One call of the graph: sequences that take the same number of tokens each.
pub(crate) struct Call<'a> {
    /// Each sequence's new tokens.
    pub(crate) tokens: &'a [&'a [TokenId]],
    /// Each sequence's length before.
    pub(crate) pasts: &'a [usize],
    /// Positions from the end whose logits will be read.
    pub(crate) rows: usize,
}

/// What becomes of a call's outputs.
#[derive(Clone, Copy)]
enum Outputs {
    /// They stay where they are bound.
    InPlace,
    /// Caches are handed over by ort, which then has to know of every output.
    HandedOver,
}

impl Decoder {
    pub(crate) fn new(
        session: Session,
        signature: Signature,
        name: String,
        device: Option<i32>,
        stop: Arc<RunStop>,
    ) -> Result<Self> {
        let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
            .map_err(error::backend(&name))?;
        let inputs = GraphInputs {
            ids: IntegerInput::of(&signature.ids),
            mask: signature.mask.as_ref().map(IntegerInput::of),
            positions: signature.positions.as_ref().map(IntegerInput::of),
            rows_to_keep: signature.rows_to_keep.as_ref().map(IntegerInput::of),
        };
        let logits_name = c_name(&signature.logits.name);
        Ok(Self {
            session,
            signature,
            name,
            device,
            chunk_tokens: 0,
            stop,
            host,
            inputs,
            logits_name,
            logits: HostMemory::empty(),
            logits_rows: 0,
        })
    }

    /// What ends a run that is under way.
    pub(crate) fn stop(&self) -> &Arc<RunStop> {
        &self.stop
    }

    /// A binding to which nothing is bound yet.
    pub(crate) fn binding(&self) -> Result<Binding> {
        let io = self.session.create_binding().map_err(error::backend(&self.name))?;
        Ok(Binding { io, session: self.session.ptr().addr() })
    }

    /// Where caches live.
    pub(crate) fn cache_memory(&self) -> Result<MemoryInfo<'static>> {
        match self.device {
            Some(id) => MemoryInfo::new(AllocationDevice::CUDA, id, AllocatorType::Device, MemoryType::Default)
                .map_err(error::backend(&self.name)),
            None => Ok(self.host.clone()),
        }
    }

    /// Binds everything but the caches.
    fn bind_call(&mut self, binding: &mut Binding, call: &Call<'_>, outputs: Outputs) -> ort::Result<()> {
        if binding.session != self.session.ptr().addr() {
            return Err(ort::Error::new("a binding of another session"));
        }
        self.bind_inputs(&mut binding.io, call)?;
        self.bind_logits(&mut binding.io, call, outputs)
    }

    fn bind_inputs(&mut self, io: &mut IoBinding, call: &Call<'_>) -> ort::Result<()> {
        let Self { signature, inputs, host, .. } = self;
        let batch = call.tokens.len();
        let count = call.tokens.first().map_or(0, |tokens| tokens.len());
        let ids = call.tokens.iter().flat_map(|tokens| tokens.iter().map(|&id| i64::from(id)));
        inputs.ids.bind(io, &[batch, count], ids, host)?;
        if let Some(mask) = &mut inputs.mask {
            // Right padding: GroupQueryAttention counts the ones of a row and takes them to be its first.
            let total = call.pasts.iter().max().unwrap_or(&0) + count;
            let ones = call.pasts.iter().flat_map(|past| (0..total).map(move |i| i64::from(i < past + count)));
            mask.bind(io, &[batch, total], ones, host)?;
        }
        if let Some(positions) = &mut inputs.positions {
            let numbers = call.pasts.iter().flat_map(|&past| (past..past + count).map(as_i64));
            positions.bind(io, &[batch, count], numbers, host)?;
        }
        if let Some(use_cache) = &signature.use_cache_branch {
            let cached = call.pasts.iter().any(|&past| past > 0);
            io.bind_input(&*use_cache.name, &Tensor::from_array(([1usize], vec![cached]))?)?;
        }
        if let Some(input) = &mut inputs.rows_to_keep {
            let rank = signature.rows_to_keep.as_ref().map_or(0, |keep| keep.dims.len());
            let shape: SmallVec<[usize; 4]> = smallvec![1; rank];
            input.bind(io, &shape, std::iter::once(as_i64(call.rows.max(1))), host)?;
        }
        Ok(())
    }

    /// Binds the logits to one buffer for all bindings: each having its own would multiply the memory.
    #[expect(unsafe_code, reason = "see `Binding`")]
    fn bind_logits(&mut self, io: &mut IoBinding, call: &Call<'_>, outputs: Outputs) -> ort::Result<()> {
        let Signature { logits, width, .. } = &self.signature;
        let (batch, width) = (call.tokens.len(), width.unwrap_or_default());
        let with_rows = [batch, self.rows_out(call), width];
        let shape = if logits.dims.len() == 2 { &[batch, width][..] } else { &with_rows };
        let desc = TensorDesc { element: logits.element, shape };
        let held = self.logits.bytes();
        // A long prompt's buffer is not kept for single rows.
        if held < desc.bytes() || held / 16 > desc.bytes() {
            self.logits = HostMemory::empty();
            self.logits = HostMemory::zeroed(desc.bytes()).ok_or_else(|| ort::Error::new("logits too large"))?;
        }
        // SAFETY: the memory is the decoder's, which runs no binding without binding its logits anew, and while `&mut self`
        // keeps the memory from all other use.
        unsafe {
            match outputs {
                Outputs::InPlace => self.logits.bind(io, Side::Output, &self.logits_name, &desc, &self.host)?,
                Outputs::HandedOver => {
                    let name = self.logits_name.to_string_lossy();
                    io.bind_output(name, &mut self.logits.tensor(0, &desc, &self.host)?)?;
                }
            }
        }
        self.logits_rows = shape[1..shape.len() - 1].iter().product();
        Ok(())
    }

    /// Positions whose logits a call returns.
    fn rows_out(&self, call: &Call<'_>) -> usize {
        match self.signature.rows {
            Some(LogitRows::All) => call.tokens.first().map_or(0, |tokens| tokens.len()),
            Some(LogitRows::Chosen) => call.rows.max(1),
            Some(LogitRows::Last) | None => 1,
        }
    }

    /// Runs a call. Caches must be bound; outputs stay where they are bound.
    #[expect(unsafe_code, reason = "ort's own call makes a value of each of some sixty outputs, every token")]
    pub(crate) fn run(&mut self, binding: &mut Binding, call: &Call<'_>) -> Result<()> {
        self.bind_call(binding, call, Outputs::InPlace).map_err(error::backend(&self.name))?;
        let (session, options) = (self.session.ptr_mut(), self.stop.options.ptr());
        // SAFETY: `session` is live and used by one thread, as `&mut self` proves; `binding` was made for it, as `bind_call`
        // has checked. What is bound is alive: inputs and logits were bound just now, caches by the promise of
        // `bind_in_place`, and ort keeps its own tensors. The options live as long as `self`; other threads do no more than
        // set their flag, which ONNX Runtime allows during a run. The status is consumed exactly once.
        let ran =
            unsafe { ort::Error::result_from_status((ort::api().RunWithBinding)(session, options, binding.io.ptr())) };
        ran.map_err(|cause| self.stop.error(&self.name, cause))
    }

    /// Runs a call on the caches in `past` and returns the present ones, both in the order of the signature.
    pub(crate) fn run_with_past(
        &mut self,
        binding: &mut Binding,
        past: &[DynTensor],
        call: &Call<'_>,
    ) -> Result<Vec<DynTensor>> {
        self.bind_call(binding, call, Outputs::HandedOver).map_err(error::backend(&self.name))?;
        let present = self.bind_past(&mut binding.io, past).and_then(|()| self.run_taking_cache(&binding.io));
        // The binding would keep the old past alive beside the new.
        binding.io.clear();
        present
    }

    fn bind_past(&self, io: &mut IoBinding, past: &[DynTensor]) -> Result<()> {
        let memory = self.cache_memory()?;
        let mut bind = |tensor: &CacheTensor, past: &DynTensor| {
            io.bind_input(&*tensor.past, past)?;
            io.bind_output_to_device(&*tensor.present, &memory)
        };
        let mut tensors = self.signature.cache.iter().zip(past);
        tensors.try_for_each(|(tensor, past)| bind(tensor, past)).map_err(error::backend(&self.name))
    }

    fn run_taking_cache(&mut self, io: &IoBinding) -> Result<Vec<DynTensor>> {
        let Self { session, signature, name, stop, .. } = self;
        let ran = session.run_binding_with_options(io, &stop.options);
        let mut outputs = ran.map_err(|cause| stop.error(name, cause))?;
        let take = |present: &str| {
            let value = outputs.remove(present);
            value.and_then(|value| value.downcast::<DynTensorValueType>().ok()).ok_or_else(|| {
                Error::new(ErrorKind::Backend, format!("{name}: ONNX Runtime gave no tensor `{present}`"))
            })
        };
        signature.cache.iter().map(|tensor| tensor.present.as_str()).map(take).collect()
    }

    /// Copies the logits of the last run: of `sequence`, `from_end` positions before its last.
    pub(crate) fn copy_logits(&self, sequence: usize, from_end: usize, out: &mut [f32]) {
        let row = (sequence + 1) * self.logits_rows - 1 - from_end;
        self.logits.copy_widened(self.signature.logits.element, row * out.len(), out);
    }

    /// An empty past for one sequence.
    pub(crate) fn empty_cache(&self) -> Result<Vec<DynTensor>> {
        let memory = self.cache_memory()?;
        let allocator = Allocator::new(&self.session, memory).map_err(error::backend(&self.name))?;
        let empty = |tensor: &CacheTensor| {
            let shape: Vec<i64> = tensor.shape(1, 0).into_iter().map(as_i64).collect();
            DynTensor::new(&allocator, tensor.element.to_ort(), shape)
        };
        self.signature.cache.iter().map(empty).collect::<ort::Result<_>>().map_err(error::backend(&self.name))
    }

    /// Runs a call on the caches in `past` for the shapes of its outputs: the logits and each present cache.
    pub(crate) fn output_shapes(&mut self, past: &[DynTensor], call: &Call<'_>) -> ort::Result<(Shape, Vec<Shape>)> {
        let io = &mut self.session.create_binding()?;
        self.bind_inputs(io, call)?;
        io.bind_output_to_device(&*self.signature.logits.name, &self.host)?;
        for (tensor, past) in self.signature.cache.iter().zip(past) {
            io.bind_input(&*tensor.past, past)?;
            io.bind_output_to_device(&*tensor.present, &self.host)?;
        }
        let Self { session, signature, stop, .. } = self;
        let outputs = session.run_binding_with_options(io, &stop.options)?;
        let shape =
            |name: &str| outputs.get(name).and_then(|value| value.dtype().tensor_shape().cloned()).unwrap_or_default();
        let presents = signature.cache.iter().map(|tensor| shape(&tensor.present)).collect();
        Ok((shape(&signature.logits.name), presents))
    }
}

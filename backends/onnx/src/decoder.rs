//! One loaded graph and how it is called: ids, mask and positions in, logits out. Key/value caches are bound by who
//! keeps them.

use std::{ffi::CString, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
    value::{DynTensor, DynTensorValueType, Shape, Tensor},
};
use smallvec::{SmallVec, smallvec};

use crate::{
    Element, fault,
    memory::{Form, HostMemory, Memory, Side, as_i64},
    port::Port,
    signature::{LogitRows, Signature},
};

pub(crate) struct Decoder {
    session: Session,
    pub(crate) signature: Signature,
    /// The source's name, for messages.
    pub(crate) name: String,
    /// The CUDA device that caches live on; `None` for host memory.
    pub(crate) device: Option<i32>,
    pub(crate) chunk_tokens: usize,
    host: MemoryInfo<'static>,
    inputs: Inputs,
    logits: Memory,
    logits_name: CString,
    /// Rows of each sequence that `logits` holds.
    logits_rows: usize,
}

/// Inputs of whole numbers, written over at every call.
struct Inputs {
    ids: Integers,
    mask: Option<Integers>,
    positions: Option<Integers>,
    rows_to_keep: Option<Integers>,
}

struct Integers {
    name: CString,
    element: Element,
    memory: HostMemory,
}

impl Integers {
    fn of(port: &Port) -> Self {
        Self { name: c_name(&port.name), element: port.element, memory: HostMemory::empty() }
    }

    fn bind(
        &mut self,
        io: &mut IoBinding,
        shape: &[usize],
        numbers: impl Iterator<Item = i64>,
        host: &MemoryInfo<'_>,
    ) -> ort::Result<()> {
        let Self { name, element, memory } = self;
        memory.write_integers(*element, shape.iter().product(), numbers)?;
        memory.bind(io, Side::Input, name, &Form { element: *element, shape }, host)
    }
}

/// Names come out of a file in which a NUL would have ended them.
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
pub(crate) enum Outputs {
    /// They stay where they are bound: [`Decoder::run`].
    Left,
    /// Caches are handed over by ort, which then has to know of every output: [`Decoder::run_taking_cache`].
    Taken,
}

/// Head sizes in the wild, most common first: tried where neither graph nor configuration tells.
const HEAD_SIZES: &[usize] =
    &[64, 128, 96, 80, 256, 32, 112, 192, 160, 120, 72, 88, 104, 48, 40, 24, 16, 8, 144, 224, 288, 320, 512, 576];

impl Decoder {
    pub(crate) fn new(session: Session, signature: Signature, name: String, device: Option<i32>) -> Result<Self> {
        let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
            .map_err(fault::backend(&name))?;
        let inputs = Inputs {
            ids: Integers::of(&signature.ids),
            mask: signature.mask.as_ref().map(Integers::of),
            positions: signature.positions.as_ref().map(Integers::of),
            rows_to_keep: signature.rows_to_keep.as_ref().map(Integers::of),
        };
        let logits_name = c_name(&signature.logits.name);
        Ok(Self {
            session,
            signature,
            name,
            device,
            chunk_tokens: 0,
            host,
            inputs,
            logits: Memory::Host(HostMemory::empty()),
            logits_name,
            logits_rows: 0,
        })
    }

    pub(crate) fn binding(&self) -> Result<IoBinding> {
        self.session.create_binding().map_err(fault::backend(&self.name))
    }

    /// Where caches live.
    pub(crate) fn cache_memory(&self) -> Result<MemoryInfo<'static>> {
        match self.device {
            Some(id) => MemoryInfo::new(AllocationDevice::CUDA, id, AllocatorType::Device, MemoryType::Default)
                .map_err(fault::backend(&self.name)),
            None => Ok(self.host.clone()),
        }
    }

    /// Binds everything but the caches.
    pub(crate) fn bind(&mut self, io: &mut IoBinding, call: &Call<'_>, outputs: Outputs) -> Result<()> {
        self.bind_inputs(io, call)
            .and_then(|()| self.bind_logits(io, call, outputs))
            .map_err(fault::backend(&self.name))
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
        if let Some(switch) = &signature.use_cache_branch {
            let cached = call.pasts.iter().any(|&past| past > 0);
            io.bind_input(&*switch.name, &Tensor::from_array(([1usize], vec![cached]))?)?;
        }
        if let (Some(keep), Some(input)) = (&signature.rows_to_keep, &mut inputs.rows_to_keep) {
            let shape: SmallVec<[usize; 4]> = smallvec![1; keep.dims.len()];
            input.bind(io, &shape, std::iter::once(as_i64(call.rows.max(1))), host)?;
        }
        Ok(())
    }

    /// Logits are written where we say: bindings of other sequences must not hold buffers of their own.
    fn bind_logits(&mut self, io: &mut IoBinding, call: &Call<'_>, outputs: Outputs) -> ort::Result<()> {
        let Signature { logits, width, .. } = &self.signature;
        let (batch, width) = (call.tokens.len(), width.unwrap_or_default());
        let with_rows = [batch, self.rows_out(call), width];
        let shape = if logits.dims.len() == 2 { &[batch, width][..] } else { &with_rows };
        let form = Form { element: logits.element, shape };
        let held = self.logits.host().map_or(0, HostMemory::bytes);
        // A long prompt's buffer is not kept for single rows.
        if held < form.bytes() || held / 16 > form.bytes() {
            self.logits = Memory::Host(HostMemory::empty());
            self.logits =
                Memory::Host(HostMemory::zeroed(form.bytes()).ok_or_else(|| ort::Error::new("logits too large"))?);
        }
        match (outputs, self.logits.host()) {
            (Outputs::Left, Some(memory)) => memory.bind(io, Side::Output, &self.logits_name, &form, &self.host)?,
            _ => io.bind_output(&*logits.name, &mut self.logits.view(0, &form, &self.host)?)?,
        }
        self.logits_rows = shape[1..shape.len() - 1].iter().product();
        Ok(())
    }

    /// Positions whose logits a call puts out.
    fn rows_out(&self, call: &Call<'_>) -> usize {
        match self.signature.rows {
            Some(LogitRows::All) => call.tokens.first().map_or(0, |tokens| tokens.len()),
            Some(LogitRows::Chosen) => call.rows.max(1),
            Some(LogitRows::Last) | None => 1,
        }
    }

    /// Runs what is bound. Outputs stay where they are bound.
    #[expect(unsafe_code, reason = "ort's own call makes a value of each of some sixty outputs, every token")]
    pub(crate) fn run(&mut self, io: &IoBinding) -> Result<()> {
        let session = self.session.ptr_mut();
        // SAFETY: `session` is live and used by one thread, as `&mut self` proves; `io` was made for it and holds or
        // outlives everything bound; null options mean the defaults. The status is consumed exactly once.
        unsafe {
            ort::Error::result_from_status((ort::api().RunWithBinding)(session, std::ptr::null(), io.ptr()))
                .map_err(fault::backend(&self.name))
        }
    }

    /// Runs what is bound and takes the present caches out, in the order of the signature.
    pub(crate) fn run_taking_cache(&mut self, io: &IoBinding) -> Result<Vec<DynTensor>> {
        let Self { session, signature, name, .. } = self;
        let mut outputs = session.run_binding(io).map_err(fault::backend(&name))?;
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
        if let Some(memory) = self.logits.host() {
            memory.copy_widened(self.signature.logits.element, row * out.len(), out);
        }
    }

    /// An empty past for one sequence.
    pub(crate) fn empty_cache(&self) -> Result<Vec<DynTensor>> {
        let memory = self.cache_memory()?;
        let allocator = Allocator::new(&self.session, memory).map_err(fault::backend(&self.name))?;
        let empty = |tensor: &crate::signature::CacheTensor| {
            let shape: Vec<i64> = tensor.shape(1, 0).into_iter().map(as_i64).collect();
            DynTensor::new(&allocator, tensor.element.to_ort(), shape)
        };
        self.signature.cache.iter().map(empty).collect::<ort::Result<_>>().map_err(fault::backend(&self.name))
    }

    /// Resolves what the graph leaves open (the head size, which rows come out, how wide they are) by running two tokens.
    pub(crate) fn probe(&mut self, file: &Path) -> Result<()> {
        let stated = self.signature.cache.iter().all(|tensor| tensor.stated);
        if stated && self.signature.rows.is_some() && self.signature.width.is_some() {
            return Ok(());
        }
        if stated {
            return self.probe_once();
        }
        // Whatever the configuration says comes first; the graph has the last word.
        let hinted = self.signature.cache.clone();
        for size in std::iter::once(None).chain(HEAD_SIZES.iter().copied().map(Some)) {
            for (tensor, hinted) in self.signature.cache.iter_mut().zip(&hinted).filter(|(tensor, _)| !tensor.stated) {
                let head = tensor.axis + 1;
                tensor.dims[head] = size.or(hinted.dims[head]);
            }
            let known = self.signature.cache.iter().all(|tensor| tensor.dims[tensor.axis + 1].is_some());
            if known && self.probe_once().is_ok() {
                return Ok(());
            }
        }
        let message =
            format!("{}: the head size of its key/value cache is not stated and not one of the usual", file.display());
        Err(Error::new(ErrorKind::InvalidData, message).with_help("add `head_dim` to config.json beside the model"))
    }

    fn probe_once(&mut self) -> Result<()> {
        let mut io = self.binding()?;
        let past = self.empty_cache()?;
        let call = Call { tokens: &[&[0, 0]], pasts: &[0], rows: 1 };
        let (logits, presents) = self.probe_shapes(&mut io, &past, &call).map_err(fault::backend(&self.name))?;
        // An empty past fits any head size; what comes out is what the graph really has.
        for (tensor, present) in self.signature.cache.iter_mut().zip(&presents) {
            for (dim, &found) in tensor.dims.iter_mut().zip(&present[..]) {
                *dim = usize::try_from(found).ok();
            }
        }
        self.signature.width = logits.last().and_then(|&width| usize::try_from(width).ok());
        self.signature.rows = self.signature.rows.or(match logits[..] {
            [_, 2, _] => Some(LogitRows::All),
            [_, 1, _] | [_, _] => Some(LogitRows::Last),
            _ => None,
        });
        if self.signature.rows.is_none() || self.signature.width.is_none() {
            let message = format!("{}: two tokens give logits of shape {:?}", self.name, &logits[..]);
            return Err(Error::new(ErrorKind::Unsupported, message).with_help(
                "logits must be [batch, tokens, vocabulary], [batch, 1, vocabulary] or [batch, vocabulary]",
            ));
        }
        Ok(())
    }

    /// The shapes of the logits and of each present cache.
    fn probe_shapes(
        &mut self,
        io: &mut IoBinding,
        past: &[DynTensor],
        call: &Call<'_>,
    ) -> ort::Result<(Shape, Vec<Shape>)> {
        self.bind_inputs(io, call)?;
        io.bind_output_to_device(&*self.signature.logits.name, &self.host)?;
        for (tensor, past) in self.signature.cache.iter().zip(past) {
            io.bind_input(&*tensor.past, past)?;
            io.bind_output_to_device(&*tensor.present, &self.host)?;
        }
        let Self { session, signature, .. } = self;
        let outputs = session.run_binding(io)?;
        let shape =
            |name: &str| outputs.get(name).and_then(|value| value.dtype().tensor_shape().cloned()).unwrap_or_default();
        let presents = signature.cache.iter().map(|tensor| shape(&tensor.present)).collect();
        Ok((shape(&signature.logits.name), presents))
    }
}

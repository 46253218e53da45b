//! Host and device memory for tensors, and the tensors that ONNX Runtime reads and writes in it.
//!
//! ONNX Runtime keeps the address of a tensor that is bound, not a borrow, so binding is `unsafe` here. Two types own memory
//! together with the bindings that point into it, and are safe to use: [`Decoder`](crate::decoder::Decoder) for the
//! inputs and logits of a call, [`KvBuffer`](crate::kv::buffer::KvBuffer) for key/value caches.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ffi::CStr,
    ptr::{NonNull, null_mut},
};

use half::{bf16, f16};
use ort::{
    AsPointer,
    memory::{AllocationDevice, Allocator, MemoryInfo},
    session::IoBinding,
    value::{DynTensor, Value},
};
use smallvec::SmallVec;

use crate::Element;

/// Zeroed host memory, aligned for vector instructions. The operating system hands out its pages when they are first
/// written, so room that is reserved and not used costs nothing.
pub(crate) struct HostMemory {
    start: NonNull<u8>,
    layout: Layout,
}

/// What memory is aligned to: a cache line, and the widest vector register.
#[repr(align(64))]
struct CacheLine;

// SAFETY: the memory is owned and has no tie to a thread.
#[expect(unsafe_code, reason = "a raw pointer is not Send by itself")]
unsafe impl Send for HostMemory {}

#[expect(unsafe_code, reason = "allocates with an alignment that no vector type gives")]
impl HostMemory {
    /// `None` if there is not so much memory.
    pub(crate) fn zeroed(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), align_of::<CacheLine>()).ok()?;
        // SAFETY: the layout's size is at least 1.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }

    /// Memory of size 0.
    pub(crate) fn empty() -> Self {
        Self { start: NonNull::<CacheLine>::dangling().cast(), layout: Layout::new::<()>() }
    }

    /// Copies `bytes` bytes from `from`, at `source`, to `target`.
    ///
    /// # Panics
    /// If either range does not lie inside its memory.
    pub(crate) fn copy_from(&mut self, target: usize, from: &Self, source: usize, bytes: usize) {
        let inside = |at: usize, memory: &Self| at.checked_add(bytes).is_some_and(|end| end <= memory.layout.size());
        assert!(inside(target, self) && inside(source, from), "a copy outside of its memory");
        // SAFETY: both ranges lie inside their allocations, which are two, as `self` is borrowed for writing.
        unsafe { self.start.add(target).copy_from_nonoverlapping(from.start.add(source), bytes) };
    }
}

impl HostMemory {
    pub(crate) fn bytes(&self) -> usize {
        self.layout.size()
    }

    /// A tensor over a part of this memory, `offset` bytes from its start.
    ///
    /// # Safety
    /// ONNX Runtime reads and writes the memory wherever the tensor is used. At each use the memory must be allocated still; it
    /// must not be borrowed then, but for reading where the tensor is only read.
    #[expect(unsafe_code, reason = "ort's safe tensors own their memory or are copied when bound")]
    pub(crate) unsafe fn tensor(
        &self,
        offset: usize,
        desc: &TensorDesc<'_>,
        info: &MemoryInfo<'_>,
    ) -> ort::Result<DynTensor> {
        let value = tensor_at(self.start, self.bytes(), offset, desc, info)?;
        // SAFETY: `value` is a live tensor that is owned here, and `DynTensor` releases it once.
        Ok(unsafe { Value::from_ptr(value, Some(&Allocator::default())) })
    }

    /// Copies the beginning into a tensor that ONNX Runtime owns, on a CUDA device or on the host.
    #[expect(unsafe_code, reason = "ort's safe tensors own their memory or are copied when bound")]
    pub(crate) fn to_tensor(&self, desc: &TensorDesc<'_>, device: Option<i32>) -> ort::Result<DynTensor> {
        // SAFETY: the tensor lives in this function only, which borrows `self`, and is only read.
        let view = unsafe { self.tensor(0, desc, &MemoryInfo::default()) }?;
        match device {
            Some(id) => view.to(AllocationDevice::CUDA, id),
            None => view.to(AllocationDevice::CPU, 0),
        }
    }

    /// Copies `out.len()` floats that start at the `first`, widening halves.
    ///
    /// # Panics
    /// If they do not lie inside the memory.
    pub(crate) fn copy_widened(&self, element: Element, first: usize, out: &mut [f32]) {
        let count = out.len();
        let out = out.iter_mut();
        match element {
            Element::F16 => out.zip(self.floats::<f16>(first, count)).for_each(|(out, x)| *out = x.to_f32()),
            Element::Bf16 => out.zip(self.floats::<bf16>(first, count)).for_each(|(out, x)| *out = x.to_f32()),
            _ => out.zip(self.floats::<f32>(first, count)).for_each(|(out, x)| *out = *x),
        }
    }

    /// Writes whole numbers of this width from the start on, having made room.
    ///
    /// # Errors
    /// Where there are more than memory can hold.
    pub(crate) fn write_integers(
        &mut self,
        element: Element,
        count: usize,
        numbers: impl Iterator<Item = i64>,
    ) -> ort::Result<()> {
        let bytes = count * element.bytes();
        if self.bytes() < bytes {
            // Half as much again: a mask grows by one with every token.
            *self = Self::zeroed(bytes + bytes / 2).ok_or_else(|| ort::Error::new("an input is too large"))?;
        }
        match element {
            Element::I32 => self
                .integers::<i32>(count)
                .iter_mut()
                .zip(numbers)
                .for_each(|(to, n)| *to = i32::try_from(n).unwrap_or(i32::MAX)),
            _ => self.integers::<i64>(count).iter_mut().zip(numbers).for_each(|(to, n)| *to = n),
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "the memory has no type of its own")]
    fn integers<T: Integer>(&mut self, count: usize) -> &mut [T] {
        assert!(
            count.checked_mul(size_of::<T>()).is_some_and(|end| end <= self.bytes()),
            "a write outside of its memory"
        );
        // SAFETY: the range lies inside the allocation, as just checked, which is zeroed at least and aligned for every
        // integer; each pattern of bits is one. `self` is borrowed for writing as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast::<T>().as_ptr(), count) }
    }

    /// Binds the beginning of this memory as an input or output, without a tensor of ort's, which would allocate several
    /// times per token.
    ///
    /// # Safety
    /// A run of `io` reads (input) or writes (output) the memory, until something else is bound to `name`. At each such run
    /// the memory must be allocated still; it must not be borrowed then, but for reading an input.
    #[expect(unsafe_code, reason = "ort's safe tensors own their memory or are copied when bound")]
    pub(crate) unsafe fn bind(
        &self,
        io: &mut IoBinding,
        side: Side,
        name: &CStr,
        desc: &TensorDesc<'_>,
        info: &MemoryInfo<'_>,
    ) -> ort::Result<()> {
        let value = tensor_at(self.start, self.bytes(), 0, desc, info)?;
        // SAFETY: `value` is owned here: the binding takes a share of it, and the one of this function is released once. `name` ends with a
        // NUL, and `io` is live and borrowed for writing. That the memory outlives the runs is the caller's promise.
        unsafe {
            let bind = match side {
                Side::Input => ort::api().BindInput,
                Side::Output => ort::api().BindOutput,
            };
            let bound = ort::Error::result_from_status(bind(io.ptr_mut(), name.as_ptr(), value.as_ptr()));
            (ort::api().ReleaseValue)(value.as_ptr());
            bound
        }
    }

    #[expect(unsafe_code, reason = "the memory has no type of its own")]
    fn floats<T: Float>(&self, first: usize, count: usize) -> &[T] {
        let end = first.checked_add(count).and_then(|end| end.checked_mul(size_of::<T>()));
        assert!(end.is_some_and(|end| end <= self.bytes()), "a read outside of its memory");
        // SAFETY: the range lies inside the allocation, as just checked, which is zeroed at least and aligned for every
        // float; each pattern of bits is one. ONNX Runtime does not write while `self` is borrowed: `bind` and `tensor` demand
        // that.
        unsafe { std::slice::from_raw_parts(self.start.cast::<T>().as_ptr().add(first), count) }
    }
}

/// Which side of a graph something is bound to.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Input,
    Output,
}

/// Types that any bits are a value of.
trait Integer: Copy {}
impl Integer for i32 {}
impl Integer for i64 {}

/// Types that any bits are a value of.
trait Float: Copy {}
impl Float for f32 {}
impl Float for f16 {}
impl Float for bf16 {}

#[expect(unsafe_code, reason = "frees what `zeroed` allocated")]
impl Drop for HostMemory {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: what is not empty was allocated with this very layout, and is freed only here.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

/// The memory of a cache that is written in place.
pub(crate) enum CacheMemory {
    Host(HostMemory),
    /// A tensor in the memory of a CUDA device.
    Device(DynTensor),
}

/// A tensor's type and shape.
pub(crate) struct TensorDesc<'a> {
    pub(crate) element: Element,
    pub(crate) shape: &'a [usize],
}

impl TensorDesc<'_> {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }
}

impl CacheMemory {
    /// Moves a cache that was assembled on the host to the CUDA device, if one is given.
    pub(crate) fn on_device(host: HostMemory, desc: &TensorDesc<'_>, device: Option<i32>) -> ort::Result<Self> {
        match device {
            Some(_) => Ok(Self::Device(host.to_tensor(desc, device)?)),
            None => Ok(Self::Host(host)),
        }
    }

    /// A copy on the host; `None` if the memory is there already.
    pub(crate) fn to_host(&self) -> ort::Result<Option<DynTensor>> {
        match self {
            Self::Host(_) => Ok(None),
            Self::Device(tensor) => tensor.to(AllocationDevice::CPU, 0).map(Some),
        }
    }

    /// A tensor over a part of this memory, `offset` bytes from its start.
    ///
    /// # Safety
    /// ONNX Runtime reads and writes the memory wherever the tensor is used. At each use the memory must be allocated still
    /// and must not be borrowed.
    #[expect(unsafe_code, reason = "ort's safe tensors own their memory or are copied when bound")]
    pub(crate) unsafe fn tensor(
        &self,
        offset: usize,
        desc: &TensorDesc<'_>,
        info: &MemoryInfo<'_>,
    ) -> ort::Result<DynTensor> {
        let tensor = match self {
            // SAFETY: the caller's promise.
            Self::Host(memory) => return unsafe { memory.tensor(offset, desc, info) },
            Self::Device(tensor) => tensor,
        };
        let start = NonNull::new(tensor.data_ptr().cast_mut().cast::<u8>());
        let start = start.ok_or_else(|| ort::Error::new("a cache without memory"))?;
        let value = tensor_at(start, size_of_tensor(tensor), offset, desc, info)?;
        // SAFETY: `value` is a live tensor that is owned here, and `DynTensor` releases it once.
        Ok(unsafe { Value::from_ptr(value, Some(&Allocator::default())) })
    }

    /// The host memory itself.
    pub(crate) fn host(&self) -> Option<&HostMemory> {
        match self {
            Self::Host(memory) => Some(memory),
            Self::Device(_) => None,
        }
    }
}

/// Copies a tensor that lies in host memory into a [`HostMemory`].
#[expect(unsafe_code, reason = "a tensor's bytes are reached through its data pointer")]
pub(crate) fn bytes_of(tensor: &DynTensor) -> Option<HostMemory> {
    if !tensor.memory_info().is_cpu_accessible() {
        return None;
    }
    let bytes = size_of_tensor(tensor);
    let memory = HostMemory::zeroed(bytes)?;
    if bytes > 0 {
        // SAFETY: the tensor holds `bytes` bytes in memory that the host can read, and the copy was allocated with room for
        // them.
        unsafe { memory.start.copy_from_nonoverlapping(NonNull::new(tensor.data_ptr().cast_mut())?.cast(), bytes) };
    }
    Some(memory)
}

/// Bytes of a tensor's elements.
fn size_of_tensor(tensor: &DynTensor) -> usize {
    let elements: usize = tensor.shape().iter().map(|&n| usize::try_from(n).unwrap_or(0)).product();
    elements * Element::from_ort(*tensor.data_type()).bytes()
}

/// Makes a tensor over a part of the `bytes` bytes from `start`, `offset` bytes behind it. The caller owns it and releases it.
///
/// This reads and writes nothing; using the tensor does.
#[expect(unsafe_code, reason = "ort makes no tensor over memory that it does not own")]
fn tensor_at(
    start: NonNull<u8>,
    bytes: usize,
    offset: usize,
    desc: &TensorDesc<'_>,
    info: &MemoryInfo<'_>,
) -> ort::Result<NonNull<ort::sys::OrtValue>> {
    if offset.checked_add(desc.bytes()).is_none_or(|end| end > bytes) {
        return Err(ort::Error::new("a tensor outside of its memory"));
    }
    let shape: SmallVec<[i64; 8]> = desc.shape.iter().copied().map(as_i64).collect();
    let mut value = null_mut();
    // SAFETY: the address is kept, not followed. `shape` and `info` outlive the call, which copies them; `value` receives a
    // pointer on success.
    unsafe {
        ort::Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
            info.ptr(),
            start.as_ptr().wrapping_add(offset).cast(),
            desc.bytes(),
            shape.as_ptr(),
            shape.len(),
            desc.element.to_ort().into(),
            &raw mut value,
        ))?;
    }
    NonNull::new(value).ok_or_else(|| ort::Error::new("ONNX Runtime made no tensor"))
}

/// Sizes of tensors fit: memory is smaller than 2^63.
pub(crate) fn as_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

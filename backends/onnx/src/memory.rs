//! The one place where tensors are made over memory that ONNX Runtime does not own.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
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

/// What memory is aligned to.
#[repr(align(64))]
struct Line;

// SAFETY: the memory is owned and has no tie to a thread.
#[expect(unsafe_code, reason = "a raw pointer is not Send by itself")]
unsafe impl Send for HostMemory {}

#[expect(unsafe_code, reason = "allocates with an alignment that no vector type gives")]
impl HostMemory {
    /// `None` if `bytes` is no size that memory can have.
    pub(crate) fn zeroed(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), align_of::<Line>()).ok()?;
        // SAFETY: the layout's size is at least 1.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Some(Self { start, layout })
    }

    /// Next to nothing, until something is needed.
    pub(crate) fn empty() -> Self {
        Self { start: NonNull::<Line>::dangling().cast(), layout: Layout::new::<()>() }
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
    /// times per token. The memory must not be freed before the binding is made anew or gone.
    #[expect(unsafe_code, reason = "ort's safe tensors own their memory or are copied when bound")]
    pub(crate) fn bind(
        &self,
        io: &mut IoBinding,
        side: Side,
        name: &CStr,
        form: &Form<'_>,
        info: &MemoryInfo<'_>,
    ) -> ort::Result<()> {
        let bytes = form.bytes();
        if bytes > self.bytes() {
            return Err(ort::Error::new("a view outside of its memory"));
        }
        let shape: SmallVec<[i64; 8]> = form.shape.iter().copied().map(as_i64).collect();
        let mut value = null_mut();
        // SAFETY: `bytes` bytes lie inside the allocation, as just checked, and are `info`'s kind of memory; the shape has as
        // many elements as `bytes` holds. On success `value` is owned here: the binding takes a share of it, and ours is
        // released once. `name` ends with a NUL, and `io` is live and borrowed for writing.
        unsafe {
            ort::Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                self.start.as_ptr().cast(),
                bytes,
                shape.as_ptr(),
                shape.len(),
                form.element.to_ort().into(),
                &raw mut value,
            ))?;
            let bind = match side {
                Side::Input => ort::api().BindInput,
                Side::Output => ort::api().BindOutput,
            };
            let bound = ort::Error::result_from_status(bind(io.ptr_mut(), name.as_ptr(), value));
            (ort::api().ReleaseValue)(value);
            bound
        }
    }

    #[expect(unsafe_code, reason = "the memory has no type of its own")]
    fn floats<T: Float>(&self, first: usize, count: usize) -> &[T] {
        let end = first.checked_add(count).and_then(|end| end.checked_mul(size_of::<T>()));
        assert!(end.is_some_and(|end| end <= self.bytes()), "a read outside of its memory");
        // SAFETY: the range lies inside the allocation, as just checked, which is zeroed at least and aligned for every
        // float; each pattern of bits is one. ONNX Runtime writes only while `run` borrows the decoder for writing.
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

/// Where a shared cache lives.
pub(crate) enum Memory {
    Host(HostMemory),
    /// A tensor in the memory of a CUDA device.
    Device(DynTensor),
}

/// A tensor's type and shape.
pub(crate) struct Form<'a> {
    pub(crate) element: Element,
    pub(crate) shape: &'a [usize],
}

impl Form<'_> {
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }
}

impl Memory {
    /// Puts what was written on the host where it belongs.
    pub(crate) fn place(host: HostMemory, form: &Form<'_>, device: Option<i32>) -> ort::Result<Self> {
        let Some(id) = device else { return Ok(Self::Host(host)) };
        let memory = Self::Host(host);
        let on_host = memory.view(0, form, &MemoryInfo::default())?;
        Ok(Self::Device(on_host.to(AllocationDevice::CUDA, id)?))
    }

    /// Reads the contents back to the host, if they are not there.
    pub(crate) fn fetch(&self) -> ort::Result<Option<DynTensor>> {
        match self {
            Self::Host(_) => Ok(None),
            Self::Device(tensor) => tensor.to(AllocationDevice::CPU, 0).map(Some),
        }
    }

    /// A tensor over a part of this memory, `offset` bytes from its start, that ONNX Runtime reads as an input and
    /// writes as an output. It must not be used after the memory is gone.
    #[expect(unsafe_code, reason = "ort's safe tensors own their memory or are copied when bound")]
    pub(crate) fn view(&self, offset: usize, form: &Form<'_>, info: &MemoryInfo<'_>) -> ort::Result<DynTensor> {
        let (start, size) = match self {
            Self::Host(memory) => (memory.start.as_ptr(), memory.layout.size()),
            Self::Device(tensor) => {
                let elements: i64 = tensor.shape().iter().product();
                let size = usize::try_from(elements).unwrap_or(0) * form.element.bytes();
                (tensor.data_ptr().cast_mut().cast::<u8>(), size)
            }
        };
        let bytes = form.bytes();
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(ort::Error::new("a view outside of its memory"));
        }
        let shape: Vec<i64> = form.shape.iter().copied().map(as_i64).collect();
        let mut value = null_mut();
        // SAFETY: `bytes` bytes from `start + offset` lie inside the allocation, as just checked, and are `info`'s kind
        // of memory; the shape has as many elements as `bytes` holds. `value` receives an owned pointer on success.
        let value = unsafe {
            ort::Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                start.wrapping_add(offset).cast(),
                bytes,
                shape.as_ptr(),
                shape.len(),
                form.element.to_ort().into(),
                &raw mut value,
            ))?;
            let value = NonNull::new(value).ok_or_else(|| ort::Error::new("ONNX Runtime made no tensor"))?;
            Value::from_ptr(value, Some(&Allocator::default()))
        };
        Ok(value)
    }

    /// The host memory itself.
    pub(crate) fn host(&self) -> Option<&HostMemory> {
        match self {
            Self::Host(memory) => Some(memory),
            Self::Device(_) => None,
        }
    }
}

/// Copies a tensor that lies in host memory into memory of our own.
#[expect(unsafe_code, reason = "a tensor's bytes are reached through its data pointer")]
pub(crate) fn bytes_of(tensor: &DynTensor, element: Element) -> Option<HostMemory> {
    if !tensor.memory_info().is_cpu_accessible() {
        return None;
    }
    let elements: usize = tensor.shape().iter().map(|&n| usize::try_from(n).unwrap_or(0)).product();
    let bytes = elements * element.bytes();
    let memory = HostMemory::zeroed(bytes)?;
    if bytes > 0 {
        // SAFETY: the tensor holds `elements` elements of this size in memory the host can read, and the copy was
        // allocated with room for them.
        unsafe { memory.start.copy_from_nonoverlapping(NonNull::new(tensor.data_ptr().cast_mut())?.cast(), bytes) };
    }
    Some(memory)
}

/// Sizes of tensors fit: memory is smaller than 2^63.
pub(crate) fn as_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

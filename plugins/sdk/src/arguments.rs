//! From what a caller in C passes to slices and texts, with every check that can be made here.
//!
//! What cannot be checked, that a pointer points where its length says, is the caller's promise; `logitfuse_plugin.h`
//! states it, and the safety sections here repeat it.

#![expect(unsafe_code, reason = "reads memory of a caller in C")]

use std::mem::MaybeUninit;
use std::{ptr, slice, str};

use logitfuse_plugin_abi::{end_of, lf_calibration_source, lf_host_v1, lf_out, lf_session, lf_step, lf_str};

use crate::failure::Failure;

/// A struct that begins with its size and may be shorter or longer than this crate's idea of it.
///
/// # Safety
/// The first member is a `u32` named `struct_size`, and all bytes zero are a valid value.
pub(crate) unsafe trait Sized32: Copy {
    const NAME: &'static str;
    /// The end of the last member of minor 0; it stays when members are appended.
    const LEAST: usize;
}

// SAFETY: integers and raw pointers, after a `u32`.
unsafe impl Sized32 for lf_session {
    const NAME: &'static str = "lf_session";
    const LEAST: usize = end_of!(lf_session, n_masked);
}

// SAFETY: integers and raw pointers, after a `u32`.
unsafe impl Sized32 for lf_step {
    const NAME: &'static str = "lf_step";
    const LEAST: usize = end_of!(lf_step, n_committed);
}

// SAFETY: integers and raw pointers, after a `u32`.
unsafe impl Sized32 for lf_out {
    const NAME: &'static str = "lf_out";
    const LEAST: usize = end_of!(lf_out, trace);
}

// SAFETY: integers, a raw pointer and an optional function, for which zero is `None`, after a `u32`.
unsafe impl Sized32 for lf_calibration_source {
    const NAME: &'static str = "lf_calibration_source";
    const LEAST: usize = end_of!(lf_calibration_source, rows_after);
}

// SAFETY: integers, a raw pointer and optional functions, for which zero is `None`, after a `u32`.
unsafe impl Sized32 for lf_host_v1 {
    const NAME: &'static str = "lf_host_v1";
    const LEAST: usize = end_of!(lf_host_v1, get_extension);
}

/// A copy of the struct; members that the caller does not know are zero.
///
/// # Safety
/// `ptr` is null or points to at least `struct_size` readable bytes, which that member itself is part of.
pub(crate) unsafe fn read<T: Sized32>(ptr: *const T) -> Result<T, Failure> {
    if ptr.is_null() || !ptr.is_aligned() {
        return Err(Failure::argument(format!("{}: null or misaligned", T::NAME)));
    }
    // SAFETY: not null, aligned, and the first member is a `u32`.
    let size = unsafe { ptr.cast::<u32>().read() } as usize;
    if size < T::LEAST {
        return Err(Failure::argument(format!("{}: struct_size is {size}, {} at least", T::NAME, T::LEAST)));
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: the source has `size` bytes, the copy `size_of::<T>()`, and a fresh copy overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(ptr.cast::<u8>(), copy.as_mut_ptr().cast(), size.min(size_of::<T>())) };
    // SAFETY: zero is valid for every member, and so is what the caller put there, being integers, pointers or functions.
    Ok(unsafe { copy.assume_init() })
}

/// An array of the caller's.
///
/// # Safety
/// If `ptr` is not null and `len` not 0, it points to `len` initialised values that are not written during `'a`.
pub(crate) unsafe fn array<'a, T>(name: &str, ptr: *const T, len: u64) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    let len = length::<T>(name, ptr, len)?;
    // SAFETY: not null, aligned, not larger than an object can be; the caller vouches for the rest.
    Ok(unsafe { slice::from_raw_parts(ptr, len) })
}

/// An array of the caller's to write to.
///
/// # Safety
/// If `ptr` is not null and `len` not 0, it points to `len` initialised values that are accessed through the result only during `'a`.
pub(crate) unsafe fn array_mut<'a, T>(name: &str, ptr: *mut T, len: u64) -> Result<&'a mut [T], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    let len = length::<T>(name, ptr, len)?;
    // SAFETY: not null, aligned, not larger than an object can be; the caller vouches for the rest.
    Ok(unsafe { slice::from_raw_parts_mut(ptr, len) })
}

/// A text of the caller's.
///
/// # Safety
/// If `text.ptr` is not null and `text.len` not 0, it points to `len` bytes that are not written during `'a`.
pub(crate) unsafe fn text<'a>(name: &str, text: lf_str) -> Result<&'a str, Failure> {
    // SAFETY: the caller vouches for pointer and length.
    let bytes = unsafe { array::<u8>(name, text.ptr.cast(), text.len)? };
    str::from_utf8(bytes).map_err(|e| Failure::argument(format!("{name}: not UTF-8: {e}")))
}

/// The length of an array that can exist.
fn length<T>(name: &str, ptr: *const T, len: u64) -> Result<usize, Failure> {
    if ptr.is_null() || !ptr.is_aligned() {
        return Err(Failure::argument(format!("{name}: null or misaligned, with a length of {len}")));
    }
    let largest = isize::MAX as usize / size_of::<T>().max(1);
    usize::try_from(len)
        .ok()
        .filter(|&len| len <= largest)
        .ok_or_else(|| Failure::argument(format!("{name}: {len} elements are more than memory holds")))
}

//! Arrays beside guard pages: each ends, or begins, exactly where a page without access rights does.

#![expect(unsafe_code, reason = "maps pages and takes rights from them")]

use std::{ffi::c_void, io, ptr, slice};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// On which side the guard page adjoins the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardPage {
    Before,
    After,
}

/// Numbers, of which every bit pattern is one.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f64 {}
impl Plain for u32 {}

/// An array in pages of its own, between two guard pages.
pub(crate) struct GuardedArray<T: Plain> {
    map: *mut c_void,
    mapped: usize,
    page: usize,
    first: *mut T,
    len: usize,
}

impl<T: Plain> GuardedArray<T> {
    /// A copy of these values.
    pub(crate) fn new(values: &[T], guard: GuardPage) -> io::Result<Self> {
        // At least as large as any page of the machines that we build for.
        let page = 65_536;
        let bytes = size_of_val(values);
        let body = bytes.next_multiple_of(page).max(page);
        let mapped = body + 2 * page;
        // SAFETY: a new anonymous mapping, at an address of the kernel's choice, overlaps nothing.
        let map = unsafe { mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let start = map.cast::<u8>().wrapping_add(page);
        let offset = if guard == GuardPage::After { body - bytes } else { 0 };
        // `body` and `bytes` are multiples of the size of `T`, which is its alignment.
        let first = start.wrapping_add(offset).cast::<T>();
        let fenced = Self { map, mapped, page, first, len: values.len() };
        fenced.protect(MprotectFlags::READ | MprotectFlags::WRITE)?;
        // SAFETY: `offset + bytes <= body`, and the body was made writable in the line before. `first` is aligned, and the
        // mapping is new, so nothing overlaps `values`.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), first, values.len()) };
        Ok(fenced)
    }

    /// Makes it read-only.
    pub(crate) fn read_only(self) -> io::Result<Self> {
        self.protect(MprotectFlags::READ)?;
        Ok(self)
    }

    /// Revokes all access: touching it from now on ends the process. The addresses stay mapped, so that nothing else is placed
    /// there.
    pub(crate) fn revoke(self) -> io::Result<RevokedArray<T>> {
        self.protect(MprotectFlags::empty())?;
        Ok(RevokedArray { _array: self })
    }

    fn protect(&self, rights: MprotectFlags) -> io::Result<()> {
        let body = self.map.cast::<u8>().wrapping_add(self.page).cast::<c_void>();
        // SAFETY: `body` and the length lie within this mapping. Taking rights away is what `read_only` and `forbid` consume
        // `self` for, so no slice of it is alive.
        Ok(unsafe { mprotect(body, self.mapped - 2 * self.page, rights) }?)
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `len` values behind `first` were written by `new` and can be read: a `GuardedArray` that cannot be is a `RevokedArray`,
        // which gives no slices.
        unsafe { slice::from_raw_parts(self.first, self.len) }
    }

    /// Only for one that is not [`read_only`](Self::read_only); writing to one that is ends the process.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as for `as_slice`; `&mut self` makes it exclusive.
        unsafe { slice::from_raw_parts_mut(self.first, self.len) }
    }
}

impl<T: Plain> Drop for GuardedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made by `new`; every slice of it borrowed `self`.
        let _ = unsafe { munmap(self.map, self.mapped) };
    }
}

/// A [`GuardedArray`] that can neither be read nor written any more.
pub(crate) struct RevokedArray<T: Plain> {
    _array: GuardedArray<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_array_touches_the_array() {
        for len in [0, 1, 1000, 16_384, 16_385] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let after = GuardedArray::new(&values, GuardPage::After).unwrap();
            assert_eq!(after.as_slice(), values);
            assert_eq!(after.as_slice().as_ptr_range().end.addr() % 65_536 % 4096, 0);
            let mut before = GuardedArray::new(&values, GuardPage::Before).unwrap();
            assert_eq!(before.as_slice().as_ptr().addr() % 4096, 0);
            before.as_mut_slice().fill(1.0);
            before.read_only().unwrap().revoke().unwrap();
        }
    }
}

//! Memory with a wall: an array that ends, or begins, exactly where no byte may be touched.

#![expect(unsafe_code, reason = "maps pages and takes rights from them")]

use std::{ffi::c_void, io, ptr, slice};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Where the wall touches the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wall {
    Before,
    Behind,
}

/// Numbers, of which every bit pattern is one.
pub(crate) trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f64 {}
impl Plain for u32 {}

/// An array in pages of its own, between two pages that nobody may touch.
pub(crate) struct Fenced<T: Plain> {
    map: *mut c_void,
    mapped: usize,
    page: usize,
    first: *mut T,
    len: usize,
}

impl<T: Plain> Fenced<T> {
    /// A copy of these values.
    pub(crate) fn new(values: &[T], wall: Wall) -> io::Result<Self> {
        // At least as large as any page of the machines that we build for.
        let page = 65_536;
        let bytes = size_of_val(values);
        let body = bytes.next_multiple_of(page).max(page);
        let mapped = body + 2 * page;
        // SAFETY: a new anonymous mapping, at an address of the kernel's choice, overlaps nothing.
        let map = unsafe { mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let start = map.cast::<u8>().wrapping_add(page);
        let offset = if wall == Wall::Behind { body - bytes } else { 0 };
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

    /// Walls it in: who touches it from now on, dies. The addresses stay taken, so that nothing else comes to lie there.
    pub(crate) fn forbid(self) -> io::Result<Forbidden<T>> {
        self.protect(MprotectFlags::empty())?;
        Ok(Forbidden { _wall: self })
    }

    fn protect(&self, rights: MprotectFlags) -> io::Result<()> {
        let body = self.map.cast::<u8>().wrapping_add(self.page).cast::<c_void>();
        // SAFETY: `body` and the length lie within this mapping. Taking rights away is what `read_only` and `forbid` consume
        // `self` for, so no slice of it is alive.
        Ok(unsafe { mprotect(body, self.mapped - 2 * self.page, rights) }?)
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `len` values behind `first` were written by `new` and can be read: a `Fenced` that cannot be is a `Forbidden`,
        // which gives no slices.
        unsafe { slice::from_raw_parts(self.first, self.len) }
    }

    /// Only for one that is not [`read_only`](Self::read_only); writing to one that is ends the process.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as for `as_slice`; `&mut self` makes it exclusive.
        unsafe { slice::from_raw_parts_mut(self.first, self.len) }
    }
}

impl<T: Plain> Drop for Fenced<T> {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made by `new`; every slice of it borrowed `self`.
        let _ = unsafe { munmap(self.map, self.mapped) };
    }
}

/// A [`Fenced`] that nobody may touch any more.
pub(crate) struct Forbidden<T: Plain> {
    _wall: Fenced<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_touches_the_array() {
        for len in [0, 1, 1000, 16_384, 16_385] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let behind = Fenced::new(&values, Wall::Behind).unwrap();
            assert_eq!(behind.as_slice(), values);
            assert_eq!(behind.as_slice().as_ptr_range().end.addr() % 65_536 % 4096, 0);
            let mut before = Fenced::new(&values, Wall::Before).unwrap();
            assert_eq!(before.as_slice().as_ptr().addr() % 4096, 0);
            before.as_mut_slice().fill(1.0);
            before.read_only().unwrap().forbid().unwrap();
        }
    }
}

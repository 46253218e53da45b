//! Integers of 2, 4 or 8 bits, several to a byte, the first in the lowest bits.

/// How integers lie in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) bits: u32,
    pub(crate) signed: bool,
    /// Integers of a row, and how many places a row takes: rows may be padded.
    pub(crate) row: usize,
    pub(crate) stored: usize,
}

impl Packing {
    /// One after the other, without rows.
    pub(crate) fn flat(bits: u32, signed: bool) -> Self {
        Self { bits, signed, row: 1, stored: 1 }
    }

    /// Rows that begin at whole bytes.
    pub(crate) fn rows(bits: u32, signed: bool, row: usize) -> Self {
        let per_byte = 8 / bits as usize;
        let stored = row.next_multiple_of(per_byte);
        if stored == row { Self::flat(bits, signed) } else { Self { bits, signed, row, stored } }
    }

    /// Bytes of so many integers.
    pub(crate) fn bytes(self, n: usize) -> usize {
        let places = n.div_ceil(self.row) * self.stored;
        (places * self.bits as usize).div_ceil(8)
    }

    pub(crate) fn lowest(self) -> i32 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    pub(crate) fn highest(self) -> i32 {
        self.lowest() + (1 << self.bits) - 1
    }

    /// The bytes that hold the integers from `start` on.
    pub(crate) fn span(self, start: usize, n: usize) -> std::ops::Range<usize> {
        if n == 0 {
            return 0..0;
        }
        let bits = self.bits as usize;
        self.place(start) * bits / 8..((self.place(start + n - 1) + 1) * bits).div_ceil(8)
    }

    /// Reads integers from the bytes of their [`span`](Self::span).
    pub(crate) fn unpack(self, start: usize, bytes: &[u8], out: &mut [i32]) {
        let bits = self.bits as usize;
        let first = self.place(start) * bits / 8;
        let mask = (1_i32 << bits) - 1;
        for (i, out) in out.iter_mut().enumerate() {
            let at = self.place(start + i) * bits;
            let value = i32::from(bytes[at / 8 - first]) >> (at % 8) & mask;
            *out = if self.signed && value > self.highest() { value - (1 << bits) } else { value };
        }
    }

    fn place(self, i: usize) -> usize {
        i / self.row * self.stored + i % self.row
    }
}

/// Packs integers one after the other.
pub(crate) struct Packer {
    packing: Packing,
    count: usize,
    partial: u8,
    filled: u32,
}

impl Packer {
    pub(crate) fn new(packing: Packing) -> Self {
        Self { packing, count: 0, partial: 0, filled: 0 }
    }

    pub(crate) fn push(&mut self, value: i32, out: &mut Vec<u8>) {
        self.put(value, out);
        self.count += 1;
        if self.count.is_multiple_of(self.packing.row) {
            for _ in self.packing.row..self.packing.stored {
                self.put(0, out);
            }
        }
    }

    /// The last byte, if it is not full.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            out.push(self.partial);
        }
    }

    fn put(&mut self, value: i32, out: &mut Vec<u8>) {
        let bits = self.packing.bits;
        let low = value.to_le_bytes()[0] & (u8::MAX >> (8 - bits));
        self.partial |= low << self.filled;
        self.filled += bits;
        if self.filled == 8 {
            out.push(self.partial);
            (self.partial, self.filled) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_from_anywhere() {
        for bits in [2, 4, 8] {
            for signed in [false, true] {
                for packing in
                    [Packing::flat(bits, signed), Packing::rows(bits, signed, 5), Packing::rows(bits, signed, 8)]
                {
                    let n = 20;
                    let range = packing.lowest()..=packing.highest();
                    let values: Vec<i32> = range.cycle().take(n).collect();
                    let (mut packer, mut bytes) = (Packer::new(packing), Vec::new());
                    for &value in &values {
                        packer.push(value, &mut bytes);
                    }
                    packer.finish(&mut bytes);
                    assert_eq!(bytes.len(), packing.bytes(n), "{packing:?}");
                    for start in 0..n {
                        let mut out = vec![0; n - start];
                        packing.unpack(start, &bytes[packing.span(start, n - start)], &mut out);
                        assert_eq!(out, values[start..], "{packing:?} from {start}");
                    }
                }
            }
        }
    }
}

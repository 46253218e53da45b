//! Columns of numbers as one compressed stream.
//!
//! A column is stored with the bytes of like significance together: exponents of neighbouring logits resemble each other,
//! their last digits do not, and a compressor that sees them apart makes less of them.

use std::io::{Read, Write};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde::{Deserialize, Serialize};

/// A column as a block describes it: enough for a reader in any language.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub(super) name: String,
    /// As numpy writes it: `<u4`, `<f8`, …
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
}

impl Column {
    pub(super) fn new<N: Number>(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), dtype: N::DTYPE.to_owned(), shape: shape.to_vec() }
    }
}

/// A number with a fixed little-endian form.
pub(super) trait Number: Copy {
    /// numpy's name of it.
    const DTYPE: &'static str;
    /// Its bytes.
    const SIZE: usize;
    fn put(self, bytes: &mut [u8], at: usize, stride: usize);
    fn get(bytes: &[u8], at: usize, stride: usize) -> Self;
}

macro_rules! number {
    ($type:ty, $dtype:literal) => {
        impl Number for $type {
            const DTYPE: &'static str = $dtype;
            const SIZE: usize = size_of::<$type>();

            fn put(self, bytes: &mut [u8], at: usize, stride: usize) {
                for (plane, byte) in self.to_le_bytes().into_iter().enumerate() {
                    bytes[plane * stride + at] = byte;
                }
            }

            fn get(bytes: &[u8], at: usize, stride: usize) -> Self {
                Self::from_le_bytes(std::array::from_fn(|plane| bytes[plane * stride + at]))
            }
        }
    };
}

number!(u32, "<u4");
number!(f32, "<f4");
number!(f64, "<f8");
number!(half::f16, "<f2");

/// Collects columns.
#[derive(Default)]
pub(super) struct Packer {
    pub(super) columns: Vec<Column>,
    bytes: Vec<u8>,
}

impl Packer {
    pub(super) fn push<N: Number>(&mut self, name: &str, shape: &[usize], numbers: &[N]) {
        self.columns.push(Column::new::<N>(name, shape));
        let start = self.bytes.len();
        self.bytes.resize(start + numbers.len() * N::SIZE, 0);
        let bytes = &mut self.bytes[start..];
        for (at, &number) in numbers.iter().enumerate() {
            number.put(bytes, at, numbers.len());
        }
    }

    pub(super) fn finish(self) -> Result<(Vec<Column>, Vec<u8>)> {
        // More effort gains two parts in a hundred and takes five times as long.
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        let packed = encoder.write_all(&self.bytes).and_then(|()| encoder.finish());
        Ok((self.columns, packed.or_err(ErrorKind::Internal, "tape: compressing")?))
    }
}

/// Hands out columns in the order in which they were packed.
pub(super) struct Unpacker {
    bytes: Vec<u8>,
    at: usize,
}

impl Unpacker {
    /// Unpacks `expected` bytes; an error says why there are not so many.
    pub(super) fn new(packed: &[u8], expected: usize) -> Result<Self, String> {
        // Deflate makes at most 1032 bytes of one: what claims more is not worth an allocation.
        if expected / 1032 > packed.len() {
            return Err(format!("{} bytes cannot hold {expected}", packed.len()));
        }
        let mut bytes = Vec::with_capacity(expected);
        let mut decoder = ZlibDecoder::new(packed).take(expected as u64 + 1);
        decoder.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() != expected {
            return Err(format!("its columns are not the {expected} bytes that it announces"));
        }
        Ok(Self { bytes, at: 0 })
    }

    /// The next column.
    pub(super) fn take<N: Number>(&mut self, count: usize) -> Result<Vec<N>> {
        let end = count.checked_mul(N::SIZE).and_then(|bytes| bytes.checked_add(self.at));
        let bytes = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "tape: a column was asked for that is longer than what was unpacked")
        })?;
        self.at += bytes.len();
        Ok((0..count).map(|at| N::get(bytes, at, count)).collect())
    }
}

//! Weights: what they are, and where their bytes lie.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::{
    error::invalid,
    proto, shape,
    stamp::{Stamp, changed},
};

/// The type of a tensor's elements, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ElementType(pub i32);

impl ElementType {
    /// 32-bit float
    pub const FLOAT: Self = Self(1);
    /// 64-bit signed integer
    pub const INT64: Self = Self(7);
    /// Text; has no bytes of its own
    pub const STRING: Self = Self(8);
    /// Truth value, a byte each
    pub const BOOL: Self = Self(9);
    /// 16-bit float of IEEE 754
    pub const FLOAT16: Self = Self(10);
    /// 16-bit float with the exponent of 32-bit floats
    pub const BFLOAT16: Self = Self(16);

    /// Bits of one element; `None` for text and for types that the format got later.
    pub fn bits(self) -> Option<u64> {
        Some(match self.0 {
            1 | 6 | 12 => 32,
            2 | 3 | 9 | 17..=20 | 24 => 8,
            4 | 5 | 10 | 16 => 16,
            7 | 11 | 13 | 14 => 64,
            15 => 128,
            21..=23 => 4,
            25 | 26 => 2,
            _ => return None,
        })
    }

    /// Bytes of so many elements, packed as the format packs them; `None` as for [`bits`](Self::bits) and on overflow.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        Some(elements.checked_mul(self.bits()?)?.div_ceil(8))
    }
}

/// Where a tensor's bytes lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TensorData {
    /// In the tensor's own header, raw or as typed numbers.
    Header,
    /// In a file: the model's own, or one of external data.
    File {
        /// The file
        path: Arc<Path>,
        /// Bytes before the first
        offset: u64,
        /// Bytes
        length: u64,
    },
}

/// A named tensor of the main graph.
#[derive(Clone, Debug)]
pub struct Initializer {
    header: proto::Tensor,
    data: TensorData,
    /// Of the file, when it was opened.
    stamp: Option<Stamp>,
}

impl Initializer {
    /// # Errors
    /// If the bytes are not as many as the shape needs.
    pub(crate) fn new(header: proto::Tensor, data: TensorData) -> Result<Self> {
        let initializer = Self { header, data, stamp: None };
        initializer.check()?;
        Ok(initializer)
    }

    pub(crate) fn with_stamp(mut self, stamp: Option<Stamp>) -> Self {
        self.stamp = stamp;
        self
    }

    /// Whether a file can be the one that the bytes lie in.
    pub(crate) fn is_of(&self, file: Stamp) -> bool {
        let enough = match self.data {
            TensorData::Header => true,
            TensorData::File { offset, length, .. } => offset + length <= file.bytes,
        };
        enough && self.stamp.is_none_or(|stamp| stamp == file)
    }

    /// # Errors
    /// If the shape is impossible, or the bytes are not as many as it needs.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |what: String| invalid(format!("initializer `{}` {what}", self.name()));
        let TensorData::File { length, .. } = self.data else {
            return check(&self.header).map_err(wrong);
        };
        let elements = self.elements().ok_or_else(|| wrong("has an impossible shape".into()))?;
        match self.element_type().bytes(elements) {
            Some(needed) if needed != length => Err(wrong(format!("needs {needed} bytes and has {length}"))),
            None => Err(wrong(format!("has elements of unknown type {}", self.element_type().0))),
            Some(_) => Ok(()),
        }
    }

    /// A new tensor of 64-bit integers.
    pub fn int64(name: impl Into<String>, dims: &[i64], values: &[i64]) -> Self {
        Self::raw(name, ElementType::INT64, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A new tensor of 32-bit floats.
    pub fn float(name: impl Into<String>, dims: &[i64], values: &[f32]) -> Self {
        Self::raw(name, ElementType::FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A new tensor of these bytes, little-endian.
    pub fn raw(name: impl Into<String>, element: ElementType, dims: &[i64], bytes: Vec<u8>) -> Self {
        let header = proto::Tensor {
            name: Some(name.into()),
            data_type: Some(element.0),
            dims: dims.to_vec(),
            raw_data: Some(bytes),
            ..Default::default()
        };
        Self { header, data: TensorData::Header, stamp: None }
    }

    /// The same tensor with other elements: those that lie in a file from `offset` on, little-endian and packed.
    ///
    /// # Errors
    /// If the elements are text or of a type without a known size.
    pub fn with_data(&self, path: Arc<Path>, offset: u64) -> Result<Self> {
        let length = self.elements().and_then(|n| self.element_type().bytes(n));
        let length = length.ok_or_else(|| {
            let kind = self.element_type().0;
            Error::new(
                ErrorKind::Unsupported,
                format!("initializer `{}`: elements of type {kind} have no bytes", self.name()),
            )
        })?;
        let old = &self.header;
        let header = proto::Tensor {
            name: old.name.clone(),
            data_type: old.data_type,
            dims: old.dims.clone(),
            doc_string: old.doc_string.clone(),
            metadata_props: old.metadata_props.clone(),
            ..Default::default()
        };
        Self::new(header, TensorData::File { path, offset, length })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.header.name()
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: impl Into<String>) {
        self.header.name = Some(name.into());
    }

    /// Its shape.
    pub fn dims(&self) -> &[i64] {
        &self.header.dims
    }

    /// The type of its elements.
    pub fn element_type(&self) -> ElementType {
        ElementType(self.header.data_type())
    }

    /// Where its bytes are.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// What the file says of it but its bytes, unless they stand there.
    pub fn header(&self) -> &proto::Tensor {
        &self.header
    }

    fn elements(&self) -> Option<u64> {
        shape::elements(self.dims())
    }

    /// Bytes of its elements, packed; 0 for text.
    pub fn byte_length(&self) -> u64 {
        match &self.data {
            TensorData::File { length, .. } => *length,
            TensorData::Header => self.elements().and_then(|n| self.element_type().bytes(n)).unwrap_or(0),
        }
    }

    /// Its elements as little-endian bytes, whatever form they have in the file.
    ///
    /// # Errors
    /// If a file cannot be read, the numbers are not as many as the shape says, or the elements are text.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes its elements as little-endian bytes, in pieces: memory does not grow with the tensor.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and where writing fails.
    pub fn copy_to(&self, out: &mut dyn Write) -> Result<u64> {
        let failed = |what: &dyn std::fmt::Display, e: io::Error| {
            Error::new(ErrorKind::Io, format!("{what}: {e}")).with_source(e)
        };
        match &self.data {
            TensorData::Header => {
                let bytes = self.header_bytes()?;
                out.write_all(&bytes).map_err(|e| failed(&self.name(), e))?;
                Ok(bytes.len() as u64)
            }
            TensorData::File { path, offset, length } => {
                let unreadable = |e| failed(&path.display(), e);
                let mut file = File::open(path).map_err(unreadable)?;
                if !self.is_of(Stamp::of(&file.metadata().map_err(unreadable)?)) {
                    return Err(changed(path));
                }
                file.seek(SeekFrom::Start(*offset)).map_err(unreadable)?;
                let copied = io::copy(&mut file.take(*length), out).map_err(unreadable)?;
                if copied == *length { Ok(copied) } else { Err(changed(path)) }
            }
        }
    }

    /// The SHA-256 of type, shape and bytes: what is equal here is the same tensor under whatever name.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn sha256(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(self.element_type().0.to_le_bytes());
        for dim in self.dims() {
            hash.update(dim.to_le_bytes());
        }
        self.copy_to(&mut Hashing(&mut hash))?;
        Ok(hash.finalize().into())
    }

    fn header_bytes(&self) -> Result<Vec<u8>> {
        let header = &self.header;
        if let Some(raw) = &header.raw_data {
            return self.complete(raw.clone());
        }
        let narrow = |width: usize| {
            header.int32_data.iter().flat_map(move |n| n.to_le_bytes().into_iter().take(width)).collect()
        };
        let bytes: Vec<u8> = match self.element_type().0 {
            1 | 14 => header.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            6 => narrow(4),
            4 | 5 | 10 | 16 => narrow(2),
            2 | 3 | 9 | 17..=26 => narrow(1),
            7 => header.int64_data.iter().flat_map(|n| n.to_le_bytes()).collect(),
            11 | 15 => header.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            13 => header.uint64_data.iter().flat_map(|n| n.to_le_bytes()).collect(),
            12 => header.uint64_data.iter().flat_map(|n| n.to_le_bytes().into_iter().take(4)).collect(),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("initializer `{}`: elements of type {other} have no bytes", self.name()),
                ));
            }
        };
        self.complete(bytes)
    }

    fn complete(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if bytes.len() as u64 == self.byte_length() {
            return Ok(bytes);
        }
        Err(invalid(format!(
            "initializer `{}` needs {} bytes and has {}",
            self.name(),
            self.byte_length(),
            bytes.len()
        )))
    }
}

/// What is wrong with a tensor whose elements stand in its header.
pub(crate) fn check(tensor: &proto::Tensor) -> Result<(), String> {
    let elements = shape::elements(&tensor.dims).ok_or("has an impossible shape")?;
    if tensor.data_location.is_some_and(|location| location != 0) {
        return Err("has its elements in another file: open the model from its file".into());
    }
    let element = ElementType(tensor.data_type());
    if element == ElementType::STRING {
        let texts = tensor.string_data.len() as u64;
        return if texts == elements { Ok(()) } else { Err(format!("needs {elements} texts and has {texts}")) };
    }
    // Of a type that the format got later nothing is known.
    let (Some(needed), Some(there)) = (element.bytes(elements), header_length(tensor)) else { return Ok(()) };
    if needed == there { Ok(()) } else { Err(format!("needs {needed} bytes and has {there}")) }
}

/// Bytes of the elements that stand in a tensor's header, raw or as typed numbers.
fn header_length(tensor: &proto::Tensor) -> Option<u64> {
    if let Some(raw) = &tensor.raw_data {
        return Some(raw.len() as u64);
    }
    let (numbers, width) = match tensor.data_type() {
        1 | 14 => (tensor.float_data.len(), 4),
        6 => (tensor.int32_data.len(), 4),
        4 | 5 | 10 | 16 => (tensor.int32_data.len(), 2),
        2 | 3 | 9 | 17..=26 => (tensor.int32_data.len(), 1),
        7 => (tensor.int64_data.len(), 8),
        11 | 15 => (tensor.double_data.len(), 8),
        13 => (tensor.uint64_data.len(), 8),
        12 => (tensor.uint64_data.len(), 4),
        _ => return None,
    };
    Some(numbers as u64 * width)
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

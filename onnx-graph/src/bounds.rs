//! What a file may hold, checked on the encoded bytes: decoding an empty message costs hundreds of bytes of memory for two
//! of the file.

use std::io;

use crate::{shape::MAX_DIMENSIONS, wire::malformed};

/// Bytes outside the raw data of initializers. A decoder of 7 B parameters has less than 10 MiB.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 20;

/// Fields of all messages together. A decoder of 7 B parameters has about 200 000.
pub(crate) const MAX_FIELDS: usize = 2_000_000;

/// What a message costs besides its fields: up to half a kilobyte of memory.
const MESSAGE_FIELDS: usize = 4;

/// Bytes of packed numbers that cost as much as a field; each may be one of 8 bytes in memory.
const PACKED_FIELD: usize = 16;

/// Initializers of the main graph. A decoder of 7 B parameters has less than 2000.
pub(crate) const MAX_INITIALIZERS: usize = 400_000;

/// Messages inside messages; `prost` refuses what is deeper while it decodes.
pub(crate) const MAX_DEPTH: usize = 100;

/// Inputs of a node, or outputs.
const MAX_NAMES: usize = 1 << 16;

/// The messages that hold others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Function,
    ValueInfo,
    Type,
    /// Of a tensor.
    TensorType,
    Shape,
    /// Of a sequence, or of what may be left out.
    ElementType,
    MapType,
    /// Holds messages, none of which are named here: each counts as what it could hold at most.
    Other,
}

impl Kind {
    /// What the field of this number holds, if that is a message.
    pub(crate) fn child(self, field: u64) -> Option<Kind> {
        Some(match (self, field) {
            (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
            (Kind::Model, 25) => Kind::Function,
            (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::SparseTensor, 1 | 2) => Kind::Tensor,
            (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => Kind::SparseTensor,
            (Kind::Graph, 11..=13) | (Kind::Function, 12) => Kind::ValueInfo,
            (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
            (Kind::Attribute, 14 | 15) | (Kind::ValueInfo | Kind::MapType, 2) | (Kind::ElementType, 1) => Kind::Type,
            (Kind::Type, 1 | 8) => Kind::TensorType,
            (Kind::Type, 4 | 9) => Kind::ElementType,
            (Kind::Type, 5) => Kind::MapType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Graph, 14 | 16)
            | (Kind::Model, 8 | 14)
            | (Kind::Node, 9)
            | (Kind::Tensor, 13 | 16)
            | (Kind::ValueInfo, 4)
            | (Kind::Function, 9 | 14)
            | (Kind::Type, 7)
            | (Kind::Shape, 1)
            | (Kind::Other, 1 | 2) => Kind::Other,
            _ => return None,
        })
    }

    /// Whether the field holds elements of a tensor.
    pub(crate) fn is_data(self, field: u64) -> bool {
        self == Kind::Tensor && matches!(field, 4..=7 | 9..=11)
    }
}

/// Counts the fields of a message and of those inside it.
pub(crate) fn check(kind: Kind, bytes: &[u8], fields: &mut usize) -> io::Result<()> {
    walk(kind, bytes, fields, 0)
}

fn walk(kind: Kind, mut bytes: &[u8], fields: &mut usize, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(malformed("nests too deeply"));
    }
    let mut lists = Lists::default();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        if tag >> 3 == 0 {
            return Err(malformed("a field without a number"));
        }
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).map_err(|_| malformed("a length overflows"))?,
            5 => 4,
            _ => return Err(malformed("a field of unknown kind")),
        };
        let (value, rest) = bytes.split_at_checked(length).ok_or_else(|| malformed("a field runs past its message"))?;
        bytes = rest;
        let (field, packed) = (tag >> 3, tag & 7 == 2);
        let child = if packed { kind.child(field) } else { None };
        *fields += 1;
        *fields += match child {
            Some(_) => MESSAGE_FIELDS,
            None if packed && kind == Kind::Tensor && matches!(field, 1 | 5 | 7 | 11) => length / PACKED_FIELD,
            None => 0,
        };
        if *fields > MAX_FIELDS {
            return Err(malformed(&format!("holds more than {MAX_FIELDS} fields")));
        }
        lists.count(kind, field, if packed { Some(value) } else { None })?;
        if let Some(child) = child {
            // What `Other` holds is text more often than a message, and text need not be well-formed as one.
            match walk(child, value, fields, depth + 1) {
                Err(_) if kind == Kind::Other && *fields <= MAX_FIELDS => {}
                result => result?,
            }
        }
    }
    Ok(())
}

/// How long the lists of one message are that have few entries in sound files.
#[derive(Default)]
struct Lists {
    dimensions: usize,
    inputs: usize,
    outputs: usize,
}

impl Lists {
    fn count(&mut self, kind: Kind, field: u64, bytes: Option<&[u8]>) -> io::Result<()> {
        match (kind, field) {
            (Kind::Shape, 1) => self.dimensions += 1,
            // One after the other, or packed: each number ends in a byte without the highest bit.
            (Kind::Tensor, 1) => {
                let packed = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte & 0x80 == 0).count();
                self.dimensions += bytes.map_or(1, packed);
            }
            (Kind::Node, 1) => self.inputs += 1,
            (Kind::Node, 2) => self.outputs += 1,
            _ => {}
        }
        if self.dimensions > MAX_DIMENSIONS {
            return Err(malformed(&format!("more than {MAX_DIMENSIONS} dimensions of a tensor")));
        }
        if self.inputs.max(self.outputs) > MAX_NAMES {
            return Err(malformed(&format!("more than {MAX_NAMES} inputs or outputs of a node")));
        }
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| malformed("ends in the middle of a number"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("a number of more than 64 bits"))
}

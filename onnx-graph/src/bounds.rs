//! What a file may hold, checked on the encoded bytes: decoding an empty message costs hundreds of bytes of memory for two
//! of the file.

use std::io;

use crate::wire::malformed;

/// Bytes outside the raw data of initializers. A decoder of 7 B parameters has less than 10 MiB.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 20;

/// Fields of all messages together. A decoder of 7 B parameters has about 200 000.
pub(crate) const MAX_FIELDS: usize = 2_000_000;

/// Messages inside messages; `prost` refuses what is deeper while it decodes.
const MAX_DEPTH: usize = 100;

/// The messages that hold others.
#[derive(Clone, Copy)]
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
    /// Holds messages, none of which are named here: each counts as what it could hold at most.
    Other,
}

impl Kind {
    /// What the field of this number holds, if that is a message.
    fn child(self, field: u64) -> Option<Kind> {
        Some(match (self, field) {
            (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
            (Kind::Model, 25) => Kind::Function,
            (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::SparseTensor, 1 | 2) => Kind::Tensor,
            (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => Kind::SparseTensor,
            (Kind::Graph, 11..=13) | (Kind::Function, 12) => Kind::ValueInfo,
            (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
            (Kind::Attribute, 14 | 15) | (Kind::ValueInfo, 2) => Kind::Type,
            (Kind::Graph, 14 | 16)
            | (Kind::Model, 8 | 14)
            | (Kind::Node, 9)
            | (Kind::Tensor, 13 | 16)
            | (Kind::ValueInfo, 4)
            | (Kind::Function, 9 | 14)
            | (Kind::Type, 1 | 4 | 5 | 7 | 8 | 9)
            | (Kind::Other, 1 | 2) => Kind::Other,
            _ => return None,
        })
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
    while !bytes.is_empty() {
        *fields += 1;
        if *fields > MAX_FIELDS {
            return Err(malformed(&format!("holds more than {MAX_FIELDS} fields")));
        }
        let tag = varint(&mut bytes)?;
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
        if let (2, Some(child)) = (tag & 7, kind.child(tag >> 3)) {
            // What `Other` holds is text more often than a message, and text need not be well-formed as one.
            match walk(child, value, fields, depth + 1) {
                Err(_) if matches!(kind, Kind::Other) && *fields <= MAX_FIELDS => {}
                result => result?,
            }
        }
    }
    Ok(())
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

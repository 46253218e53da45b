//! A reader of protobuf's wire format that seeks over what is not asked for: a model with gigabytes of weights inside is
//! opened without reading them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use crate::stamp::Stamp;

pub(crate) struct WireReader {
    file: BufReader<File>,
    position: u64,
    length: u64,
    stamp: Stamp,
}

/// One field of a message: its number, and its value or where its bytes end.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) number: u64,
    /// Where the field begins, its tag included.
    pub(crate) start: u64,
    pub(crate) value: Value,
}

#[derive(Clone, Copy)]
pub(crate) enum Value {
    Number,
    /// Bytes from the current position to this one: a string, a nested message, packed numbers.
    Until(u64),
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl WireReader {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe waits for its writer.
        if !path.metadata()?.is_file() {
            return Err(malformed("is no regular file"));
        }
        let file = File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), position: 0, length: stamp.bytes, stamp })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next field of the message that ends at `end`; `None` at its end. What the caller did not read of a field must be
    /// skipped with [`skip_to`](Self::skip_to) first.
    pub(crate) fn field(&mut self, end: u64) -> io::Result<Option<Field>> {
        if self.position >= end {
            return if self.position == end { Ok(None) } else { Err(malformed("a field runs past its message")) };
        }
        let start = self.position;
        let tag = self.varint()?;
        if tag >> 3 == 0 {
            return Err(malformed("a field without a number"));
        }
        let value = match tag & 7 {
            0 => {
                self.varint()?;
                Value::Number
            }
            1 => Value::Until(self.position + 8),
            2 => {
                let length = self.varint()?;
                Value::Until(self.position.checked_add(length).ok_or_else(|| malformed("a length overflows"))?)
            }
            5 => Value::Until(self.position + 4),
            _ => return Err(malformed("a field of unknown kind")),
        };
        match value {
            Value::Until(field_end) if field_end > self.length => {
                Err(malformed(&format!("ends after {} bytes, {field_end} were announced", self.length)))
            }
            Value::Until(field_end) if field_end > end => Err(malformed("a field runs past its message")),
            _ => Ok(Some(Field { number: tag >> 3, start, value })),
        }
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.file.fill_buf()?.first().ok_or_else(|| malformed("ends in the middle of a number"))?;
            self.file.consume(1);
            self.position += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number of more than 64 bits"))
    }

    /// Appends the bytes from `start` to `end` to `out`, and stands at `end` afterwards.
    pub(crate) fn copy(&mut self, start: u64, end: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let back = i64::try_from(self.position - start).map_err(|_| malformed("a length overflows"))?;
        self.file.seek_relative(-back)?;
        let length = end - start;
        let read = (&mut self.file).take(length).read_to_end(out)?;
        if read as u64 != length {
            return Err(malformed("ends early"));
        }
        self.position = end;
        Ok(())
    }

    pub(crate) fn skip_to(&mut self, end: u64) -> io::Result<()> {
        let by = end.checked_sub(self.position).ok_or_else(|| malformed("a field runs past its message"))?;
        self.file.seek_relative(i64::try_from(by).map_err(|_| malformed("a length overflows"))?)?;
        self.position = end;
        Ok(())
    }
}

/// Appends the beginning of a field of so many bytes.
pub(crate) fn put_tag(bytes: &mut Vec<u8>, field: u64, length: u64) {
    const BYTES: u64 = 2;
    prost::encoding::encode_varint(field << 3 | BYTES, bytes);
    prost::encoding::encode_varint(length, bytes);
}

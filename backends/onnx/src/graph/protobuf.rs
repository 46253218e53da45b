//! A reader of protobuf's wire format that seeks over fields that are not asked for: a model with gigabytes of weights
//! inside is scanned without reading them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

pub(super) struct ProtobufReader {
    file: BufReader<File>,
    position: u64,
    length: u64,
}

/// One field of a message: its number, and its value or where its bytes end.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: Value,
}

#[derive(Clone, Copy)]
pub(super) enum Value {
    Number(u64),
    /// Bytes from the current position to this one: a string, a nested message, packed numbers.
    Until(u64),
}

pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl ProtobufReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe waits for its writer.
        if !path.metadata()?.is_file() {
            return Err(malformed("is no regular file"));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), position: 0, length })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next field of the message that ends at `end`; `None` at its end. What the caller did not read of a field
    /// must be skipped with [`skip_to`](Self::skip_to) first.
    pub(super) fn field(&mut self, end: u64) -> io::Result<Option<Field>> {
        if self.position >= end {
            return if self.position == end { Ok(None) } else { Err(malformed("a field runs past its message")) };
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
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
                Err(malformed(&format!("ends after {} bytes, {} were announced", self.length, field_end)))
            }
            Value::Until(field_end) if field_end > end => Err(malformed("a field runs past its message")),
            _ => Ok(Some(Field { number: tag >> 3, value })),
        }
    }

    pub(super) fn varint(&mut self) -> io::Result<u64> {
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

    /// The text from here to `end`. Names are short: what is longer than a megabyte is no name.
    pub(super) fn text(&mut self, end: u64) -> io::Result<String> {
        let length = end.saturating_sub(self.position);
        let length =
            usize::try_from(length).ok().filter(|&n| n <= 1 << 20).ok_or_else(|| malformed("a name too long"))?;
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        self.position = end;
        String::from_utf8(bytes).map_err(|_| malformed("a name that is not UTF-8"))
    }

    /// The numbers from here to `end`, packed.
    pub(super) fn packed(&mut self, end: u64) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        while self.position < end && numbers.len() <= super::MAX_DIMS {
            numbers.push(self.varint()?);
        }
        self.skip_to(end)?;
        Ok(numbers)
    }

    pub(super) fn skip_to(&mut self, end: u64) -> io::Result<()> {
        let by = end.checked_sub(self.position).ok_or_else(|| malformed("a field runs past its message"))?;
        self.file.seek_relative(i64::try_from(by).map_err(|_| malformed("a length overflows"))?)?;
        self.position = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::graph;

    /// `ModelProto { graph: GraphProto { node { input: "x", op_type: "Cast" }, input { name: "x", … } } }` by hand.
    const MODEL: &[u8] = &[
        0x3a, 22, // graph
        0x0a, 9, 0x0a, 1, b'x', 0x22, 4, b'C', b'a', b's', b't', // node
        0x5a, 9, 0x0a, 1, b'x', 0x12, 4, 0x0a, 2, 0x08, 7, // input: int64
    ];

    fn scan(bytes: &[u8]) -> std::io::Result<graph::GraphSummary> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        graph::scan(file.path())
    }

    #[test]
    fn a_graph_is_read_and_each_truncation_of_it_is_an_error() {
        let summary = scan(MODEL).unwrap();
        assert_eq!(summary.inputs[0].to_string(), "x i64[]");
        for length in 0..MODEL.len() {
            assert!(scan(&MODEL[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_byte_that_is_wrong_does_no_harm() {
        for at in 0..MODEL.len() {
            for byte in [0, 1, 8, 10, 0x3f, 0x7f, 0x80, 0xff] {
                let mut bytes = MODEL.to_vec();
                bytes[at] = byte;
                // Most are errors, some are other graphs; none may panic or allocate what a length announces.
                let _ = scan(&bytes);
            }
        }
    }
}

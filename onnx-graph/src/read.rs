//! The messages of a file, read into memory without the weights and within bounds.

use std::{io, path::Path};

use logitfuse_core::{Error, ErrorKind, Result};
use prost::Message;

use crate::{
    bounds::{self, Kind},
    proto,
    stamp::Stamp,
    wire::{Value, WireReader, malformed, put_tag},
};

/// Weights up to this many bytes stay in the header: shapes and scalars, which a change of the graph reads.
pub(crate) const INLINE_BYTES: u64 = 1024;

/// A tensor's header, and where its raw bytes begin and how many they are, if they are not in it.
pub(crate) type TensorParts = (proto::Tensor, Option<(u64, u64)>);

/// A file as it is read to be changed.
pub(crate) struct Parts {
    /// All but the initializers of the main graph.
    pub(crate) header: proto::Model,
    pub(crate) tensors: Vec<TensorParts>,
    /// Whether there are graphs for training.
    pub(crate) trains: bool,
    pub(crate) stamp: Stamp,
}

/// A file that is read into memory, up to [`bounds::MAX_HEADER_BYTES`] of it.
pub(crate) struct HeaderReader {
    file: WireReader,
    kept: usize,
    fields: usize,
}

impl HeaderReader {
    /// Opens a file and reads it; what is wrong with it is said with its path.
    pub(crate) fn read<T>(path: &Path, read: impl FnOnce(&mut Self) -> io::Result<T>) -> Result<T> {
        let read = WireReader::open(path).and_then(|file| read(&mut Self { file, kept: 0, fields: 0 }));
        read.map_err(|e| {
            let (kind, what) = match e.kind() {
                io::ErrorKind::NotFound => (ErrorKind::NotFound, "no such file".to_owned()),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    (ErrorKind::InvalidData, format!("not a whole ONNX file: {e}"))
                }
                _ => (ErrorKind::Io, e.to_string()),
            };
            Error::new(kind, format!("{}: {what}", path.display()))
                .with_help("fetch or export the file again")
                .with_source(e)
        })
    }

    /// All messages, without the elements of tensors.
    pub(crate) fn outline(&mut self) -> io::Result<proto::Model> {
        let end = self.file.length();
        let mut bytes = Vec::new();
        self.strip(Kind::Model, end, 0, &mut bytes)?;
        bounds::check(Kind::Model, &bytes, &mut 0)?;
        let model = decode::<proto::Model>(&bytes)?;
        if model.graph.is_none() {
            return Err(no_graph(end));
        }
        Ok(model)
    }

    fn strip(&mut self, kind: Kind, end: u64, depth: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if depth > bounds::MAX_DEPTH {
            return Err(malformed("nests too deeply"));
        }
        while let Some(field) = self.file.field(end)? {
            let Value::Until(field_end) = field.value else {
                self.keep(field.start, field.value, out)?;
                continue;
            };
            let large = field_end - self.file.position() > INLINE_BYTES;
            let training = (kind, field.number) == (Kind::Model, 20);
            if training || large && kind.is_data(field.number) {
                self.file.skip_to(field_end)?;
                continue;
            }
            match kind.child(field.number).filter(|child| large && *child != Kind::Other) {
                Some(child) => {
                    let mut inner = Vec::new();
                    self.strip(child, field_end, depth + 1, &mut inner)?;
                    put_tag(out, field.number, inner.len() as u64);
                    out.append(&mut inner);
                }
                None => self.keep(field.start, field.value, out)?,
            }
        }
        Ok(())
    }

    /// All messages; initializers of the main graph without raw data of more than [`INLINE_BYTES`].
    pub(crate) fn parts(&mut self) -> io::Result<Parts> {
        let (mut model, mut graph, mut tensors, mut trains) = (Vec::new(), None, Vec::new(), false);
        let end = self.file.length();
        while let Some(field) = self.file.field(end)? {
            match (field.number, field.value) {
                // Protobuf lets a message come in pieces, which are one after the other the whole.
                (7, Value::Until(graph_end)) => {
                    self.graph(graph_end, graph.get_or_insert_default(), &mut tensors)?;
                }
                (20, Value::Until(field_end)) => {
                    trains = true;
                    self.file.skip_to(field_end)?;
                }
                (_, value) => self.keep(field.start, value, &mut model)?,
            }
        }
        let graph = graph.ok_or_else(|| no_graph(end))?;
        let mut fields = 0;
        bounds::check(Kind::Model, &model, &mut fields)?;
        bounds::check(Kind::Graph, &graph, &mut fields)?;
        let mut header = decode::<proto::Model>(&model)?;
        header.graph = Some(decode(&graph)?);
        Ok(Parts { header, tensors, trains, stamp: self.file.stamp() })
    }

    fn graph(&mut self, end: u64, out: &mut Vec<u8>, tensors: &mut Vec<TensorParts>) -> io::Result<()> {
        while let Some(field) = self.file.field(end)? {
            match (field.number, field.value) {
                (5, Value::Until(tensor_end)) => {
                    tensors.push(self.tensor(tensor_end)?);
                    if tensors.len() > bounds::MAX_INITIALIZERS {
                        let most = bounds::MAX_INITIALIZERS;
                        return Err(malformed(&format!("has more than {most} initializers")));
                    }
                }
                (_, value) => self.keep(field.start, value, out)?,
            }
        }
        Ok(())
    }

    fn tensor(&mut self, end: u64) -> io::Result<TensorParts> {
        let (mut header, mut raw) = (Vec::new(), None);
        while let Some(field) = self.file.field(end)? {
            match (field.number, field.value) {
                (9, Value::Until(field_end)) => {
                    // Of a field that comes twice the last one counts.
                    let place = (self.file.position(), field_end - self.file.position());
                    raw = Some(place).filter(|(_, length)| *length > INLINE_BYTES);
                    match raw {
                        Some(_) => self.file.skip_to(field_end)?,
                        None => self.keep(field.start, field.value, &mut header)?,
                    }
                }
                (_, value) => self.keep(field.start, value, &mut header)?,
            }
        }
        bounds::check(Kind::Tensor, &header, &mut 0)?;
        Ok((decode(&header)?, raw))
    }

    fn keep(&mut self, start: u64, value: Value, out: &mut Vec<u8>) -> io::Result<()> {
        let end = match value {
            Value::Number => self.file.position(),
            Value::Until(end) => end,
        };
        let length = usize::try_from(end - start).map_err(|_| malformed("a length overflows"))?;
        self.kept = self.kept.saturating_add(length);
        self.fields += 1;
        if self.fields > bounds::MAX_FIELDS {
            return Err(malformed(&format!("holds more than {} fields", bounds::MAX_FIELDS)));
        }
        if self.kept > bounds::MAX_HEADER_BYTES {
            return Err(malformed(&format!(
                "holds more than {} MiB outside the raw data of its initializers",
                bounds::MAX_HEADER_BYTES >> 20
            )));
        }
        self.file.copy(start, end, out)
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    M::decode(bytes).map_err(|e| malformed(&e.to_string()))
}

fn no_graph(length: u64) -> io::Error {
    malformed(if length == 0 { "is empty" } else { "holds no graph" })
}

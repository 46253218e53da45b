//! From a [`Model`] to a file, and a second one for weights that would not fit.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use prost::Message;

use crate::{
    model::Model,
    proto,
    tensor::{Initializer, TensorData},
};

pub(crate) use crate::open::INLINE_BYTES;

/// Weights up to this many bytes in all stand in the model's own file. A protobuf file holds 2 GiB at most, and ONNX
/// Runtime maps only external data into memory without copying it.
const EMBED_BYTES: u64 = 256 << 20;

/// External weights begin at multiples of this, the largest page size in use.
const ALIGNMENT: u64 = 1 << 16;

impl Model {
    /// Writes the model to `path`, its weights too: into the same file if they are few, else beside it into
    /// `NAME.data`. The files appear under their names when they are complete.
    ///
    /// # Errors
    /// If a weight cannot be read or a file not be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_embedding(path, EMBED_BYTES)
    }

    /// As [`save`](Self::save), with weights of up to `embed_bytes` in all in the model's own file.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_embedding(&self, path: &Path, embed_bytes: u64) -> Result<()> {
        let total: u64 = self.initializers.iter().map(Initializer::byte_length).sum();
        if total <= embed_bytes {
            write_file(path, |out| self.write_with_weights(out))
        } else {
            let data = beside(path, ".data");
            let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let mut places = Vec::new();
            write_file(&data, |out| {
                places = self.write_data(out, &name)?;
                Ok(())
            })?;
            write_file(path, |out| {
                let mut model = self.header.clone();
                model.graph.get_or_insert_default().initializer = places;
                write(path, out, &model.encode_to_vec())
            })
        }
    }

    /// The header's fields, and the initializers' bytes as they are read: never all of them in memory.
    fn write_with_weights(&self, out: &mut dyn Write) -> Result<()> {
        let mut header = self.header.clone();
        let graph = header.graph.take().unwrap_or_default();
        let tensors: Vec<(Vec<u8>, u64)> = self.initializers.iter().map(raw_header).collect();
        let tensor_length = |(header, raw): &(Vec<u8>, u64)| {
            header.len() as u64 + if *raw > 0 { 1 + varint_length(*raw) + raw } else { 0 }
        };
        let tensor_fields: u64 =
            tensors.iter().map(tensor_length).map(|length| 1 + varint_length(length) + length).sum();

        let name = Path::new(graph.name());
        let mut bytes = header.encode_to_vec();
        let graph_header = graph.encode_to_vec();
        put_tag(&mut bytes, 7, graph_header.len() as u64 + tensor_fields);
        bytes.extend(graph_header);
        write(name, out, &bytes)?;
        for (initializer, tensor) in self.initializers.iter().zip(&tensors) {
            let (header, raw) = tensor;
            let mut bytes = Vec::with_capacity(header.len() + 32);
            put_tag(&mut bytes, 5, tensor_length(tensor));
            bytes.extend(header);
            if *raw > 0 {
                put_tag(&mut bytes, 9, *raw);
            }
            write(name, out, &bytes)?;
            if *raw > 0 {
                initializer.copy_to(out)?;
            }
        }
        Ok(())
    }

    /// The initializers' bytes one after the other, and the tensors that say where each is.
    fn write_data(&self, out: &mut dyn Write, file: &str) -> Result<Vec<proto::Tensor>> {
        let mut at: u64 = 0;
        let mut tensors = Vec::with_capacity(self.initializers.len());
        for initializer in &self.initializers {
            let length = initializer.byte_length();
            let mut tensor = initializer.header().clone();
            if length > INLINE_BYTES {
                let padding = at.next_multiple_of(ALIGNMENT) - at;
                write(Path::new(file), out, &vec![0; usize::try_from(padding).unwrap_or_default()])?;
                at += padding;
                let copied = initializer.copy_to(out)?;
                tensor = without_data(initializer);
                let entry = |key: &str, value: String| proto::Entry { key: Some(key.into()), value: Some(value) };
                tensor.external_data = vec![
                    entry("location", file.to_owned()),
                    entry("offset", at.to_string()),
                    entry("length", copied.to_string()),
                ];
                tensor.data_location = Some(proto::EXTERNAL);
                at += copied;
            } else if matches!(initializer.data(), TensorData::File { .. }) {
                tensor = without_data(initializer);
                tensor.raw_data = Some(initializer.bytes()?);
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }
}

/// A tensor's fields without its elements.
fn without_data(initializer: &Initializer) -> proto::Tensor {
    let header = initializer.header();
    proto::Tensor {
        dims: header.dims.clone(),
        data_type: header.data_type,
        name: header.name.clone(),
        doc_string: header.doc_string.clone(),
        metadata_props: header.metadata_props.clone(),
        ..Default::default()
    }
}

/// The encoded fields of a tensor, and how many raw bytes follow that are not among them.
fn raw_header(initializer: &Initializer) -> (Vec<u8>, u64) {
    match initializer.data() {
        TensorData::Header => (initializer.header().encode_to_vec(), 0),
        TensorData::File { length, .. } => (without_data(initializer).encode_to_vec(), *length),
    }
}

fn put_tag(bytes: &mut Vec<u8>, field: u32, length: u64) {
    prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, bytes);
    prost::encoding::encode_varint(length, bytes);
}

fn varint_length(value: u64) -> u64 {
    prost::encoding::encoded_len_varint(value) as u64
}

fn write(path: &Path, out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| failed(path, e))
}

fn failed(path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {e}", path.display())).with_source(e)
}

/// Writes a file under a name of its own and renames it: under its name there is the whole file or none.
fn write_file(path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let partial = beside(path, ".partial");
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(|e| failed(&partial, e))?);
        content(&mut out)?;
        let file = out.into_inner().map_err(|e| failed(&partial, e.into_error()))?;
        file.sync_all().map_err(|e| failed(&partial, e))?;
        fs::rename(&partial, path).map_err(|e| failed(path, e))
    })();
    if written.is_err() {
        // What cannot be removed either has been reported by the error that led here.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

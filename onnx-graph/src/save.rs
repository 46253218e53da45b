//! From a [`Model`] to a file, and a second one for weights that would not fit.

use std::{
    collections::HashMap,
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
    wire::put_tag,
};

pub(crate) use crate::read::INLINE_BYTES;

/// Weights up to this many bytes in all stand in the model's own file. A protobuf file holds 2 GiB at most, and ONNX
/// Runtime maps only external data into memory without copying it.
pub(crate) const EMBED_BYTES: u64 = 256 << 20;

/// Readers of protobuf, ONNX Runtime's among them, refuse what is larger.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// External weights begin at multiples of this, the largest page size in use.
const ALIGNMENT: u64 = 1 << 16;

impl Model {
    /// Writes the model to `path`, its weights too: into the same file if they are few, else beside it into
    /// `NAME_data`, as Optimum calls it. The files appear under their names when they are complete.
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
            return Partial::write(path, |out| self.write_with_weights(path, out))?.publish();
        }
        let home = |weights: &Initializer| if weights.byte_length() > INLINE_BYTES { Home::Data } else { Home::Header };
        self.save_apart(path, &data_file(path, 0), &self.initializers.iter().map(home).collect::<Vec<_>>())
    }

    /// Writes the model's own file, and the one of external data where a weight's home is there.
    pub(crate) fn save_apart(&self, path: &Path, data: &Path, homes: &[Home]) -> Result<()> {
        let mut tensors = Vec::new();
        let data = if homes.contains(&Home::Data) {
            let name = name_in_folder(data)?;
            Some(Partial::write(data, |out| self.place(homes, &name, out).map(|placed| tensors = placed))?)
        } else {
            tensors = self.place(homes, "", &mut io::sink())?;
            None
        };
        let header = Partial::write(path, |out| {
            let mut model = self.header.clone();
            model.graph.get_or_insert_default().initializer.extend(tensors);
            write(path, out, &model.encode_to_vec())
        })?;
        if let Some(data) = data {
            // A header that is here must never stand beside data that are not its own.
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(path, e)),
                _ => data.publish()?,
            }
        }
        header.publish()
    }

    /// The header's fields, and the initializers' bytes as they are read: never all of them in memory.
    fn write_with_weights(&self, path: &Path, out: &mut dyn Write) -> Result<()> {
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
        if bytes.len() as u64 + tensor_fields > MAX_FILE_BYTES {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{}: one file cannot hold {tensor_fields} bytes of weights", path.display()),
            )
            .with_help("let the weights lie in a second file"));
        }
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

    /// The initializers as they stand in a header whose weights lie elsewhere; those of the file `data` are written to it.
    fn place(&self, homes: &[Home], data: &str, out: &mut dyn Write) -> Result<Vec<proto::Tensor>> {
        let mut at: u64 = 0;
        // Tensors of the same bytes, such as tied embeddings, still share them.
        let mut written: HashMap<&TensorData, u64> = HashMap::new();
        let mut tensors = Vec::with_capacity(self.initializers.len());
        for (initializer, home) in self.initializers.iter().zip(homes) {
            tensors.push(match home {
                Home::Header => inline(initializer)?,
                Home::Linked { file, offset } => external(initializer, file, *offset, initializer.byte_length()),
                Home::Data => {
                    let is_file = matches!(initializer.data(), TensorData::File { .. });
                    if let Some(&at) = written.get(initializer.data()).filter(|_| is_file) {
                        tensors.push(external(initializer, data, at, initializer.byte_length()));
                        continue;
                    }
                    let padding = at.next_multiple_of(ALIGNMENT) - at;
                    write(Path::new(data), out, &vec![0; usize::try_from(padding).unwrap_or_default()])?;
                    at += padding;
                    let copied = initializer.copy_to(out)?;
                    let tensor = external(initializer, data, at, copied);
                    written.insert(initializer.data(), at);
                    at += copied;
                    tensor
                }
            });
        }
        Ok(tensors)
    }
}

/// Where a weight's bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Into the model's own file.
    Header,
    /// Into the file of external data that is written with it.
    Data,
    /// They are in a file already, which lies beside the model under this name.
    Linked { file: String, offset: u64 },
}

/// A tensor with its bytes.
fn inline(initializer: &Initializer) -> Result<proto::Tensor> {
    Ok(match initializer.data() {
        TensorData::Header => initializer.header().clone(),
        TensorData::File { .. } => proto::Tensor { raw_data: Some(initializer.bytes()?), ..without_data(initializer) },
    })
}

/// A tensor whose bytes lie in a file beside the model.
fn external(initializer: &Initializer, file: &str, offset: u64, length: u64) -> proto::Tensor {
    let entry = |key: &str, value: String| proto::Entry { key: Some(key.into()), value: Some(value) };
    proto::Tensor {
        external_data: vec![
            entry("location", file.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", length.to_string()),
        ],
        data_location: Some(proto::EXTERNAL),
        ..without_data(initializer)
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

fn varint_length(value: u64) -> u64 {
    prost::encoding::encoded_len_varint(value) as u64
}

fn write(path: &Path, out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| failed(path, e))
}

pub(crate) fn failed(path: &Path, e: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {e}", path.display())).with_source(e)
}

/// A file that is written and not yet under its name: there is the whole file or none.
pub(crate) struct Partial {
    path: PathBuf,
    partial: PathBuf,
}

impl Partial {
    /// Writes the file, over what a process that was killed may have left of it.
    pub(crate) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Self> {
        let this = Self { path: path.to_owned(), partial: beside(path, ".partial") };
        let failed = |e| failed(&this.partial, e);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&this.partial).map_err(failed)?);
        content(&mut out)?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(this)
    }

    /// Gives the file its name.
    pub(crate) fn publish(self) -> Result<()> {
        fs::rename(&self.partial, &self.path).map_err(|e| failed(&self.path, e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone if it was published; what cannot be removed has been reported by the error that led here.
        let _ = fs::remove_file(&self.partial);
    }
}

/// The last part of a path, as a model's header can name it.
pub(crate) fn name_in_folder(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, format!("{}: no name that a model can refer to", path.display()))
            .with_help("give the file a name in UTF-8")
    })
}

/// A file of external data as Optimum and transformers.js number them: `NAME_data`, `NAME_data_1`, ….
pub(crate) fn data_file(path: &Path, number: usize) -> PathBuf {
    beside(path, &if number == 0 { "_data".to_owned() } else { format!("_data_{number}") })
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

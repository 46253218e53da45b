//! From a file to a [`Model`]: everything but the weights.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use prost::Message;

use crate::{
    bounds::{self, Kind},
    model::Model,
    proto,
    tensor::{Initializer, TensorData},
    wire::{Value, WireReader, malformed},
};

/// Weights up to this many bytes stay in the header: shapes and scalars, which a change of the graph reads.
pub(crate) const INLINE_BYTES: u64 = 1024;

impl Model {
    /// Opens an ONNX file. Of its weights only the places are noted, so that a model of any size opens in milliseconds.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such file; [`ErrorKind::InvalidData`] if it is no ONNX file, or one that
    /// exceeds the bounds of the crate's documentation, or points to weights outside its folder or past the end of a
    /// file; [`ErrorKind::Unsupported`] if it is newer than this crate or a model to be trained.
    pub fn open(path: &Path) -> Result<Self> {
        let named = |e: io::Error| {
            let kind = match e.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::InvalidData,
                _ => ErrorKind::Io,
            };
            Error::new(kind, format!("{}: {e}", path.display())).with_help("expected an ONNX model: export it again")
        };
        let mut parts = Parts::default();
        parts.read(path).map_err(named)?;
        let model = parts.decode().map_err(named)?;
        if let Some(version) = model.ir_version.filter(|&version| version > proto::NEWEST_IR_VERSION) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{}: written in version {version} of the ONNX format, known are those up to {}",
                    path.display(),
                    proto::NEWEST_IR_VERSION
                ),
            )
            .with_help("export it with an older `onnx`, or update logitfuse"));
        }
        if parts.trains {
            return Err(Error::new(ErrorKind::Unsupported, format!("{}: holds training graphs", path.display()))
                .with_help("export the model for inference"));
        }
        let file: Arc<Path> = path.into();
        let mut initializers = Vec::with_capacity(parts.tensors.len());
        for (header, raw) in parts.tensors {
            let data = match raw {
                _ if header.data_location == Some(proto::EXTERNAL) => external(path, &header)?,
                Some((offset, length)) => TensorData::File { path: file.clone(), offset, length },
                None => TensorData::Header,
            };
            initializers.push(Initializer::new(header, data).map_err(|e| e.context(path.display()))?);
        }
        Ok(Model { header: model, initializers })
    }
}

/// The messages of a file, still encoded, but for the initializers: those are decoded one by one, without their bytes.
#[derive(Default)]
struct Parts {
    model: Vec<u8>,
    graph: Option<Vec<u8>>,
    tensors: Vec<(proto::Tensor, Option<(u64, u64)>)>,
    header_bytes: usize,
    trains: bool,
}

impl Parts {
    fn read(&mut self, path: &Path) -> io::Result<()> {
        let mut reader = WireReader::open(path)?;
        let end = reader.length();
        while let Some(field) = reader.field(end)? {
            match (field.number, field.value) {
                (7, Value::Until(graph_end)) => self.graph(&mut reader, graph_end)?,
                (20, Value::Until(field_end)) => {
                    self.trains = true;
                    reader.skip_to(field_end)?;
                }
                (_, value) => {
                    let mut model = std::mem::take(&mut self.model);
                    self.keep(&mut reader, field.start, value, &mut model)?;
                    self.model = model;
                }
            }
        }
        if self.graph.is_none() {
            return Err(malformed(if end == 0 { "is empty" } else { "holds no graph" }));
        }
        Ok(())
    }

    fn graph(&mut self, reader: &mut WireReader, end: u64) -> io::Result<()> {
        // Protobuf lets a message come in pieces, which are one after the other the whole.
        let mut graph = self.graph.take().unwrap_or_default();
        while let Some(field) = reader.field(end)? {
            match (field.number, field.value) {
                (5, Value::Until(tensor_end)) => self.tensor(reader, tensor_end)?,
                (_, value) => self.keep(reader, field.start, value, &mut graph)?,
            }
        }
        self.graph = Some(graph);
        Ok(())
    }

    fn tensor(&mut self, reader: &mut WireReader, end: u64) -> io::Result<()> {
        let (mut header, mut raw) = (Vec::new(), None);
        while let Some(field) = reader.field(end)? {
            match (field.number, field.value) {
                (9, Value::Until(field_end)) if field_end - reader.position() > INLINE_BYTES => {
                    raw = Some((reader.position(), field_end - reader.position()));
                    reader.skip_to(field_end)?;
                }
                (_, value) => self.keep(reader, field.start, value, &mut header)?,
            }
        }
        bounds::check(Kind::Tensor, &header, &mut 0)?;
        self.tensors.push((proto::Tensor::decode(&*header).map_err(|e| malformed(&e.to_string()))?, raw));
        if self.tensors.len() > bounds::MAX_FIELDS {
            return Err(malformed("has too many initializers"));
        }
        Ok(())
    }

    fn keep(&mut self, reader: &mut WireReader, start: u64, value: Value, out: &mut Vec<u8>) -> io::Result<()> {
        let end = match value {
            Value::Number => reader.position(),
            Value::Until(end) => end,
        };
        let length = usize::try_from(end - start).map_err(|_| malformed("a length overflows"))?;
        self.header_bytes = self.header_bytes.saturating_add(length);
        if self.header_bytes > bounds::MAX_HEADER_BYTES {
            return Err(malformed(&format!(
                "holds more than {} MiB outside the raw data of its initializers",
                bounds::MAX_HEADER_BYTES >> 20
            )));
        }
        reader.copy(start, end, out)
    }

    fn decode(&self) -> io::Result<proto::Model> {
        let graph = self.graph.as_deref().unwrap_or_default();
        let mut fields = 0;
        bounds::check(Kind::Model, &self.model, &mut fields)?;
        bounds::check(Kind::Graph, graph, &mut fields)?;
        let decode_error = |e: prost::DecodeError| malformed(&e.to_string());
        let mut model = proto::Model::decode(&*self.model).map_err(decode_error)?;
        model.graph = Some(proto::Graph::decode(graph).map_err(decode_error)?);
        Ok(model)
    }
}

/// Where a tensor's external bytes lie, which must be inside the model's folder.
fn external(model: &Path, header: &proto::Tensor) -> Result<TensorData> {
    let tensor = header.name.as_deref().unwrap_or_default();
    let wrong = |what: String| {
        Error::new(ErrorKind::InvalidData, format!("{}: external data of `{tensor}`: {what}", model.display()))
            .with_help("keep the files of a model together in one folder")
    };
    let entry = |key: &str| {
        let entry = header.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
        entry.and_then(|entry| entry.value.as_deref())
    };
    let number = |key: &str| {
        entry(key)
            .map(|text| text.parse::<u64>().map_err(|_| wrong(format!("{key} `{text}` is no number"))))
            .transpose()
    };
    let location = entry("location").ok_or_else(|| wrong("names no file".into()))?;
    let file =
        inside(model, location).ok_or_else(|| wrong(format!("`{location}` is not inside the model's folder")))?;
    let metadata = file.metadata().map_err(|e| wrong(format!("{}: {e}", file.display())))?;
    if !metadata.is_file() {
        return Err(wrong(format!("{} is not a regular file", file.display())));
    }
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or_else(|| metadata.len().saturating_sub(offset));
    if offset.checked_add(length).is_none_or(|end| end > metadata.len()) {
        return Err(wrong(format!(
            "{} holds {} bytes, {length} from {offset} on are needed",
            file.display(),
            metadata.len()
        )));
    }
    Ok(TensorData::File { path: file.into(), offset, length })
}

/// The file, unless its path leads out of the folder. A link out of the folder does so too, except where the model itself
/// is a link to a file beside it, as in the cache of Hugging Face.
fn inside(model: &Path, location: &str) -> Option<PathBuf> {
    use std::path::Component;
    let relative = Path::new(location);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || location.contains('\0') {
        return None;
    }
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = folder.join(relative);
    let (Ok(real), Ok(real_folder)) = (file.canonicalize(), folder.canonicalize()) else { return Some(file) };
    let beside_the_model = || model.canonicalize().ok()?.parent().map(|folder| real.starts_with(folder));
    (real.starts_with(real_folder) || beside_the_model() == Some(true)).then_some(file)
}

//! From a file to a [`Model`]: everything but the weights.

use std::{path::Path, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    bounds::MAX_HEADER_BYTES,
    error::clipped,
    external::{Files, Place},
    model::Model,
    proto,
    read::{HeaderReader, Parts},
    stamp::Stamp,
    tensor::{Initializer, TensorData},
    walk::each_tensor,
};

impl Model {
    /// Opens an ONNX file. Of its weights only the places are noted, so that a model of any size opens in milliseconds.
    ///
    /// Whether the graph hangs together is what [`validate`](Self::validate) tells.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such file, or one that its weights lie in is missing;
    /// [`ErrorKind::InvalidData`] if it is no ONNX file, or one that exceeds the bounds of the crate's documentation, or
    /// points to weights outside its folder or past the end of a file; [`ErrorKind::Unsupported`] if it is newer than this
    /// crate, a model to be trained, or keeps constants inside of nodes in other files in large amounts.
    pub fn open(path: &Path) -> Result<Self> {
        let Parts { mut header, tensors, trains, stamp } = HeaderReader::read(path, HeaderReader::parts)?;
        if let Some(version) = header.ir_version.filter(|&version| version > proto::NEWEST_IR_VERSION) {
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
        if trains {
            return Err(Error::new(ErrorKind::Unsupported, format!("{}: holds training graphs", path.display()))
                .with_help("export the model for inference"));
        }
        let mut files = Files::of(path);
        let own: Arc<Path> = path.into();
        let mut initializers = Vec::with_capacity(tensors.len());
        for (tensor, raw) in tensors {
            let (data, stamp) = match (data_of(&tensor, &mut files).map_err(|e| within(path, e))?, raw) {
                (Some((external, stamp)), _) => (external, Some(stamp)),
                (None, Some((offset, length))) => (TensorData::File { path: own.clone(), offset, length }, Some(stamp)),
                (None, None) => (TensorData::Header, None),
            };
            let initializer = Initializer::new(tensor, data).map_err(|e| within(path, e))?;
            initializers.push(initializer.with_stamp(stamp));
        }
        embed(&mut header, &mut files).map_err(|e| within(path, e))?;
        Ok(Model { header, initializers })
    }
}

/// An error with the path of the model, unless it names it already.
fn within(path: &Path, e: Error) -> Error {
    let path = path.display().to_string();
    if e.to_string().starts_with(&path) { e } else { e.context(path) }
}

/// Where the bytes of a tensor of external data lie.
fn data_of(tensor: &proto::Tensor, files: &mut Files<'_>) -> Result<Option<(TensorData, Stamp)>> {
    let Some(place) = Place::of(tensor)? else { return Ok(None) };
    let (path, stamp) = files.locate(place)?;
    Ok(Some((TensorData::File { path, offset: place.offset, length: place.length }, stamp)))
}

/// Reads the external data of tensors that stand inside of nodes: exporters put constants of a few kilobytes there, too.
/// A copy of the model then has them.
fn embed(header: &mut proto::Model, files: &mut Files<'_>) -> Result<()> {
    let mut left = MAX_HEADER_BYTES as u64;
    each_tensor(header, &mut |tensor| {
        let Some((data, stamp)) = data_of(tensor, files)? else { return Ok(()) };
        let initializer = Initializer::new(tensor.clone(), data)?.with_stamp(Some(stamp));
        left = left.checked_sub(initializer.byte_length()).ok_or_else(|| {
            let most = MAX_HEADER_BYTES >> 20;
            Error::new(
                ErrorKind::Unsupported,
                clipped(format!("more than {most} MiB of constants inside of nodes, such as `{}`", tensor.name())),
            )
            .with_help("export the model with its weights as initializers of the main graph")
        })?;
        tensor.raw_data = Some(initializer.bytes()?);
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    })
}

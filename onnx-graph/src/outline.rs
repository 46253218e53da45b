//! What a file says of its model, without a single element of a tensor.

use std::{collections::BTreeMap, path::Path};

use logitfuse_core::Result;

use crate::{
    external::{ExternalFile, Place},
    proto,
    read::HeaderReader,
    walk::each_tensor,
};

/// All that an ONNX file says but the elements of its tensors: to look at a model that a runtime will open.
///
/// Other than [`Model::open`](crate::Model::open) it leaves the weights out of account altogether, does not look for files of
/// external data, follows links to them, and does not mind fields of formats to come, which it leaves out.
///
/// ```no_run
/// # fn main() -> logitfuse_core::Result<()> {
/// use logitfuse_onnx_graph::Outline;
///
/// let path = "expert/model.onnx".as_ref();
/// let outline = Outline::read(path)?;
/// for file in outline.external_files(path)? {
///     println!("{}: {} bytes", file.location, file.bytes);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// The file's messages. Tensors in them have their name, type, shape and place; elements only where they take less than
    /// a kilobyte.
    pub header: proto::Model,
    /// The files of external data as the model calls them, with the bytes that it needs of each.
    pub external: BTreeMap<String, u64>,
}

impl Outline {
    /// Reads the outline of an ONNX file.
    ///
    /// # Errors
    /// [`NotFound`](logitfuse_core::ErrorKind::NotFound) if there is no such file,
    /// [`InvalidData`](logitfuse_core::ErrorKind::InvalidData) if it is no ONNX file or exceeds the bounds of the crate's
    /// documentation.
    pub fn read(path: &Path) -> Result<Self> {
        let mut header = HeaderReader::read(path, HeaderReader::outline)?;
        let mut external: BTreeMap<String, u64> = BTreeMap::new();
        each_tensor(&mut header, &mut |tensor| {
            if let Some(place) = Place::of(tensor)? {
                let needed = external.entry(place.location.to_owned()).or_default();
                *needed = place.end().max(*needed);
            }
            Ok(())
        })
        .map_err(|e| e.context(path.display()))?;
        Ok(Self { header, external })
    }

    /// The main graph.
    pub fn graph(&self) -> &proto::Graph {
        self.header.graph.as_ref().unwrap_or(proto::Graph::EMPTY)
    }

    /// The files of external data of the model that lies at `path`, in the order of their names.
    ///
    /// # Errors
    /// [`NotFound`](logitfuse_core::ErrorKind::NotFound) if one is missing,
    /// [`InvalidData`](logitfuse_core::ErrorKind::InvalidData) if one is too short, no regular file, or named by a path that
    /// leads out of the model's folder.
    pub fn external_files(&self, path: &Path) -> Result<Vec<ExternalFile>> {
        self.external.iter().map(|(location, &needed)| ExternalFile::locate(path, location, needed)).collect()
    }
}

//! The bytes of an initializer, read from anywhere in any order.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{Initializer, TensorData};

/// Bytes that are read at once where a tensor is gone through from the beginning to the end.
const PIECE: usize = 1 << 18;

pub(crate) struct Bytes {
    store: Store,
    length: u64,
}

enum Store {
    Memory(Vec<u8>),
    File { path: Arc<Path>, file: File, offset: u64 },
}

impl Bytes {
    pub(crate) fn of(initializer: &Initializer) -> Result<Self> {
        let store = match initializer.data() {
            TensorData::Header => Store::Memory(initializer.bytes()?),
            TensorData::File { path, offset, .. } => {
                let file = File::open(path).map_err(|e| unreadable(path, &e))?;
                Store::File { path: path.clone(), file, offset: *offset }
            }
        };
        Ok(Self { store, length: initializer.byte_length() })
    }

    /// The bytes from `at` on; the caller stays within the tensor.
    pub(crate) fn read(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        match &mut self.store {
            Store::Memory(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let bytes = bytes.get(at..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(bytes.ok_or_else(|| Error::new(ErrorKind::Internal, "read past a tensor's end"))?);
                Ok(())
            }
            Store::File { path, file, offset } => {
                let mut read = || {
                    file.seek(SeekFrom::Start(*offset + at))?;
                    file.read_exact(out)
                };
                read().map_err(|e| unreadable(path, &e))
            }
        }
    }

    /// All bytes, a piece at a time.
    pub(crate) fn pieces(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < self.length {
            let n = usize::try_from(self.length - at).map_or(PIECE, |rest| rest.min(PIECE));
            self.read(at, &mut piece[..n])?;
            take(&piece[..n])?;
            at += n as u64;
        }
        Ok(())
    }

    /// Whether both hold the same.
    pub(crate) fn same(&mut self, other: &mut Self) -> Result<bool> {
        if self.length != other.length {
            return Ok(false);
        }
        let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
        let mut at = 0;
        while at < self.length {
            let n = usize::try_from(self.length - at).map_or(PIECE, |rest| rest.min(PIECE));
            self.read(at, &mut ours[..n])?;
            other.read(at, &mut theirs[..n])?;
            if ours[..n] != theirs[..n] {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }
}

fn unreadable(path: &Path, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: {e}", path.display()))
        .with_help("leave the models' files alone until the command has ended")
}

//! What a graph does not state, found out by running two tokens through it.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    decoder::{Call, Decoder},
    signature::LogitRows,
};

/// Head sizes of published models, most common first: tried where neither graph nor configuration states one.
const HEAD_SIZES: &[usize] =
    &[64, 128, 96, 80, 256, 32, 112, 192, 160, 120, 72, 88, 104, 48, 40, 24, 16, 8, 144, 224, 288, 320, 512, 576];

impl Decoder {
    /// Resolves what the graph leaves open (the head size, which rows come out, how wide they are) by running two tokens.
    pub(crate) fn probe(&mut self, file: &Path) -> Result<()> {
        let stated = self.signature.cache.iter().all(|tensor| tensor.stated);
        if stated && self.signature.rows.is_some() && self.signature.width.is_some() {
            return Ok(());
        }
        if stated {
            return self.probe_once();
        }
        // The value of the configuration is tried first; the graph has the last word.
        let configured = self.signature.cache.clone();
        for size in std::iter::once(None).chain(HEAD_SIZES.iter().copied().map(Some)) {
            for (tensor, configured) in
                self.signature.cache.iter_mut().zip(&configured).filter(|(tensor, _)| !tensor.stated)
            {
                let head = tensor.axis + 1;
                tensor.dims[head] = size.or(configured.dims[head]);
            }
            let known = self.signature.cache.iter().all(|tensor| tensor.dims[tensor.axis + 1].is_some());
            match if known { self.probe_once() } else { continue } {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(_) => {}
            }
        }
        let message =
            format!("{}: the head size of its key/value cache is not stated and not one of the usual", file.display());
        Err(Error::new(ErrorKind::InvalidData, message).with_help("add `head_dim` to config.json beside the model"))
    }

    fn probe_once(&mut self) -> Result<()> {
        let past = self.empty_cache()?;
        let call = Call { tokens: &[&[0, 0]], pasts: &[0], rows: 1 };
        let shapes = self.output_shapes(&past, &call);
        let (logits, presents) = shapes.map_err(|cause| self.stop().error(&self.name, cause))?;
        // An empty past fits any head size; what comes out is what the graph really has.
        for (tensor, present) in self.signature.cache.iter_mut().zip(&presents) {
            for (dim, &found) in tensor.dims.iter_mut().zip(&present[..]) {
                *dim = usize::try_from(found).ok();
            }
        }
        self.signature.width = logits.last().and_then(|&width| usize::try_from(width).ok());
        self.signature.rows = self.signature.rows.or(match logits[..] {
            [_, 2, _] => Some(LogitRows::All),
            [_, 1, _] | [_, _] => Some(LogitRows::Last),
            _ => None,
        });
        if self.signature.rows.is_none() || self.signature.width.is_none() {
            let message = format!("{}: two tokens give logits of shape {:?}", self.name, &logits[..]);
            return Err(Error::new(ErrorKind::Unsupported, message).with_help(
                "logits must be [batch, tokens, vocabulary], [batch, 1, vocabulary] or [batch, vocabulary]",
            ));
        }
        Ok(())
    }
}

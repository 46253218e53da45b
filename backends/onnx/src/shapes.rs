//! Whether the shapes of a graph's inputs and outputs leave room for any number of tokens, and stay within bounds.
//!
//! Exports for fixed shapes (static caches, windows of sixteen tokens, one token at a time) and recurrent states look like
//! decoders in their names. ONNX Runtime would refuse the first call with words of its own.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{Dim, TensorInfo, signature::CacheTensor};

/// No vocabulary has as many tokens; a row of them is 4 MB.
const MOST_LOGITS: usize = 1 << 20;
/// No cache needs as many bytes for one token.
const MOST_BYTES_PER_TOKEN: usize = 1 << 28;
/// What the names of states say that are no caches of keys and values.
const RECURRENT: &[&str] = &["ssm", "conv", "recurrent"];

const DYNAMIC: &str = "export the model for text generation with dynamic axes, batch and sequence length among them";

fn unsupported(file: &Path, what: &str, help: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{}: {what}", file.display())).with_help(help)
}

/// Ids, mask and positions: `[batch, tokens]`, whatever the tokens' number.
pub(crate) fn check_tokens(file: &Path, input: &TensorInfo) -> Result<()> {
    match &input.dims[..] {
        // A file may leave the whole shape open.
        [] => Ok(()),
        [batch, tokens] => {
            check_batch(file, input, batch)?;
            match tokens {
                Dim::Fixed(1) => Err(unsupported(file, &format!("input `{input}` takes one token at a time"), DYNAMIC)),
                Dim::Fixed(n) => Err(unsupported(file, &format!("input `{input}` takes {n} tokens always"), DYNAMIC)),
                _ => Ok(()),
            }
        }
        dims if input.name.contains("position") && dims.len() == 3 => {
            let what = format!("input `{input}` wants several positions of a token, as multi-modal rotations do");
            Err(unsupported(file, &what, "export the text decoder alone, with position_ids of shape [batch, tokens]"))
        }
        _ => {
            let what = format!("input `{input}` is not of shape [batch, tokens]");
            Err(unsupported(
                file,
                &what,
                "export the model for text generation: ids, mask and positions have a row a text",
            ))
        }
    }
}

/// Logits: `[batch, tokens, vocabulary]`, or those of the last token.
pub(crate) fn check_logits(file: &Path, logits: &TensorInfo) -> Result<()> {
    if let Some(batch) = logits.dims.first() {
        check_batch(file, logits, batch)?;
    }
    if let [_, Dim::Fixed(n), _] = logits.dims[..]
        && n != 1
    {
        return Err(unsupported(file, &format!("output `{logits}` has {n} rows always"), DYNAMIC));
    }
    check_width(file, logits.dims.last().and_then(Dim::fixed).unwrap_or(1))
}

/// The vocabulary that the logits say there is.
pub(crate) fn check_width(file: &Path, width: usize) -> Result<()> {
    if (1..=MOST_LOGITS).contains(&width) {
        return Ok(());
    }
    let what = format!("{}: its rows of logits have {width} entries", file.display());
    Err(Error::new(ErrorKind::InvalidData, what)
        .with_help(format!("a vocabulary has 1 to {MOST_LOGITS} tokens; fetch or export the file again")))
}

/// A cache as the file states it: it grows with the tokens.
pub(crate) fn check_cache(file: &Path, input: &TensorInfo, present: &TensorInfo, axis: usize) -> Result<()> {
    let name = input.name.to_ascii_lowercase();
    let recurrent = || {
        let what = format!("input `{input}` is a recurrent state, which cannot be cut back to fewer tokens");
        let help = "supported are models whose only state is a cache of keys and values; use a transformer's export";
        Err(unsupported(file, &what, help))
    };
    if RECURRENT.iter().any(|part| name.contains(part)) {
        return recurrent();
    }
    for tensor in [input, present] {
        if let Some(&Dim::Fixed(n)) = tensor.dims.get(axis) {
            let side = if std::ptr::eq(tensor, input) { "input" } else { "output" };
            let what = format!("{side} `{tensor}` holds {n} tokens always: a static cache, or a recurrent state");
            return Err(unsupported(file, &what, "export the model with a cache that grows with the text"));
        }
    }
    let batch_axis = usize::from(input.dims.len() == 5);
    if let (5, Some(&Dim::Fixed(parts))) = (input.dims.len(), input.dims.first())
        && parts != 2
    {
        let what = format!("input `{input}` holds {parts} tensors, not a key and a value");
        return Err(unsupported(file, &what, "export the model with keys and values apart"));
    }
    check_batch(file, input, &input.dims[batch_axis])
}

/// The memory that one token takes, once all dimensions are known.
pub(crate) fn check_size(file: &Path, tensor: &CacheTensor) -> Result<()> {
    let size = tensor.shape(1, 1).into_iter().try_fold(tensor.element.bytes(), usize::checked_mul);
    if size.is_some_and(|size| size <= MOST_BYTES_PER_TOKEN) {
        return Ok(());
    }
    let what = format!("{}: one token of its cache `{}` would take more than 256 MB", file.display(), tensor.past);
    Err(Error::new(ErrorKind::InvalidData, what)
        .with_help("correct `num_key_value_heads` and `head_dim` in config.json, or export the model again"))
}

fn check_batch(file: &Path, tensor: &TensorInfo, batch: &Dim) -> Result<()> {
    match batch {
        Dim::Fixed(n) if *n != 1 => Err(unsupported(file, &format!("`{tensor}` takes {n} texts always"), DYNAMIC)),
        _ => Ok(()),
    }
}

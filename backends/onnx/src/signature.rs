//! The inputs and outputs of a decoder by purpose, discovered from their names, types and shapes. Configuration files only
//! fill in what the graph leaves open.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    Dim, Element, TensorInfo,
    folder::{ModelConfig, TensorNames},
    shapes,
};

/// A decoder's inputs and outputs by purpose; see [`ModelFolder::signature`](crate::ModelFolder::signature).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Signature {
    /// Token ids, `[batch, sequence]`.
    pub ids: TensorInfo,
    /// The attention mask.
    pub mask: Option<TensorInfo>,
    /// The positions of the tokens.
    pub positions: Option<TensorInfo>,
    /// The Boolean input of a merged decoder that selects its branch without or with a past.
    pub use_cache_branch: Option<TensorInfo>,
    /// How many logits rows are wanted, in graphs that ask.
    pub rows_to_keep: Option<TensorInfo>,
    /// Key and value caches, in the graph's order.
    pub cache: Vec<CacheTensor>,
    /// Rows of logits.
    pub logits: TensorInfo,
    /// Which positions' logits come out; `None` until probed.
    pub rows: Option<LogitRows>,
    /// Entries of a row; `None` until probed.
    pub width: Option<usize>,
}

/// Which of a call's positions have their logits in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitRows {
    /// All of them.
    All,
    /// The last one.
    Last,
    /// As many from the end as the input `num_logits_to_keep` says.
    Chosen,
}

/// A key or value cache: an input for the past, an output for the present.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheTensor {
    /// The input.
    pub past: String,
    /// The output.
    pub present: String,
    /// The type of its elements.
    pub element: Element,
    /// Which dimension counts tokens.
    pub axis: usize,
    /// The others; `None` where nothing tells. What stands for the batch and at `axis` means nothing.
    pub dims: Vec<Option<usize>>,
    /// Whether the graph itself states the other dimensions. A configuration may be wrong, above all where the head size
    /// is derived from the hidden size.
    pub stated: bool,
}

impl CacheTensor {
    /// The shape for `batch` sequences of `tokens` tokens.
    pub(crate) fn shape(&self, batch: usize, tokens: usize) -> Vec<usize> {
        let size = |(i, dim): (usize, &Option<usize>)| match i {
            _ if i == self.batch_axis() => batch,
            _ if i == self.axis => tokens,
            _ => dim.unwrap_or(0),
        };
        self.dims.iter().enumerate().map(size).collect()
    }

    /// Key and value in one tensor, `[2, batch, heads, tokens, head]`, put the batch second.
    pub(crate) fn batch_axis(&self) -> usize {
        usize::from(self.dims.len() == 5)
    }

    pub(crate) fn bytes_per_token(&self) -> usize {
        self.shape(1, 1).iter().product::<usize>() * self.element.bytes()
    }
}

impl Signature {
    pub(crate) fn discover(
        file: &Path,
        inputs: &[TensorInfo],
        outputs: &[TensorInfo],
        config: &ModelConfig,
    ) -> Result<Self> {
        let names = &config.names;
        let wanted_ids = names.input_ids.as_deref().unwrap_or("input_ids");
        if !inputs.iter().any(|input| input.name == "input_ids" || input.name == wanted_ids) {
            return Err(no_decoder(file, &format!("no input `{wanted_ids}`"), inputs));
        }
        let logits = find_logits(file, outputs, names)?;
        let mut ids = None;
        let (mut mask, mut positions, mut use_cache_branch, mut rows_to_keep) = (None, None, None, None);
        let mut cache = Vec::new();
        for input in inputs {
            let is = |usual: &str, renamed: &Option<String>| {
                input.name == usual || renamed.as_ref().is_some_and(|name| *name == input.name)
            };
            let purpose = match () {
                () if is("input_ids", &names.input_ids) => &mut ids,
                () if is("attention_mask", &names.attention_mask) => &mut mask,
                () if is("position_ids", &names.position_ids) => &mut positions,
                () if is("use_cache_branch", &None) => &mut use_cache_branch,
                () if is("num_logits_to_keep", &None) || is("logits_to_keep", &None) => &mut rows_to_keep,
                () => {
                    cache.push(cache_tensor(file, input, outputs, config)?);
                    continue;
                }
            };
            check_element(file, input)?;
            *purpose = Some(input.clone());
        }
        let Some(ids) = ids else {
            return Err(no_decoder(file, &format!("no input `{wanted_ids}`"), inputs));
        };
        for input in [Some(&ids), mask.as_ref(), positions.as_ref()].into_iter().flatten() {
            shapes::check_tokens(file, input)?;
        }
        let rows = match (&rows_to_keep, logits.dims.as_slice()) {
            (Some(_), _) => Some(LogitRows::Chosen),
            (None, [_, _] | [_, Dim::Fixed(1), _]) => Some(LogitRows::Last),
            (None, [_, Dim::Named(rows), _]) if matches!(&ids.dims[..], [_, Dim::Named(tokens)] if tokens == rows) => {
                Some(LogitRows::All)
            }
            _ => None,
        };
        let width = logits.dims.last().and_then(Dim::fixed);
        Ok(Self { ids, mask, positions, use_cache_branch, rows_to_keep, cache, logits, rows, width })
    }

    /// Bytes of cache that one token of one sequence occupies.
    pub(crate) fn kv_bytes_per_token(&self) -> u64 {
        self.cache.iter().map(|tensor| tensor.bytes_per_token() as u64).sum()
    }
}

fn no_decoder(file: &Path, what: &str, among: &[TensorInfo]) -> Error {
    let names: Vec<&str> = among.iter().map(|tensor| &*tensor.name).collect();
    let names = if names.is_empty() { "none".into() } else { names.join(", ") };
    Error::new(ErrorKind::InvalidData, format!("{}: not a text decoder: {what} among {names}", file.display()))
        .with_help("export the model for text generation, with token ids as input and logits as output")
}

fn find_logits(file: &Path, outputs: &[TensorInfo], names: &TensorNames) -> Result<TensorInfo> {
    let wanted = names.logits.as_deref().unwrap_or("logits");
    let found =
        outputs.iter().find(|output| output.name == wanted).or_else(|| outputs.iter().find(|o| o.name == "logits"));
    let Some(logits) = found else {
        return Err(no_decoder(file, &format!("no output `{wanted}`"), outputs));
    };
    if !logits.element.is_float() || !matches!(logits.dims.len(), 2 | 3) {
        let message = format!("{}: output `{logits}` is not rows of f32, f16 or bf16", file.display());
        return Err(Error::new(ErrorKind::Unsupported, message).with_help("export the model with float logits"));
    }
    shapes::check_logits(file, logits)?;
    Ok(logits.clone())
}

fn check_element(file: &Path, input: &TensorInfo) -> Result<()> {
    let fits = match input.name.as_str() {
        "use_cache_branch" => input.element == Element::Bool,
        _ => matches!(input.element, Element::I64 | Element::I32),
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("{}: input `{input}` has an element type that is not supported", file.display()),
    )
    .with_help("export the model with 64-bit integer inputs"))
}

/// An input that is none of the known ones: a key/value cache if an output answers it.
fn cache_tensor(file: &Path, input: &TensorInfo, outputs: &[TensorInfo], config: &ModelConfig) -> Result<CacheTensor> {
    let axis = match input.dims.len() {
        4 => 2,
        5 => 3,
        _ => 0,
    };
    let carried = matches!(input.element, Element::F32 | Element::F16 | Element::Bf16 | Element::I8 | Element::U8);
    let answers = present_names(&input.name, &config.names);
    let present = outputs.iter().find(|output| answers.contains(&output.name) && output.element == input.element);
    let Some(present) = present.filter(|_| carried && axis > 0) else {
        let message = format!("{}: input `{}` is not one that logitfuse knows how to fill", file.display(), input.name);
        return Err(Error::new(ErrorKind::Unsupported, message).with_help(
            "supported are input_ids, attention_mask, position_ids, use_cache_branch, num_logits_to_keep and key/value \
             caches with a matching output",
        ));
    };
    shapes::check_cache(file, input, present, axis)?;
    let mut dims: Vec<Option<usize>> = input.dims.iter().map(Dim::fixed).collect();
    // The graph's own output shape knows more than its input shape now and then, and both more than a configuration.
    let from_present = present.dims.iter().map(Dim::fixed).chain(std::iter::repeat(None));
    for (dim, known) in dims.iter_mut().zip(from_present) {
        *dim = dim.or(known);
    }
    let stated = dims[axis - 1].is_some() && dims[axis + 1].is_some();
    dims[axis - 1] = dims[axis - 1].or(config.kv_heads);
    dims[axis + 1] = dims[axis + 1].or(config.head_size);
    if dims[axis - 1].is_none() {
        let message = format!("{}: the number of heads of input `{input}` is not known", file.display());
        return Err(Error::new(ErrorKind::InvalidData, message)
            .with_help("add `num_key_value_heads` to config.json beside the model"));
    }
    let tensor = CacheTensor {
        past: input.name.clone(),
        present: present.name.clone(),
        element: input.element,
        axis,
        dims,
        stated,
    };
    shapes::check_size(file, &tensor)?;
    Ok(tensor)
}

/// What the output for a past may be called.
fn present_names(past: &str, names: &TensorNames) -> Vec<String> {
    let patterned = names.cache.iter().filter_map(|(past_pattern, present_pattern)| {
        let (before, after) = past_pattern.split_once("%d")?;
        let layer = past.strip_prefix(before)?.strip_suffix(after)?;
        layer.bytes().all(|byte| byte.is_ascii_digit()).then(|| present_pattern.replacen("%d", layer, 1))
    });
    let usual = [
        ("past_key_values", "present"),
        ("past_key_values", "present_key_values"),
        ("past", "present"),
        ("_in", "_out"),
    ];
    let replaced = usual.iter().filter(|(from, _)| past.contains(from)).map(|(from, to)| past.replacen(from, to, 1));
    patterned.chain(replaced).collect()
}

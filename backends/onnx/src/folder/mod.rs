//! Model folders: which ONNX file, which configuration, whether all files are there. Loads no weights.

mod model_config;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{ExternalFile, Outline};
use serde::Serialize;

pub use self::model_config::ModelConfig;
pub(crate) use self::model_config::TensorNames;
use crate::{
    TensorInfo,
    graph::GraphSummary,
    signature::{CacheTensor, Signature},
};

/// How a model folder is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// onnxruntime-genai: `genai_config.json` names everything.
    Genai,
    /// Hugging Face or Optimum: `config.json` beside `model.onnx`, or `onnx/model_<variant>.onnx` below it.
    HuggingFace,
    /// An ONNX file by itself, or a folder without configuration.
    Bare,
}

/// Files beside a model that configure it.
const SIDE_FILES: &[(&str, &str)] = &[
    ("config.json", "config"),
    ("genai_config.json", "config"),
    ("generation_config.json", "config"),
    ("tokenizer.json", "tokenizer"),
    ("tokenizer_config.json", "tokenizer"),
    ("special_tokens_map.json", "tokenizer"),
    ("added_tokens.json", "tokenizer"),
    ("chat_template.jinja", "chat_template"),
    ("chat_template.json", "chat_template"),
];

/// A model on disk: which ONNX file, which configuration, whether everything is there.
///
/// Opening a folder reads its configuration and the structure of the graph, not the weights: milliseconds, so that
/// what is wrong is said before gigabytes are loaded.
///
/// ```
/// use logitfuse_core::ErrorKind;
/// use logitfuse_onnx::ModelFolder;
///
/// let missing = ModelFolder::open("no/such/model".as_ref(), None).unwrap_err();
/// assert_eq!(missing.kind(), ErrorKind::NotFound);
/// assert_eq!(missing.to_string(), "no/such/model: no such model folder");
/// ```
#[derive(Clone, Debug)]
pub struct ModelFolder {
    root: PathBuf,
    onnx: PathBuf,
    layout: Layout,
    config: ModelConfig,
    external: Vec<ExternalFile>,
    weight_bytes: u64,
    variants: Vec<String>,
    pub(crate) graph: GraphSummary,
}

/// File names that exporters give to decoders, without `.onnx`, best first.
const STEMS: &[&str] = &["model", "decoder_model_merged", "decoder_with_past_model", "decoder_model"];
/// The variants that are tried where none is chosen: full precision, then the smallest loss.
const VARIANTS: &[&str] = &["", "quantized", "int8", "uint8", "fp16", "q8", "q4f16", "q4", "int4", "bnb4"];

impl ModelFolder {
    /// Finds the model in `path`, a folder or an ONNX file. `variant` chooses among several files of a Hugging Face
    /// folder: `Some("q4")` is `onnx/model_q4.onnx`.
    ///
    /// # Errors
    /// `NotFound` for a missing folder, file, variant or external data file; `InvalidData` for a truncated or corrupt
    /// ONNX or configuration file.
    pub fn open(path: &Path, variant: Option<&str>) -> Result<Self> {
        let shown = path.display();
        if !path.exists() {
            return Err(Error::new(ErrorKind::NotFound, format!("{shown}: no such model folder"))
                .with_help("name a folder that holds an ONNX model, or make one with `cargo xtask models smollm2`"));
        }
        let (root, direct) = if path.is_dir() { (path.to_owned(), None) } else { (root_of(path), Some(path)) };
        let config = ModelConfig::read(&root)?;
        let genai = root.join("genai_config.json").exists();
        let candidates = onnx_files(&root)?;
        let onnx = match (direct, variant, &config.file_name) {
            (Some(file), _, _) => file.to_owned(),
            (None, None, Some(name)) => named_by_genai(&root, name)?,
            (None, Some(variant), _) => choose_variant(&root, &candidates, variant)?,
            (None, None, None) => choose_default(&root, &candidates)?,
        };
        let layout = match () {
            () if genai => Layout::Genai,
            () if root.join("config.json").exists() => Layout::HuggingFace,
            () => Layout::Bare,
        };
        let outline = Outline::read(&onnx)?;
        let external = outline.external_files(&onnx)?;
        let graph = GraphSummary::of(&outline);
        let own_bytes = fs::metadata(&onnx).map_or(0, |metadata| metadata.len());
        let weight_bytes = external.iter().map(|file| file.bytes).fold(own_bytes, u64::saturating_add);
        let variants = candidates.iter().filter_map(|file| variant_of(file)).collect();
        Ok(Self { root, onnx, layout, config, external, weight_bytes, variants, graph })
    }

    /// Whether the graph is a decoder that logitfuse can call, as far as its file tells; reads no weights.
    ///
    /// # Errors
    /// As [`OnnxSource::open`](crate::OnnxSource::open) for what is no decoder or takes fixed shapes alone.
    pub fn check(&self) -> Result<()> {
        self.signature().map(drop)
    }

    /// The graph's inputs and outputs by purpose.
    ///
    /// # Errors
    /// `InvalidData` and `Unsupported` for a graph that is no text decoder.
    pub fn signature(&self) -> Result<Signature> {
        Signature::discover(&self.onnx, self.inputs(), self.outputs(), &self.config)
    }

    /// The folder; for an ONNX file, the one that its configuration was looked for in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The ONNX file.
    pub fn onnx(&self) -> &Path {
        &self.onnx
    }

    /// Where `tokenizer.json` and chat templates belong.
    pub fn tokenizer_dir(&self) -> &Path {
        &self.root
    }

    /// How the folder is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What the configuration files say of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Bytes of the ONNX file and of its external data.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Every file that opening the model reads, each with what it is: `model` for the graph and its external data,
    /// `tokenizer`, `chat_template`, `config`. In a fixed order; files that need not be there are left out if they are not.
    pub fn files(&self) -> Vec<(PathBuf, &'static str)> {
        let external = self.external.iter().map(|file| (file.path.clone(), "model"));
        let side_files =
            SIDE_FILES.iter().map(|(name, kind)| (self.root.join(name), *kind)).filter(|(file, _)| file.is_file());
        std::iter::once((self.onnx.clone(), "model")).chain(external).chain(side_files).collect()
    }

    /// The variants that may be chosen in this folder: `fp16`, `q4`, …
    pub fn variants(&self) -> &[String] {
        &self.variants
    }

    /// Tokens that fit into one sequence, as the configuration and the graph's tables of positions state them.
    pub fn context_length(&self) -> Option<usize> {
        [self.config.context_length, self.graph.rotary_positions].into_iter().flatten().min()
    }

    /// Entries of a row of logits, where the graph states them.
    ///
    /// # Errors
    /// `InvalidData` and `Unsupported` for a graph that is no text decoder.
    pub fn logit_width(&self) -> Result<Option<usize>> {
        Ok(self.signature()?.width)
    }

    /// Whether a cache goes straight through a node that can write it in place, as genai's shared buffers demand.
    pub fn is_written_in_place(&self, cache: &CacheTensor) -> bool {
        cache.dims.len() == 4 && self.graph.shared_pairs.contains(&(cache.past.clone(), cache.present.clone()))
    }

    /// The graph's inputs, as the file states them.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.graph.inputs
    }

    /// The graph's outputs, as the file states them.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.graph.outputs
    }
}

/// The folder of a file's configuration: its own, or the one above an `onnx/` sub-folder.
fn root_of(file: &Path) -> PathBuf {
    let own = file.parent().filter(|own| !own.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = own.file_name().filter(|&name| name == "onnx").and(own.parent());
    match above {
        Some(above) if above.as_os_str().is_empty() => PathBuf::from("."),
        Some(above) if !own.join("config.json").exists() => above.to_owned(),
        _ => own.to_owned(),
    }
}

/// The ONNX files of a folder and of its `onnx/` sub-folder, sorted.
fn onnx_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in [root.to_owned(), root.join("onnx")] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                return Err(Error::new(ErrorKind::Io, format!("{}: cannot be read: {e}", folder.display()))
                    .with_help("check the folder's permissions"));
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "onnx") && path.is_file()));
    }
    files.sort();
    Ok(files)
}

fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// `q4` of `onnx/model_q4.onnx`.
fn variant_of(file: &Path) -> Option<String> {
    let stem = stem(file);
    // `decoder_model_merged` is a kind of decoder, not the variant `merged` of `decoder_model`.
    let variant = |base: &&str| stem.strip_prefix(base)?.strip_prefix('_').map(str::to_owned);
    if STEMS.contains(&stem) { None } else { STEMS.iter().find_map(variant) }
}

fn named_by_genai(root: &Path, name: &str) -> Result<PathBuf> {
    let file = root.join(name);
    if file.is_file() {
        return Ok(file);
    }
    let config = root.join("genai_config.json");
    Err(Error::new(
        ErrorKind::NotFound,
        format!("{}: the model file `{name}` that it names is missing", config.display()),
    )
    .with_help(format!("fetch `{name}` into {}", root.display())))
}

fn choose_variant(root: &Path, candidates: &[PathBuf], variant: &str) -> Result<PathBuf> {
    let wanted = STEMS.iter().map(|base| format!("{base}_{variant}")).chain([variant.to_owned()]);
    wanted.into_iter().find_map(|name| candidates.iter().find(|file| stem(file) == name)).cloned().ok_or_else(|| {
        let known: Vec<String> = candidates.iter().map(|file| variant_of(file).unwrap_or(stem(file).into())).collect();
        let help = if known.is_empty() {
            "the folder holds no ONNX file".into()
        } else {
            format!("it has {}", known.join(", "))
        };
        Error::new(ErrorKind::NotFound, format!("{}: no variant `{variant}`", root.display())).with_help(help)
    })
}

fn choose_default(root: &Path, candidates: &[PathBuf]) -> Result<PathBuf> {
    let named = |name: &str| candidates.iter().find(|file| stem(file) == name);
    let by_convention = VARIANTS.iter().find_map(|variant| {
        STEMS.iter().find_map(|base| if variant.is_empty() { named(base) } else { named(&format!("{base}_{variant}")) })
    });
    if let Some(file) = by_convention {
        return Ok(file.clone());
    }
    match candidates {
        [only] => Ok(only.clone()),
        [] => Err(Error::new(ErrorKind::NotFound, format!("{}: holds no ONNX model", root.display())).with_help(
            "export one, for instance with `optimum-cli export onnx`, or fetch the repository's `onnx` folder",
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|file| stem(file)).collect();
            Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{}: several ONNX files, none of a usual name", root.display()),
            )
            .with_help(format!("choose one as the variant: {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{root_of, variant_of};

    #[test]
    fn variants_are_what_follows_a_usual_name() {
        let variant = |file: &str| variant_of(Path::new(file));
        assert_eq!(variant("onnx/model_q4f16.onnx").as_deref(), Some("q4f16"));
        assert_eq!(variant("decoder_model_merged_quantized.onnx").as_deref(), Some("quantized"));
        assert_eq!(variant("decoder_model_merged.onnx"), None);
        assert_eq!(variant("vision_encoder_q4.onnx"), None);
    }

    #[test]
    fn configuration_lies_beside_the_file_or_above_its_onnx_folder() {
        assert_eq!(root_of(Path::new("models/x/onnx/model.onnx")), Path::new("models/x"));
        assert_eq!(root_of(Path::new("models/x/model.onnx")), Path::new("models/x"));
        assert_eq!(root_of(Path::new("model.onnx")), Path::new("."));
        assert_eq!(root_of(Path::new("onnx/model.onnx")), Path::new("."));
    }
}

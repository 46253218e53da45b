//! Fusions as files that other runtimes serve: onnxruntime-genai, ONNX Runtime, Triton.
//!
//! # Why
//!
//! A fusion that runs in logitfuse needs logitfuse where it is served. Phones, browsers and existing services run ONNX
//! Runtime; what they need is files. Here a fusion becomes such files: the models as they are, and the rule as a graph
//! ([`FusionStrategy::lower`]).
//!
//! # Example
//!
//! ```no_run
//! # fn main() -> logitfuse_core::Result<()> {
//! use std::collections::BTreeMap;
//!
//! use logitfuse_export::{ExportSettings, Target, export};
//! use logitfuse_pipeline::{PipelineOptions, SourceConfig, StrategyConfig, configured};
//!
//! let source = |role: &str| (role.to_owned(), SourceConfig::new(format!("models/{role}")));
//! let mut strategy = StrategyConfig::default();
//! strategy.id = Some("dynamic-kl".to_owned());
//! let options = PipelineOptions::new(BTreeMap::from(["base", "expert", "anti"].map(source)), strategy);
//! let strategy = configured(&options.strategy)?;
//! export(&options, strategy.as_ref(), &ExportSettings::new(Target::Onnx), "fused".as_ref(), &mut |step| {
//!     eprintln!("{step}");
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Reference
//!
//! | target | files | served by |
//! |---|---|---|
//! | [`Target::Genai`] | each model by itself (the first one byte for byte), `fuse.onnx`, `genai_config.json` | onnxruntime-genai, as a decoder pipeline |
//! | [`Target::Onnx`] | one graph in Optimum's layout, and a genai folder over the same weights | ONNX Runtime, transformers.js, logitfuse, onnxruntime-genai with its drafts |
//! | [`Target::Triton`] | a model repository: the graph, and a Python model that decodes with genai | Triton |
//!
//! The strategy's parameters are inputs `fusion.NAME`, f32 `[1]`, with the strategy's values as defaults; columns of the trace
//! are outputs `trace.NAME`, f32 `[batch, sequence, 1]`. Logits are f32 `[batch, sequence, vocabulary]` over the ids that all
//! models share.
//!
//! Weights are hard-linked where the file system allows it, and copied else. A target appears under its name when it is
//! complete.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod card;
mod check;
mod emit;
mod folder;
mod genai_config;
mod models;
mod one_graph;
mod stages;
mod triton;
mod uniform_kv;

use std::{
    fmt,
    path::{Path, PathBuf},
};

pub use check::{Checked, Difference, check};
use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result};
use logitfuse_onnx_graph::{Model, Staging};
use logitfuse_pipeline::PipelineOptions;
use serde_json::json;

use crate::{
    folder::{copy, subfolder, write},
    models::{ExportModel, Fusion},
    one_graph::{one_graph, without_defaults},
    uniform_kv::{UniformShape, make_uniform},
};

/// What is to serve the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// onnxruntime-genai, as a decoder pipeline: models one after the other, then the rule.
    Genai,
    /// ONNX Runtime: one graph.
    Onnx,
    /// Triton Inference Server: a model repository.
    Triton,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Genai => "genai",
            Self::Onnx => "onnx",
            Self::Triton => "triton",
        })
    }
}

/// How a fusion is exported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportSettings {
    /// What is to serve the files.
    pub target: Target,
    /// The role whose model drafts in the genai folder of target `onnx`; nothing drafts if absent.
    pub draft: Option<String>,
    /// Whether the caches of all layers get one shape in target `onnx`, as genai's drafts need where they are not written in
    /// place.
    pub uniform_kv: bool,
}

impl ExportSettings {
    /// This target, and defaults for everything else.
    pub fn new(target: Target) -> Self {
        Self { target, draft: None, uniform_kv: false }
    }
}

/// Writes a fusion as files into a folder that does not exist yet, and gives its path. `progress` is told what is done.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with the reason where the strategy is no graph or a model cannot stand in the target's files;
/// what is wrong with the sources; what cannot be read or written. The folder is not there then.
pub fn export(
    options: &PipelineOptions,
    strategy: &dyn FusionStrategy,
    settings: &ExportSettings,
    target: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    for (name, set) in [("draft", settings.draft.is_some()), ("uniform_kv", settings.uniform_kv)] {
        if set && settings.target != Target::Onnx {
            let what = format!("{name}: means something for target onnx only, not for {}", settings.target);
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("use target onnx, or leave it out"));
        }
    }
    let fusion = Fusion::prepare(options, strategy)?;
    let uniform = settings.uniform_kv.then(|| uniform_shape(&fusion)).transpose()?;
    let draft = settings.draft.as_deref().map(|role| drafting(&fusion, role)).transpose()?;
    let staging = Staging::begin(target, &mut |leftover| {
        progress(&format!("removed {}, which an export that was killed left", leftover.display()));
    })?;
    let folder = staging.made();
    match settings.target {
        Target::Genai => {
            progress("models and rule as stages");
            write_genai(&fusion, &folder)?;
        }
        Target::Onnx => write_onnx(&fusion, &folder, draft, uniform.as_ref(), progress)?,
        Target::Triton => {
            progress("model repository");
            triton::write_repository(&fusion, &folder)?;
        }
    }
    progress("hashes of the parents");
    card::write(&fusion, settings, &folder)?;
    staging.publish()?;
    Ok(target.to_owned())
}

/// What of a pipeline's options is no part of exported files, a line each.
pub fn not_exported(options: &PipelineOptions) -> Vec<String> {
    let run = &options.run;
    let settings = [
        ("run.logit_bias", !run.logit_bias.is_empty()),
        ("run.stop", !run.stop.is_empty()),
        ("run.presence_penalty", run.presence_penalty != 0.0),
        ("run.frequency_penalty", run.frequency_penalty != 0.0),
        ("run.min_p", run.min_p > 0.0),
        ("speculation", options.speculation.is_some()),
    ];
    let set = settings.into_iter().filter(|(_, set)| *set);
    set.map(|(name, _)| format!("{name} is no part of the exported files; it is for the program that serves them"))
        .collect()
}

fn uniform_shape(fusion: &Fusion) -> Result<UniformShape> {
    UniformShape::of(fusion).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "uniform_kv: a model does not state the shape of its caches")
            .with_help("export the models with their numbers of heads and head sizes")
    })
}

/// The model that a role names.
fn drafting<'a>(fusion: &'a Fusion, role: &str) -> Result<&'a ExportModel> {
    let known = || fusion.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
    fusion.models.iter().find(|model| model.name == role).ok_or_else(|| {
        Error::new(ErrorKind::InvalidConfig, format!("draft: no model is called `{role}`"))
            .with_help(format!("the models are {}", known()))
    })
}

fn write_genai(fusion: &Fusion, folder: &Path) -> Result<()> {
    stages::write_stages(fusion, folder)?;
    write_json(&folder.join("genai_config.json"), &genai_config::pipeline_config(fusion)?)?;
    genai_tokenizer_files(fusion, folder)
}

fn write_onnx(
    fusion: &Fusion,
    root: &Path,
    draft: Option<&ExportModel>,
    uniform: Option<&UniformShape>,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    progress("one graph of all models");
    let mut graph = one_graph(fusion)?;
    if let Some(shape) = uniform {
        make_uniform(&mut graph, fusion, shape);
    }
    let folder = subfolder(root, "onnx")?;
    progress("weights");
    graph.save_embedding(&folder.join("model.onnx"), 0)?;
    tokenizer_files(fusion, root)?;
    write_json(&root.join("config.json"), &card::config_json(fusion)?)?;
    let generation = fusion.models[0].folder.root().join("generation_config.json");
    if generation.exists() {
        copy(&generation, &root.join("generation_config.json"))?;
    }

    progress("folder for genai");
    let genai = subfolder(root, "genai")?;
    let saved = Model::open(&folder.join("model.onnx"))?;
    without_defaults(saved).save_linked(&genai.join("model.onnx"))?;
    let draft = draft
        .map(|model| {
            model.model.save_linked(&genai.join("draft.onnx"))?;
            Ok::<_, Error>((model, "draft.onnx"))
        })
        .transpose()?;
    write_json(&genai.join("genai_config.json"), &genai_config::graph_config(fusion, "model.onnx", draft, uniform)?)?;
    genai_tokenizer_files(fusion, &genai)
}

/// Copies what turns text into tokens: the first model's, which all share.
fn tokenizer_files(fusion: &Fusion, folder: &Path) -> Result<()> {
    for (path, kind) in fusion.models[0].folder.files() {
        if let ("tokenizer" | "chat_template", Some(name)) = (kind, path.file_name()) {
            copy(&path, &folder.join(name))?;
        }
    }
    Ok(())
}

/// As [`tokenizer_files`], for genai 0.18: its tokenizer puts a token before a text only where `tokenizer_config.json` says
/// so, whatever `tokenizer.json` says.
fn genai_tokenizer_files(fusion: &Fusion, folder: &Path) -> Result<()> {
    tokenizer_files(fusion, folder)?;
    let ids = |special| fusion.files.tokenizer.encode("a", special);
    if ids(true)?.len() <= ids(false)?.len() {
        return Ok(());
    }
    let path = folder.join("tokenizer_config.json");
    let mut config = genai_config::read_json(&path)?.unwrap_or_else(|| json!({}));
    config["add_bos_token"] = json!(true);
    config["add_eos_token"] = json!(false);
    write_json(&path, &config)
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
    text.push('\n');
    write(path, &text)
}

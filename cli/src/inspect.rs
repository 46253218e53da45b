//! `logitfuse models inspect`.

mod chunks;

use std::{path::Path, process::ExitCode};

use logitfuse_core::{LogitSource, Result, SourceInfo, TokenId};
use logitfuse_onnx::{LoadReport, ModelFolder, OnnxOptions, OnnxSource, Runtime, TensorInfo};
use logitfuse_setup::{Environment, find_runtime};
use logitfuse_text::{ChatTemplate, SourceVocabulary, Tokenizer, compatibility};
use serde_json::{Value, json};

use crate::{
    args::{Format, Global, InspectArgs},
    output,
    table::TextTable,
};
use logitfuse_pipeline::ChunkConsistency;

/// One folder and what could be learnt of it.
struct Model {
    folder: ModelFolder,
    tokenizer: Result<Tokenizer>,
    template: Result<Option<ChatTemplate>>,
    loaded: Option<(SourceInfo, LoadReport)>,
    chunks: Option<ChunkConsistency>,
}

pub(crate) fn run(global: &Global, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let runtime = if args.no_load {
        None
    } else {
        let found = find_runtime(&Environment::of_process(), global.ort_lib.as_deref())?;
        Some(Runtime::load(&found.library)?)
    };
    let look = |path: &Path| Model::look(path, args, runtime.as_ref(), global.threads);
    let models = args.models.iter().map(|path| look(path)).collect::<Result<Vec<_>>>()?;
    let verdict = verdict(&models);
    let compatible = verdict.as_ref().is_none_or(|v| v["compatible"] == true);
    if args.format == Format::Text {
        for model in &models {
            output::write_all(model.text().as_bytes())?;
        }
        if let Some(verdict) = &verdict {
            output::write_all(verdict_text(verdict).as_bytes())?;
        }
    } else {
        let list: Vec<Value> = models.iter().map(Model::json).collect();
        let document = json!({ "schema_version": 1, "models": list, "verdict": verdict });
        output::json(&document, args.format == Format::Json)?;
    }
    Ok(if compatible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Model {
    fn look(path: &Path, args: &InspectArgs, runtime: Option<&Runtime>, threads: usize) -> Result<Self> {
        let folder = ModelFolder::open(path, args.variant.as_deref())?;
        let tokenizer = Tokenizer::load(folder.tokenizer_dir());
        let (mut loaded, mut chunks) = (None, None);
        if let Some(runtime) = runtime {
            let end_of_sequence = tokenizer.as_ref().ok().and_then(Tokenizer::eos_id).into_iter().collect();
            let name = Some(path.display().to_string());
            let options = OnnxOptions { name, threads, end_of_sequence, ..OnnxOptions::default() };
            let mut source = OnnxSource::open(runtime, &folder, &options)?;
            if let Ok(tokenizer) = &tokenizer {
                chunks = ChunkConsistency::measure(&mut source, tokenizer, usize::MAX)?;
            }
            loaded = Some((source.info().clone(), source.report().clone()));
        }
        let template = ChatTemplate::load(folder.tokenizer_dir(), None);
        Ok(Self { folder, tokenizer, template, loaded, chunks })
    }

    fn name(&self) -> String {
        self.folder.root().display().to_string()
    }

    fn width(&self) -> Option<usize> {
        self.loaded.as_ref().map(|(info, _)| info.logit_width).or(self.folder.config().vocab_size)
    }

    /// The ids that end a text: those of the configuration, else that of the tokenizer's `eos_token`.
    fn ends_with(&self) -> Vec<TokenId> {
        let stated = &self.folder.config().end_of_sequence;
        let named = self.tokenizer.as_ref().ok().and_then(Tokenizer::eos_id);
        if stated.is_empty() { named.into_iter().collect() } else { stated.clone() }
    }

    fn json(&self) -> Value {
        let tokenizer = match &self.tokenizer {
            Ok(t) => json!({
                "tokens": t.defined_ids().count(), "size": t.size(), "special": t.special_ids().count(),
                "bos": t.bos_token(), "eos": t.eos_token(), "fingerprint": t.fingerprint(),
            }),
            Err(e) => json!({ "error": e.to_string() }),
        };
        let template = match &self.template {
            Ok(template) => json!(template.as_ref().map(ChatTemplate::origin)),
            Err(e) => json!({ "error": e.to_string() }),
        };
        json!({
            "folder": self.name(),
            "onnx": self.folder.onnx(),
            "layout": self.folder.layout(),
            "variants": self.folder.variants(),
            "weight_bytes": self.folder.weight_bytes(),
            "configuration": self.folder.config(),
            "inputs": self.folder.inputs(),
            "outputs": self.folder.outputs(),
            "logit_width": self.width(),
            "ends_with": self.ends_with(),
            "context_length": self.loaded.as_ref().map(|(info, _)| info.context_length),
            "kv_bytes_per_token": self.loaded.as_ref().map(|(info, _)| info.kv_bytes_per_token),
            "chunk_distance": self.chunks.as_ref().map(|chunks| chunks.distance),
            "session": self.loaded.as_ref().map(|(_, report)| report),
            "tokenizer": tokenizer,
            "chat_template": template,
        })
    }

    fn text(&self) -> String {
        let mut facts = Vec::new();
        let mut add = |what: &str, value: String| facts.push([what.to_owned(), value]);
        add("onnx", self.folder.onnx().display().to_string());
        add("layout", json!(self.folder.layout()).as_str().unwrap_or_default().replace('_', " "));
        if !self.folder.variants().is_empty() {
            add("variants", self.folder.variants().join(", "));
        }
        add("weights", format!("{:.1} MB", self.folder.weight_bytes() as f64 / 1e6));
        add("inputs", tensors(self.folder.inputs()));
        add("outputs", tensors(self.folder.outputs()));
        if let Some((info, report)) = &self.loaded {
            add("logits", format!("{} wide", info.logit_width));
            add("context", info.context_length.map_or("unknown".to_owned(), |n| format!("{n} tokens")));
            let per_token = info.kv_bytes_per_token as f64 / 1e3;
            add("kv cache", format!("{}: {}; {per_token:.1} kB a token", report.kv, report.kv_reason));
            add("runs on", report.provider.clone());
        }
        let ends = self.ends_with();
        let unknown = "nothing: neither the configuration nor the tokenizer names an end".to_owned();
        add("ends with", if ends.is_empty() { unknown } else { format!("{ends:?}") });
        if let Some(chunks) = &self.chunks {
            add("several at once", chunks::describe(chunks));
        }
        match &self.tokenizer {
            Ok(t) => {
                let (tokens, special) = (t.defined_ids().count(), t.special_ids().count());
                add("tokenizer", format!("{tokens} tokens, {special} special"));
            }
            Err(e) => add("tokenizer", format!("error: {e}")),
        }
        match &self.template {
            Ok(Some(template)) => add("chat template", template.origin().to_owned()),
            Ok(None) => add("chat template", "none".to_owned()),
            Err(e) => add("chat template", format!("error: {e}")),
        }
        format!("{}\n{}\n", self.name(), TextTable::new(facts).at_least(0, "several at once".len()).gap(1).indented(2))
    }
}

/// Ports on one line; the caches, which are many and alike, are counted.
fn tensors(tensors: &[TensorInfo]) -> String {
    let is_cache = |name: &str| {
        name.contains("key") || name.contains("value") || name.contains("past") || name.contains("present")
    };
    let (caches, others): (Vec<&TensorInfo>, Vec<&TensorInfo>) = tensors.iter().partition(|p| is_cache(&p.name));
    let mut shown: Vec<String> = others.iter().map(ToString::to_string).collect();
    if let Some(first) = caches.first() {
        shown.push(format!("{} of cache such as {first}", caches.len()));
    }
    shown.join("; ")
}

/// Whether the models may be fused; `None` for a single one, or where a tokenizer is missing.
fn verdict(models: &[Model]) -> Option<Value> {
    if models.len() < 2 {
        return None;
    }
    let names: Vec<String> = models.iter().map(Model::name).collect();
    let ends: Vec<Vec<TokenId>> = models.iter().map(Model::ends_with).collect();
    let sources: Option<Vec<SourceVocabulary<'_>>> = models
        .iter()
        .zip(names.iter().zip(&ends))
        .map(|(model, (name, end_of_sequence))| {
            let tokenizer = model.tokenizer.as_ref().ok()?;
            Some(SourceVocabulary { name, tokenizer, logit_width: model.width()?, end_of_sequence })
        })
        .collect();
    Some(match sources {
        Some(sources) => json!(compatibility(&sources)),
        None => json!({ "compatible": false, "refusals": ["a tokenizer or the logits' width is unknown"] }),
    })
}

fn verdict_text(verdict: &Value) -> String {
    let list = |key: &str| -> Vec<String> {
        verdict[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str())
            .map(|v| format!("  {key}: {v}\n"))
            .collect()
    };
    let word = if verdict["compatible"] == true { "can be fused" } else { "cannot be fused" };
    format!("verdict: these models {word}\n{}{}", list("refusals").concat(), list("notes").concat())
}

//! The models of a fusion, in the names that exported files use.

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, FusionGraph, FusionStrategy, Result, SharedVocabulary, StrategyInfo};
use logitfuse_onnx_graph::Model;
use logitfuse_pipeline::{FusionFiles, PipelineOptions, RunConfig};
use logitfuse_pipeline::{
    ModelFolder,
    model_files::{CacheTensor, Element, LogitRows, Signature},
};

/// A fusion that can be exported: its models, and its rule as a graph.
pub(crate) struct Fusion {
    pub(crate) files: FusionFiles,
    /// In the order in which bindings name them first.
    pub(crate) models: Vec<ExportModel>,
    pub(crate) graph: FusionGraph,
    pub(crate) info: StrategyInfo,
    /// How tokens are chosen.
    pub(crate) run: RunConfig,
}

/// One model of a fusion.
pub(crate) struct ExportModel {
    /// The role that it plays first, with a number where several models play it: `base`, `expert`, `expert_2`.
    pub(crate) name: String,
    pub(crate) folder: ModelFolder,
    pub(crate) signature: Signature,
    pub(crate) model: Model,
    pub(crate) layers: Vec<Layer>,
}

/// The key and value caches of one layer, and the layer's number among those of all models.
pub(crate) struct Layer {
    pub(crate) number: usize,
    pub(crate) key: CacheTensor,
    pub(crate) value: CacheTensor,
}

impl Layer {
    /// What the caches' inputs and outputs are called: the model's tensor, and the exported names of past and present.
    pub(crate) fn names(&self) -> [(&CacheTensor, String, String); 2] {
        let number = self.number;
        let named = |kind: &str| (format!("past_key_values.{number}.{kind}"), format!("present.{number}.{kind}"));
        let [(past_key, present_key), (past_value, present_value)] = [named("key"), named("value")];
        [(&self.key, past_key, present_key), (&self.value, past_value, present_value)]
    }
}

impl Fusion {
    /// Finds the models and writes the rule as a graph.
    ///
    /// # Errors
    /// What [`PipelineOptions::files`] and [`FusionStrategy::lower`] refuse, and models that no exported file can hold.
    pub(crate) fn prepare(options: &PipelineOptions, strategy: &dyn FusionStrategy) -> Result<Self> {
        let info = strategy.info().clone();
        let files = options.files(&info)?;
        let graph = strategy.lower(&files.session).map_err(|e| e.context(format!("strategy `{}`", info.id)))?;
        if let Some(other) = files.shares_prompt.iter().position(|shares| !shares) {
            let source = &files.session.bindings[other].source;
            let what = format!(
                "sources.{source}: its prompt differs from that of `{}`, and exported files feed all models the same tokens",
                files.session.bindings[0].source
            );
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_help("give all sources the same prompt; in-context fusion runs in logitfuse only"));
        }
        let mut models: Vec<Option<ExportModel>> = files.models.iter().map(|_| None).collect();
        let mut order = Vec::new();
        let mut roles: BTreeMap<String, usize> = BTreeMap::new();
        for (binding, &place) in files.session.bindings.iter().zip(&files.model_of) {
            if models[place].is_none() {
                let count = roles.entry(binding.role.clone()).or_default();
                *count += 1;
                let name = if *count == 1 { binding.role.clone() } else { format!("{}_{count}", binding.role) };
                models[place] = Some(ExportModel::open(name, files.models[place].clone())?);
                order.push(place);
            }
        }
        let mut number = 0;
        let mut ordered = Vec::new();
        for place in &order {
            let mut model = models[*place].take().expect("every place was filled above");
            for layer in &mut model.layers {
                layer.number = number;
                number += 1;
            }
            ordered.push(model);
        }
        let mut files = files;
        for place in &mut files.model_of {
            *place = order.iter().position(|known| known == place).expect("every model has its place");
        }
        let fusion = Self { files, models: ordered, graph, info, run: options.run.clone() };
        fusion.check()?;
        Ok(fusion)
    }

    pub(crate) fn vocabulary(&self) -> &SharedVocabulary {
        &self.files.session.vocabulary
    }

    /// Layers of all models.
    pub(crate) fn layer_count(&self) -> usize {
        self.models.iter().map(|model| model.layers.len()).sum()
    }

    /// All caches.
    pub(crate) fn caches(&self) -> impl Iterator<Item = &CacheTensor> {
        self.models.iter().flat_map(|model| &model.layers).flat_map(|layer| [&layer.key, &layer.value])
    }

    /// Tokens that fit into a sequence of every model.
    pub(crate) fn context_length(&self) -> Option<usize> {
        self.files.context_length
    }

    /// Whether every cache goes straight through a node that can write it in place.
    pub(crate) fn writes_in_place(&self) -> bool {
        self.models.iter().all(|model| {
            let tensors = model.layers.iter().flat_map(|layer| [&layer.key, &layer.value]);
            tensors.into_iter().all(|tensor| model.folder.is_written_in_place(tensor))
        })
    }

    /// What runtimes demand of the set: one type of ids, and one of caches.
    fn check(&self) -> Result<()> {
        let first = &self.models[0];
        for model in &self.models[1..] {
            let differ = |what: &str, a: Element, b: Element| {
                let shown = model.folder.onnx().display();
                Error::new(
                    ErrorKind::Incompatible,
                    format!("{shown}: its {what} are {b}, those of `{}` {a}", first.name),
                )
                .with_help("export the models with the same types")
            };
            let (a, b) = (first.signature.ids.element, model.signature.ids.element);
            if a != b {
                return Err(differ("token ids", a, b));
            }
            let element = |model: &ExportModel| model.layers.first().map(|layer| layer.key.element);
            if let (Some(a), Some(b)) = (element(first), element(model))
                && a != b
            {
                return Err(differ("key/value caches", a, b));
            }
        }
        Ok(())
    }
}

impl ExportModel {
    fn open(name: String, folder: ModelFolder) -> Result<Self> {
        let signature = folder.signature()?;
        let shown = folder.onnx().display().to_string();
        let refuse = |what: &str, help: &str| {
            Err(Error::new(ErrorKind::Unsupported, format!("{shown}: {what}")).with_help(help.to_owned()))
        };
        if signature.use_cache_branch.is_some() {
            let what = "a merged decoder with two branches, which no generic runtime feeds";
            return refuse(
                what,
                "export the model for text generation with one graph (`optimum-cli … --no-post-process`)",
            );
        }
        if signature.rows_to_keep.is_some() {
            return refuse("it asks how many rows of logits are wanted", "export it without `num_logits_to_keep`");
        }
        if signature.rows == Some(LogitRows::Last) || signature.logits.dims.len() != 3 {
            let what = "it gives the logits of the last position only, and drafts are verified at several";
            return refuse(what, "export it with the logits of all positions");
        }
        if signature.cache.is_empty() {
            return refuse("it has no key/value cache", "export it for text generation with a past");
        }
        let layers = layers(&signature.cache, &shown)?;
        let mut model = Model::open(folder.onnx())?;
        model.sort().map_err(|e| e.context(folder.onnx().display()))?;
        Ok(Self { name, folder, signature, model, layers })
    }
}

/// The caches by layer.
fn layers(cache: &[CacheTensor], shown: &str) -> Result<Vec<Layer>> {
    let mut found: BTreeMap<usize, [Option<CacheTensor>; 2]> = BTreeMap::new();
    for tensor in cache {
        let layer = tensor.past.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok());
        let last = tensor.past.rsplit(['.', '_', '/']).next().unwrap_or_default();
        let kind = match last {
            _ if last.starts_with('k') => Some(0),
            _ if last.starts_with('v') => Some(1),
            _ => None,
        };
        let (Some(layer), Some(kind), 4) = (layer, kind, tensor.dims.len()) else {
            let what = format!("{shown}: input `{}` is not the keys or the values of one numbered layer", tensor.past);
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_help("export it with inputs such as past_key_values.0.key"));
        };
        found.entry(layer).or_default()[kind] = Some(tensor.clone());
    }
    found
        .into_iter()
        .map(|(number, pair)| match pair {
            [Some(key), Some(value)] => Ok(Layer { number, key, value }),
            _ => Err(Error::new(
                ErrorKind::InvalidData,
                format!("{shown}: layer {number} has only one of its two caches"),
            )
            .with_help("export the model again")),
        })
        .collect()
}

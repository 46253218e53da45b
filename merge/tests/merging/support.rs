//! Folders of small models, merged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use logitfuse_core::{Error, Result};
use logitfuse_merge::{Folder, Merged, Recipe, merge};
use logitfuse_onnx_graph::{
    ElementType, Initializer, Model,
    proto::{Node, OperatorSet},
};
use tempfile::TempDir;

pub(crate) struct Bench(TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A folder `name` with a model in it; large tensors lie inside of the file.
    pub(crate) fn folder(&self, name: &str, model: &Model) {
        fs::create_dir_all(self.path(name)).unwrap();
        model.save(&self.path(name).join("model.onnx")).unwrap();
    }

    pub(crate) fn merge(&self, recipe: &str) -> Result<Merged> {
        self.merge_into("merged", recipe)
    }

    pub(crate) fn merge_into(&self, target: &str, recipe: &str) -> Result<Merged> {
        let recipe = Recipe::parse(&self.path("recipe.toml"), recipe)?;
        merge(&recipe, &self.path(target), locate, &mut |_| Ok(()))
    }

    /// What a merge into `merged` made; it begins anew every time, so weights are read before the next one.
    pub(crate) fn merged(&self, recipe: &str) -> Model {
        let _ = fs::remove_dir_all(self.path("merged"));
        let merged = self.merge(recipe).unwrap();
        let mut model = Model::open(&merged.onnx).unwrap();
        for tensor in &mut model.initializers {
            *tensor = Initializer::raw(tensor.name(), tensor.element_type(), tensor.dims(), tensor.bytes().unwrap());
        }
        model
    }

    /// The error of a merge, which left nothing behind.
    pub(crate) fn refused(&self, recipe: &str) -> Error {
        let error = self.merge(recipe).unwrap_err();
        assert!(error.help().is_some(), "{error}");
        let there: Vec<String> = names(self.0.path());
        assert!(!there.iter().any(|name| name.contains("merged")), "{there:?}");
        error
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[expect(clippy::unnecessary_wraps, reason = "what `merge` is handed may fail")]
pub(crate) fn locate(path: &Path, _: Option<&str>) -> Result<Folder> {
    let onnx = ["model.onnx", "onnx/model.onnx"].map(|file| path.join(file)).into_iter().find(|file| file.exists());
    Ok(Folder { root: path.to_owned(), onnx: onnx.unwrap_or_else(|| path.join("model.onnx")) })
}

/// A graph that reads its tensors, whatever they are.
pub(crate) fn model(tensors: Vec<Initializer>) -> Model {
    let mut model = Model { initializers: tensors, ..Model::default() };
    model.header.ir_version = Some(9);
    model.header.opset_import = vec![OperatorSet { domain: None, version: Some(18) }];
    let reads: Vec<Node> = model
        .initializers
        .iter()
        .map(|t| Node::new("Identity", &[t.name()], &[&format!("{}/out", t.name())]))
        .collect();
    model.graph_mut().node = reads;
    model
}

pub(crate) fn encode(element: ElementType, values: &[f32]) -> Vec<u8> {
    match element {
        ElementType::FLOAT => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ElementType::FLOAT16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        ElementType::BFLOAT16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn floats(element: ElementType, name: &str, dims: &[i64], values: &[f32]) -> Initializer {
    Initializer::raw(name, element, dims, encode(element, values))
}

pub(crate) fn tensor<'a>(model: &'a Model, name: &str) -> &'a Initializer {
    model.initializers.iter().find(|tensor| tensor.name() == name).unwrap()
}

/// The numbers of a tensor of floats.
pub(crate) fn values(tensor: &Initializer) -> Vec<f32> {
    let bytes = tensor.bytes().unwrap();
    match tensor.element_type() {
        ElementType::FLOAT => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        ElementType::FLOAT16 => bytes.chunks(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
        ElementType::BFLOAT16 => bytes.chunks(2).map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Numbers between −1 and 1 that look random and are the same everywhere.
pub(crate) fn noise(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..n).map(|_| next()).collect()
}

/// A recipe's head and its models: `base` if there is one, and experts with what else their tables say.
pub(crate) fn recipe(head: &str, base: Option<&str>, experts: &[(&str, &str)]) -> String {
    let base = base.map_or_else(String::new, |base| format!("[base]\nmodel = \"{base}\"\n"));
    let expert = |(model, keys): &(&str, &str)| format!("[[expert]]\nmodel = \"{model}\"\n{keys}\n");
    format!("{head}\n{base}{}", experts.iter().map(expert).collect::<String>())
}

//! The models that are merged: opened, and held against the first one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{Initializer, Model, proto};

use crate::{
    recipe::{Parent, Recipe},
    side_files,
};

/// Where a model lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder of its configuration and tokenizer.
    pub root: PathBuf,
    /// Its ONNX file, in that folder or below.
    pub onnx: PathBuf,
}

/// A parent whose graph is known.
pub(crate) struct Opened {
    pub(crate) parent: Parent,
    pub(crate) folder: Folder,
    pub(crate) model: Model,
    by_name: HashMap<String, usize>,
}

impl Opened {
    fn open(parent: &Parent, folder: Folder) -> Result<Self> {
        let model = Model::open(&folder.onnx)?;
        let mut by_name = HashMap::with_capacity(model.initializers.len());
        for (i, tensor) in model.initializers.iter().enumerate() {
            if by_name.insert(tensor.name().to_owned(), i).is_some() {
                let what = format!("{}: two initializers are called `{}`", folder.onnx.display(), tensor.name());
                return Err(Error::new(ErrorKind::InvalidData, what).with_help("export the model again"));
            }
        }
        Ok(Self { parent: parent.clone(), folder, model, by_name })
    }

    /// The tensor of this name; all parents have the same names once they are [`same`].
    pub(crate) fn tensor(&self, name: &str) -> Result<&Initializer> {
        let found = self.by_name.get(name).map(|&i| &self.model.initializers[i]);
        found.ok_or_else(|| differ(&format!("{} lacks the tensor `{name}`", self.parent.name)))
    }
}

/// Opens all parents, the base first. `locate` finds the model of a path and a variant.
pub(crate) fn open(
    recipe: &Recipe,
    mut locate: impl FnMut(&Path, Option<&str>) -> Result<Folder>,
) -> Result<Vec<Opened>> {
    let mut opened: Vec<Opened> = Vec::new();
    for parent in recipe.parents() {
        let folder = locate(&parent.path, parent.variant.as_deref()).map_err(|e| e.context(&parent.place))?;
        let next = Opened::open(parent, folder).map_err(|e| e.context(&parent.place))?;
        if let Some(first) = opened.first() {
            same(first, &next)?;
            side_files::compare(first, &next)?;
        }
        opened.push(next);
    }
    Ok(opened)
}

fn differ(what: &str) -> Error {
    Error::new(ErrorKind::Incompatible, what)
        .with_help("only models of one architecture that were exported in the same way can be merged")
}

/// Whether two graphs are the same but for the numbers in their initializers. Names of nodes, notes and who made the file
/// are not looked at.
fn same(first: &Opened, other: &Opened) -> Result<()> {
    let names = format!("{} and {}", first.parent.name, other.parent.name);
    let (a, b) = (first.model.graph(), other.model.graph());
    let opsets = |model: &Model| -> BTreeMap<String, i64> {
        let sets = model.header.opset_import.iter();
        sets.map(|set| (domain(set.domain()).to_owned(), set.version())).collect()
    };
    let (ours, theirs) = (opsets(&first.model), opsets(&other.model));
    if ours != theirs {
        return Err(differ(&format!("{names} are of different opsets: {ours:?} and {theirs:?}")));
    }
    for (what, ours, theirs) in [("inputs", &a.input, &b.input), ("outputs", &a.output, &b.output)] {
        let of = |values: &[proto::ValueInfo]| -> Vec<String> {
            values.iter().map(|value| format!("`{}` {:?}", value.name(), value.tensor_type())).collect()
        };
        let (ours, theirs) = (of(ours), of(theirs));
        if let Some(one) = first_difference(&ours, &theirs) {
            return Err(differ(&format!("{names} have different {what}: {one}")));
        }
    }
    for (i, (ours, theirs)) in a.node.iter().zip(&b.node).enumerate() {
        if let Some(what) = node_difference(ours, theirs) {
            return Err(differ(&format!("{names}: node {i}, {} `{}`: {what}", ours.op_type(), ours.name())));
        }
    }
    if a.node.len() != b.node.len() {
        return Err(differ(&format!("{names} have {} and {} nodes", a.node.len(), b.node.len())));
    }
    if first.model.header.functions != other.model.header.functions {
        return Err(differ(&format!("{names} have different functions")));
    }
    if a.sparse_initializer != b.sparse_initializer {
        return Err(differ(&format!("{names} have different sparse initializers, which are not merged")));
    }
    for tensor in &first.model.initializers {
        let theirs = other.tensor(tensor.name())?;
        if tensor.dims() != theirs.dims() || tensor.element_type() != theirs.element_type() {
            let (name, ours, theirs) = (tensor.name(), described(tensor), described(theirs));
            return Err(differ(&format!("{names}: `{name}` is {ours} and {theirs}")));
        }
    }
    match other.model.initializers.iter().find(|tensor| !first.by_name.contains_key(tensor.name())) {
        None => Ok(()),
        Some(more) => Err(differ(&format!("{} lacks the tensor `{}`", first.parent.name, more.name()))),
    }
}

/// ONNX's own domain has two spellings.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

fn described(tensor: &Initializer) -> String {
    format!("{:?} of type {}", tensor.dims(), tensor.element_type().0)
}

fn first_difference(ours: &[String], theirs: &[String]) -> Option<String> {
    let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (ours.iter().collect(), theirs.iter().collect());
    ours.symmetric_difference(&theirs).next().map(|one| (*one).clone())
}

fn node_difference(ours: &proto::Node, theirs: &proto::Node) -> Option<String> {
    let kind = |node: &proto::Node| [domain(node.domain()), node.op_type(), node.overload()].map(str::to_owned);
    if kind(ours) != kind(theirs) {
        return Some(format!("the other is {} `{}`", theirs.op_type(), theirs.name()));
    }
    for (what, a, b) in [("reads", &ours.input, &theirs.input), ("makes", &ours.output, &theirs.output)] {
        if a != b {
            return Some(format!("{what} {a:?}, the other {b:?}"));
        }
    }
    let of = |node: &proto::Node| -> BTreeMap<String, proto::Attribute> {
        let plain = |a: &proto::Attribute| proto::Attribute { doc_string: None, ..a.clone() };
        node.attribute.iter().map(|a| (a.name().to_owned(), plain(a))).collect()
    };
    let (a, b) = (of(ours), of(theirs));
    let name = a.keys().chain(b.keys()).find(|name| a.get(*name) != b.get(*name))?;
    let weights = |a: &BTreeMap<String, proto::Attribute>| a.get(name).is_some_and(|a| a.t.is_some() || a.g.is_some());
    Some(if weights(&a) && weights(&b) {
        format!("attribute `{name}` differs, and weights inside of nodes are not merged")
    } else {
        format!("attribute `{name}` differs")
    })
}

/// Tensors that say where a position is: a mean of two of them would be neither.
pub(crate) fn position_tables(model: &Model) -> BTreeSet<&str> {
    let tables = |node: &proto::Node| match node.op_type() {
        "GroupQueryAttention" => 7..9,
        "RotaryEmbedding" if node.domain() == "com.microsoft" => 2..4,
        "RotaryEmbedding" => 1..3,
        _ => 0..0,
    };
    let nodes = model.graph().node.iter();
    nodes
        .flat_map(|node| node.input.iter().skip(tables(node).start).take(tables(node).len()))
        .map(String::as_str)
        .collect()
}

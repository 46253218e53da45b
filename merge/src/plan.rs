//! What becomes of each tensor.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{ElementType, Initializer};

use crate::{
    bytes::Bytes,
    float::Float,
    merge::{Progress, Tell},
    parents::{Opened, position_tables},
    quantised::{Scheme, Schemes},
};

/// What becomes of one tensor.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    /// All parents have it alike, or it is the zero points of a group, which stay.
    Copied,
    /// Its numbers are merged.
    Merged(Float),
    /// It is merged with its scales and zero points.
    Group(&'a Scheme),
    /// It is scales or zero points of such a group.
    OfGroup,
}

/// What becomes of every tensor.
pub(crate) struct Plan {
    schemes: Schemes,
    differing: BTreeMap<String, Option<Float>>,
    /// The scales and zero points that are written with their group.
    of_group: BTreeSet<String>,
    groups: BTreeSet<String>,
    tensors: usize,
}

impl Plan {
    /// Compares all tensors of all parents.
    pub(crate) fn make(parents: &[Opened], tell: &mut Tell<'_>) -> Result<Self> {
        let first = &parents[0];
        let schemes = Schemes::of(&first.model).map_err(|e| e.context(first.folder.onnx.display()))?;
        let mut differing = BTreeMap::new();
        let of = first.model.initializers.iter().map(Initializer::byte_length).sum();
        let mut done = 0;
        for tensor in &first.model.initializers {
            if differs(tensor, parents)? {
                differing.insert(tensor.name().to_owned(), Float::of(tensor.element_type()));
            } else if let Some(float) = Float::of(tensor.element_type()) {
                refuse_nan(first, tensor, float)?;
            }
            done += tensor.byte_length();
            tell(Progress::Bytes { phase: "comparing", done, of })?;
        }
        let tensors = first.model.initializers.len();
        let mut plan = Self { schemes, differing, of_group: BTreeSet::new(), groups: BTreeSet::new(), tensors };
        plan.group(parents)?;
        plan.check(parents)?;
        Ok(plan)
    }

    pub(crate) fn part(&self, name: &str) -> Part<'_> {
        if let Some(scheme) = self.groups.get(name).and_then(|name| self.schemes.known.get(name)) {
            return Part::Group(scheme);
        }
        if self.of_group.contains(name) {
            return Part::OfGroup;
        }
        match self.differing.get(name) {
            Some(Some(float)) => Part::Merged(*float),
            _ => Part::Copied,
        }
    }

    /// Tensors that are merged; a quantised one with its scales counts once.
    pub(crate) fn merged(&self) -> usize {
        let floats = self.differing.keys().filter(|name| matches!(self.part(name), Part::Merged(_)));
        self.groups.len() + floats.count()
    }

    pub(crate) fn copied(&self) -> usize {
        self.tensors - self.of_group.len() - self.merged()
    }

    /// The quantised tensors of which anything differs, with the tensors that have to be written with them.
    fn group(&mut self, parents: &[Opened]) -> Result<()> {
        let mut owner: BTreeMap<&String, &String> = BTreeMap::new();
        for scheme in self.schemes.known.values() {
            let codes = std::iter::once(&scheme.codes);
            if !codes.chain(&scheme.scales).chain(&scheme.zeros).any(|name| self.differing.contains_key(name)) {
                continue;
            }
            for names in [&scheme.scales, &scheme.zeros] {
                refuse_different(parents, scheme, names)?;
            }
            let new_zeros = scheme.zeros.iter().filter(|name| self.differing.contains_key(*name));
            let new_zeros: Vec<&String> =
                if new_zeros.count() > 0 { scheme.zeros.iter().collect() } else { Vec::new() };
            for name in scheme.scales.iter().chain(new_zeros) {
                if let Some(other) = owner.insert(name, &scheme.codes) {
                    let what = format!("`{name}` scales two tensors, `{other}` and `{}`", scheme.codes);
                    return Err(Error::new(ErrorKind::Unsupported, what).with_help(
                        "export the models with scales of their own for each tensor, or without quantisation",
                    ));
                }
            }
            self.groups.insert(scheme.codes.clone());
        }
        self.of_group = owner.into_keys().cloned().collect();
        Ok(())
    }

    /// Refuses what differs and cannot be merged.
    fn check(&self, parents: &[Opened]) -> Result<()> {
        let names = || parents.iter().map(|opened| &*opened.parent.name).collect::<Vec<_>>().join(", ");
        let tables = position_tables(&parents[0].model);
        for (name, float) in &self.differing {
            if self.groups.contains(name) || self.of_group.contains(name) {
                continue;
            }
            if tables.contains(name.as_str()) {
                let what = format!("the tables of positions `{name}` of {} differ", names());
                return Err(Error::new(ErrorKind::Incompatible, what)
                    .with_help("models with other rotary embeddings cannot be merged"));
            }
            if let Some(op) = self.schemes.unknown.get(name) {
                let what = format!("`{name}` is read by {op}, whose quantisation is not known here");
                return Err(Error::new(ErrorKind::Unsupported, what).with_help(
                    "merge models in fp32, fp16 or bf16, or with MatMulNBits, GatherBlockQuantized, DequantizeLinear, MatMulInteger or \
                     DynamicQuantizeMatMul",
                ));
            }
            if float.is_none() {
                let kind = parents[0].tensor(name)?.element_type();
                let (what, kind_of) = match kind {
                    ElementType(11) => ("a tensor of fp64", ErrorKind::Unsupported),
                    _ => ("no tensor of fp32, fp16 or bf16", ErrorKind::Incompatible),
                };
                let what = format!("`{name}` of {} differs and is {what} (element type {})", names(), kind.0);
                return Err(Error::new(kind_of, what)
                    .with_help("integers have to be equal in all parents: are these models of one architecture?"));
            }
        }
        Ok(())
    }
}

/// Whether any parent has other elements than the first.
fn differs(tensor: &Initializer, parents: &[Opened]) -> Result<bool> {
    for other in &parents[1..] {
        let theirs = other.tensor(tensor.name())?;
        let same = if tensor.element_type() == ElementType::STRING {
            tensor.header().string_data == theirs.header().string_data
        } else {
            let mut ours = Bytes::of(tensor).map_err(|e| e.context(&parents[0].parent.name))?;
            let mut theirs = Bytes::of(theirs).map_err(|e| e.context(&other.parent.name))?;
            ours.same(&mut theirs)?
        };
        if !same {
            return Ok(true);
        }
    }
    Ok(false)
}

/// NaN in a weight that all parents share is no less wrong.
fn refuse_nan(first: &Opened, tensor: &Initializer, float: Float) -> Result<()> {
    let (mut values, mut at) = (Vec::new(), 0);
    Bytes::of(tensor)?.pieces(|bytes| {
        values.resize(bytes.len() / float.size(), 0.0);
        float.decode(bytes, &mut values);
        if let Some(i) = values.iter().position(|value| value.is_nan()) {
            let what = format!("{}: `{}` holds NaN at element {}", first.parent.name, tensor.name(), at + i);
            return Err(Error::new(ErrorKind::Numeric, what)
                .with_help("the model is damaged, or its training diverged: it cannot be merged"));
        }
        at += values.len();
        Ok(())
    })
}

/// Several operators that read the same integers have to mean the same numbers.
fn refuse_different(parents: &[Opened], scheme: &Scheme, names: &[String]) -> Result<()> {
    let Some((one, others)) = names.split_first() else { return Ok(()) };
    for opened in parents {
        for name in others {
            if !Bytes::of(opened.tensor(one)?)?.same(&mut Bytes::of(opened.tensor(name)?)?)? {
                let what = format!(
                    "{}: `{}` is read with different scales, `{one}` and `{name}`",
                    opened.parent.name, scheme.codes
                );
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .with_help("export the models with a tensor for each operator, or without quantisation"));
            }
        }
    }
    Ok(())
}

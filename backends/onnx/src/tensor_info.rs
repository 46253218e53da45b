use std::fmt;

use logitfuse_onnx_graph::proto::{DimensionValue, TypeValue, ValueInfo};
use ort::value::{Outlet, ValueType};
use serde::Serialize;

use crate::Element;

/// One named input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// Its name in the graph.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its shape.
    pub dims: Vec<Dim>,
}

/// One dimension of a [`TensorInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Dim {
    /// Known when the graph was written.
    Fixed(usize),
    /// Known by name only: `batch_size`, `past_sequence_length`, sometimes even the head size.
    Named(String),
    /// Not stated.
    Unknown,
}

impl Dim {
    pub(crate) fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            _ => None,
        }
    }
}

impl TensorInfo {
    /// Of an input or output as a file states it. A dimension is a signed number there, and some exporters write -1 for "any".
    pub(crate) fn from_value(value: &ValueInfo) -> Self {
        let name = value.name().to_owned();
        let Some(TypeValue::Tensor(tensor)) = value.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) else {
            return Self { name, element: Element::Other, dims: Vec::new() };
        };
        let dims = tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| match &dim.value {
            Some(DimensionValue::Fixed(n)) => usize::try_from(*n).map_or(Dim::Unknown, Dim::Fixed),
            Some(DimensionValue::Named(name)) => Dim::Named(name.clone()),
            None => Dim::Unknown,
        });
        Self { name, element: Element::from_onnx(tensor.elem_type()), dims: dims.collect() }
    }

    /// Of a session's input or output.
    pub(crate) fn from_outlet(outlet: &Outlet) -> Self {
        let name = outlet.name().to_owned();
        let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
            return Self { name, element: Element::Other, dims: Vec::new() };
        };
        let dims = shape.iter().enumerate().map(|(i, &n)| match (usize::try_from(n), dimension_symbols.get(i)) {
            (Ok(n), _) => Dim::Fixed(n),
            (Err(_), Some(symbol)) if !symbol.is_empty() => Dim::Named(symbol.clone()),
            _ => Dim::Unknown,
        });
        Self { name, element: Element::from_ort(*ty), dims: dims.collect() }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Named(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[", self.name, self.element)?;
        for (i, dim) in self.dims.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

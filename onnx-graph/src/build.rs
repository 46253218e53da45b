//! Short ways to write nodes and values.

use crate::{
    ElementType,
    proto::{
        Attribute, AttributeKind, Dimension, DimensionValue, Graph, Node, Shape, TensorType, Type, TypeValue, ValueInfo,
    },
};

impl ValueInfo {
    /// A tensor of this name, element type and shape.
    pub fn tensor(name: impl Into<String>, element: ElementType, dims: &[DimensionValue]) -> Self {
        let dim = dims.iter().map(|dim| Dimension { value: Some(dim.clone()), denotation: None }).collect();
        let shape = Some(Shape { dim });
        let tensor = TensorType { elem_type: Some(element.0), shape };
        Self {
            name: Some(name.into()),
            r#type: Some(Type { value: Some(TypeValue::Tensor(tensor)), denotation: None }),
            ..Self::default()
        }
    }

    /// The element type and shape, where the value is a tensor with a known shape.
    pub fn tensor_type(&self) -> Option<(ElementType, Vec<Option<DimensionValue>>)> {
        let Some(TypeValue::Tensor(tensor)) = self.r#type.as_ref()?.value.as_ref() else { return None };
        let dims = tensor.shape.as_ref()?.dim.iter().map(|dim| dim.value.clone()).collect();
        Some((ElementType(tensor.elem_type()), dims))
    }
}

impl ValueInfo {
    /// Leaves the shape of a tensor open.
    pub fn forget_shape(&mut self) {
        if let Some(TypeValue::Tensor(tensor)) = self.r#type.as_mut().and_then(|r#type| r#type.value.as_mut()) {
            tensor.shape = None;
        }
    }
}

impl Node {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name() == name)
    }

    /// Adds a whole number.
    #[must_use]
    pub fn with_int(mut self, name: &str, value: i64) -> Self {
        self.attribute.push(Attribute {
            name: Some(name.into()),
            r#type: Some(AttributeKind::Int.into()),
            i: Some(value),
            ..Default::default()
        });
        self
    }

    /// Adds whole numbers.
    #[must_use]
    pub fn with_ints(mut self, name: &str, values: &[i64]) -> Self {
        self.attribute.push(Attribute {
            name: Some(name.into()),
            r#type: Some(AttributeKind::Ints.into()),
            ints: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// Adds a body.
    #[must_use]
    pub fn with_graph(mut self, name: &str, body: Graph) -> Self {
        self.attribute.push(Attribute {
            name: Some(name.into()),
            r#type: Some(AttributeKind::Graph.into()),
            g: Some(Box::new(body)),
            ..Default::default()
        });
        self
    }

    /// An operator of ONNX's own domain.
    pub fn new(op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            op_type: Some(op.into()),
            name: outputs.first().map(|&name| name.to_owned()),
            input: owned(inputs),
            output: owned(outputs),
            ..Self::default()
        }
    }
}

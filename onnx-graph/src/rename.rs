//! New names for the values of a graph, in its bodies too.

use crate::{
    proto::{DimensionValue, Graph, Type, TypeValue},
    walk::bodies,
};

/// Calls `rename` with every name of a value in the graph: inputs, outputs, what nodes read and write, initializers, and
/// the same in the bodies of `If`, `Loop` and `Scan`, which see the values around them under the same names. An optional
/// input that is left out has an empty name and keeps it.
pub fn rename_values(graph: &mut Graph, rename: &mut impl FnMut(&mut String)) {
    let mut each = |name: &mut String| {
        if !name.is_empty() {
            rename(name);
        }
    };
    values(graph, &mut each);
}

fn values(graph: &mut Graph, rename: &mut dyn FnMut(&mut String)) {
    let infos = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    infos.filter_map(|info| info.name.as_mut()).for_each(&mut *rename);
    graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut()).for_each(&mut *rename);
    let sparse = graph.sparse_initializer.iter_mut().filter_map(|tensor| tensor.values.as_mut()?.name.as_mut());
    sparse.for_each(&mut *rename);
    for annotation in &mut graph.quantization_annotation {
        annotation.tensor_name.as_mut().into_iter().for_each(&mut *rename);
        let parameters = annotation.quant_parameter_tensor_names.iter_mut().filter_map(|entry| entry.value.as_mut());
        parameters.for_each(&mut *rename);
    }
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(&mut *rename);
        bodies(node).for_each(|body| values(body, rename));
    }
}

/// Calls `rename` with the name of every node, in bodies too.
pub fn rename_nodes(graph: &mut Graph, rename: &mut dyn FnMut(&mut String)) {
    for node in &mut graph.node {
        node.name.as_mut().filter(|name| !name.is_empty()).into_iter().for_each(&mut *rename);
        bodies(node).for_each(|body| rename_nodes(body, rename));
    }
}

/// Calls `rename` with the name of every symbolic dimension, in bodies too.
pub fn rename_dimensions(graph: &mut Graph, rename: &mut dyn FnMut(&mut String)) {
    let infos = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    infos.filter_map(|info| info.r#type.as_mut()).for_each(|r#type| dimensions(r#type, rename));
    graph.node.iter_mut().flat_map(bodies).for_each(|body| rename_dimensions(body, rename));
}

fn dimensions(r#type: &mut Type, rename: &mut dyn FnMut(&mut String)) {
    match &mut r#type.value {
        Some(TypeValue::Tensor(tensor) | TypeValue::SparseTensor(tensor)) => {
            for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
                if let Some(DimensionValue::Named(name)) = &mut dim.value {
                    rename(name);
                }
            }
        }
        Some(TypeValue::Sequence(element) | TypeValue::Optional(element)) => {
            element.elem_type.iter_mut().for_each(|element| dimensions(element, rename));
        }
        Some(TypeValue::Map(map)) => map.value_type.iter_mut().for_each(|value| dimensions(value, rename)),
        Some(TypeValue::Opaque(_)) | None => {}
    }
}

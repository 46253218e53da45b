//! Ways through a graph: the bodies of its nodes, and all of its tensors.

use logitfuse_core::Result;

use crate::proto::{Attribute, Graph, Model, Node, Tensor};

/// The graphs that a node holds as attributes.
pub(crate) fn bodies(node: &mut Node) -> impl Iterator<Item = &mut Graph> {
    node.attribute.iter_mut().flat_map(|attribute| attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs))
}

/// The graphs that a node holds as attributes, to look at.
pub(crate) fn bodies_of(node: &Node) -> impl Iterator<Item = &Graph> {
    node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

/// Calls `each` with the tensors of a file: initializers, sparse ones too, and attributes of nodes, also of functions.
pub(crate) fn each_tensor(model: &mut Model, each: &mut dyn FnMut(&mut Tensor) -> Result<()>) -> Result<()> {
    model.graph.iter_mut().try_for_each(|graph| tensors_of_graph(graph, each))?;
    for function in &mut model.functions {
        function.attribute_proto.iter_mut().try_for_each(|attribute| tensors_of_attribute(attribute, each))?;
        let attributes = function.node.iter_mut().flat_map(|node| &mut node.attribute);
        attributes.into_iter().try_for_each(|attribute| tensors_of_attribute(attribute, each))?;
    }
    Ok(())
}

fn tensors_of_graph(graph: &mut Graph, each: &mut dyn FnMut(&mut Tensor) -> Result<()>) -> Result<()> {
    graph.initializer.iter_mut().try_for_each(&mut *each)?;
    let sparse = graph.sparse_initializer.iter_mut().flat_map(|tensor| [&mut tensor.values, &mut tensor.indices]);
    sparse.flatten().try_for_each(|tensor| each(tensor))?;
    let mut attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    attributes.try_for_each(|attribute| tensors_of_attribute(attribute, each))
}

fn tensors_of_attribute(attribute: &mut Attribute, each: &mut dyn FnMut(&mut Tensor) -> Result<()>) -> Result<()> {
    attribute.t.as_deref_mut().into_iter().chain(&mut attribute.tensors).try_for_each(&mut *each)?;
    let sparse = attribute.sparse_tensor.as_deref_mut().into_iter().chain(&mut attribute.sparse_tensors);
    let sparse = sparse.flat_map(|tensor| [&mut tensor.values, &mut tensor.indices]).flatten();
    sparse.into_iter().try_for_each(|tensor| each(tensor))?;
    let mut bodies = attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs);
    bodies.try_for_each(|body| tensors_of_graph(body, each))
}

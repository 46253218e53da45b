//! Raising a graph to a newer set of operators, so that graphs written in different ones can stand in one file.
//!
//! A file names one version for each domain. ONNX's own operators keep their meaning from version to version, with few
//! exceptions; those from version 13 to [`NEWEST`] are listed here, found by comparing attributes, inputs and defaults of
//! all operators in `onnx.defs` (onnx 1.23), and by reading the changes of the rest.

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    model::same_domain,
    proto::{AttributeKind, Graph, Node},
    walk::bodies,
};

/// The newest version whose changes are known here.
pub(crate) const NEWEST: i64 = 28;

/// The oldest that is raised: 13 changed how `Squeeze`, `Softmax`, `ReduceSum` and others take their axes.
const OLDEST: i64 = 13;

/// Since 18 these take their axes as an input, as `ReduceSum` did before.
const REDUCTIONS: [&str; 9] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
];
const AXES_AS_INPUT: i64 = 18;

/// Operators that mean something else since a version, in a way that is not undone here.
const CHANGED: [(&str, i64); 4] = [("RoiAlign", 16), ("DFT", 20), ("GridSample", 20), ("GroupNormalization", 21)];

/// Makes a graph written in version `from` of ONNX's own operators one of version `to`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where an operator's meaning changed, or a version is out of the range that is known.
pub(crate) fn raise(graph: &mut Graph, from: i64, to: i64) -> Result<()> {
    if from == to {
        return Ok(());
    }
    if from < OLDEST || to > NEWEST || from > to {
        return Err(unsupported(format!("operators of version {from} cannot be read as those of version {to}")));
    }
    raise_nodes(graph, from, to)
}

fn raise_nodes(graph: &mut Graph, from: i64, to: i64) -> Result<()> {
    let mut raised = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        if same_domain(node.domain(), "") {
            let op = node.op_type().to_owned();
            if CHANGED.iter().any(|&(name, since)| name == op && from < since && since <= to) {
                return Err(unsupported(format!(
                    "node `{}`: `{op}` of version {from} means something else in version {to}",
                    node.name()
                )));
            }
            if from < AXES_AS_INPUT && AXES_AS_INPUT <= to {
                if REDUCTIONS.contains(&&*op) {
                    raised.extend(axes_to_input(&mut node));
                } else if op == "Split" && node.input.iter().filter(|name| !name.is_empty()).count() == 1 {
                    let parts = i64::try_from(node.output.len()).unwrap_or(i64::MAX);
                    node = node.with_int("num_outputs", parts);
                }
            }
        }
        bodies(&mut node).try_for_each(|body| raise_nodes(body, from, to))?;
        raised.push(node);
    }
    graph.node = raised;
    Ok(())
}

/// The axes as a constant, which the node then reads.
fn axes_to_input(node: &mut Node) -> Option<Node> {
    let at = node.attribute.iter().position(|attribute| attribute.name() == "axes")?;
    let mut axes = node.attribute.remove(at);
    let name = format!("{}.axes", node.output.first()?);
    axes.name = Some("value_ints".into());
    axes.r#type = Some(AttributeKind::Ints.into());
    node.input.push(name.clone());
    let mut constant = Node::new("Constant", &[], &[&name]);
    constant.attribute.push(axes);
    Some(constant)
}

fn unsupported(what: String) -> Error {
    Error::new(ErrorKind::Unsupported, what)
        .with_help("export the models with one opset, or convert one with `onnx.version_converter`")
}

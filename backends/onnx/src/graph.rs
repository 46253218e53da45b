//! What a graph's outline tells of a decoder before ONNX Runtime loads it: inputs and outputs, and the key/value pairs that
//! go straight through a `GroupQueryAttention` node.

use std::collections::{HashMap, HashSet};

use logitfuse_onnx_graph::{
    Outline,
    proto::{Graph, Node, Tensor},
};

use crate::TensorInfo;

/// The structure of a graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct GraphSummary {
    /// Inputs that a caller must give: those with an initial value are left out.
    pub(crate) inputs: Vec<TensorInfo>,
    pub(crate) outputs: Vec<TensorInfo>,
    /// `(past, present)` names that one `GroupQueryAttention` node reads and writes directly.
    pub(crate) shared_pairs: HashSet<(String, String)>,
    /// Positions that the smallest rotary cache holds, where attention nodes rotate by table.
    pub(crate) rotary_positions: Option<usize>,
}

impl GraphSummary {
    pub(crate) fn of(outline: &Outline) -> Self {
        let graph = outline.graph();
        let initializers: HashMap<&str, &Tensor> = initializers(graph).map(|tensor| (tensor.name(), tensor)).collect();
        // Only those at the top: inside a branch the names belong to the branch.
        let attention: Vec<&Node> = graph.node.iter().filter(|node| is_attention(node)).collect();
        let positions = |node: &&Node| {
            let table = initializers.get(node.input.get(7)?.as_str())?;
            usize::try_from(*table.dims.first()?).ok()
        };
        Self {
            inputs: graph
                .input
                .iter()
                .filter(|input| !initializers.contains_key(input.name()))
                .map(TensorInfo::from_value)
                .collect(),
            outputs: graph.output.iter().map(TensorInfo::from_value).collect(),
            shared_pairs: attention.iter().flat_map(|node| shared_pairs(node)).collect(),
            rotary_positions: attention.iter().filter_map(positions).min(),
        }
    }
}

fn initializers(graph: &Graph) -> impl Iterator<Item = &Tensor> {
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_deref());
    graph.initializer.iter().chain(sparse)
}

/// `GroupQueryAttention(query, key, value, past_key, past_value, seqlens_k, total_sequence_length, cos_cache, sin_cache, …)
/// -> (output, present_key, present_value)`.
fn is_attention(node: &Node) -> bool {
    node.op_type() == "GroupQueryAttention" && node.domain() == "com.microsoft"
}

fn shared_pairs(node: &Node) -> impl Iterator<Item = (String, String)> {
    [(3, 1), (4, 2)]
        .into_iter()
        .filter_map(|(past, present)| Some((node.input.get(past)?.clone(), node.output.get(present)?.clone())))
}

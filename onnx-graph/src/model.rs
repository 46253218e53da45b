use crate::{proto, tensor::Initializer};

/// An ONNX model: its header in memory, its weights where they lie.
///
/// The two parts are independent: [`header`](Self::header) holds everything that the file says but the initializers of the
/// main graph, which stand in [`initializers`](Self::initializers) with the places of their bytes.
///
/// ```no_run
/// # fn main() -> logitfuse_core::Result<()> {
/// use logitfuse_onnx_graph::Model;
///
/// let model = Model::open("expert/model.onnx".as_ref())?;
/// for input in &model.graph().input {
///     println!("{}", input.name());
/// }
/// let bytes: u64 = model.initializers.iter().map(|weights| weights.byte_length()).sum();
/// println!("{bytes} bytes of weights");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All but the main graph's initializers.
    pub header: proto::Model,
    /// The main graph's initializers, in their order.
    pub initializers: Vec<Initializer>,
}

impl Model {
    /// The main graph, without its initializers.
    pub fn graph(&self) -> &proto::Graph {
        self.header.graph.as_ref().unwrap_or(proto::Graph::EMPTY)
    }

    /// The main graph, to change it.
    pub fn graph_mut(&mut self) -> &mut proto::Graph {
        self.header.graph.get_or_insert_default()
    }

    /// The version of a domain's operators that the model is written in; the empty domain is ONNX's own.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        self.header.opset_import.iter().find(|set| same_domain(set.domain(), domain)).map(proto::OperatorSet::version)
    }

    /// The inputs that a caller must give: one that an initializer names has a value already.
    pub fn required_inputs(&self) -> impl Iterator<Item = &proto::ValueInfo> {
        let given: std::collections::HashSet<&str> = self.initializers.iter().map(Initializer::name).collect();
        self.graph().input.iter().filter(move |input| !given.contains(input.name()))
    }
}

/// ONNX's own domain has two spellings.
pub(crate) fn same_domain(a: &str, b: &str) -> bool {
    let own = |domain| matches!(domain, "" | "ai.onnx");
    a == b || (own(a) && own(b))
}

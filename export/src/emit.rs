//! A [`FusionGraph`] as nodes of an ONNX graph.

use std::collections::BTreeMap;

use logitfuse_core::FusionGraph;
use logitfuse_core::fusion_graph::{Binary, Comparison, Operation, Reduction, Repeat, Unary, Value};
use logitfuse_onnx_graph::{
    ElementType, Initializer,
    proto::{DimensionValue, Graph, Node, ValueInfo},
};

/// The least version of ONNX's own operators that the nodes are of: since then reductions take their axes as an input.
pub(crate) const OPSET: i64 = 18;

/// What a graph input for a parameter is called.
pub(crate) fn parameter_input(name: &str) -> String {
    format!("fusion.{name}")
}

/// What a graph output for a column of the trace is called.
pub(crate) fn trace_output(name: &str) -> String {
    format!("trace.{name}")
}

/// The fusion rule in ONNX's words. Rows are `[batch, sequence, vocabulary]`, single numbers `[batch, sequence, 1]` or, where
/// they are the same at all positions, `[1]`.
pub(crate) struct Emitted {
    pub(crate) nodes: Vec<Node>,
    /// Constants.
    pub(crate) initializers: Vec<Initializer>,
    /// Defaults of the parameters; each has the name of its input.
    pub(crate) defaults: Vec<Initializer>,
    pub(crate) parameters: Vec<ValueInfo>,
    pub(crate) outputs: Vec<ValueInfo>,
}

/// Writes the rule as nodes that read the values `rows`, one for each binding, and write `fused` and the trace.
pub(crate) fn emit(graph: &FusionGraph, rows: &[String], fused: &str, width: usize) -> Emitted {
    let mut emitter = Emitter {
        graph,
        rows,
        names: vec![String::new(); graph.operations().len()],
        varies: vec![false; graph.operations().len()],
        constants: BTreeMap::new(),
        initializers: vec![Initializer::int64("fusion/last_axis", &[1], &[-1])],
    };
    let mut nodes = emitter.range(0..graph.operations().len());
    let last = emitter.names[graph.fused().index()].clone();
    nodes.push(Node::new("Identity", &[&last], &[fused]));
    let dimension = |name: &str| DimensionValue::Named(name.into());
    let positions = [dimension("batch_size"), dimension("sequence_length")];
    let output = |name: &str, width: usize| {
        let width = DimensionValue::Fixed(i64::try_from(width).unwrap_or(i64::MAX));
        ValueInfo::tensor(name, ElementType::FLOAT, &[positions[0].clone(), positions[1].clone(), width])
    };
    let mut outputs = vec![output(fused, width)];
    for (name, value) in graph.trace() {
        let output_name = trace_output(name);
        nodes.extend(emitter.at_every_position(*value, fused, &output_name));
        outputs.push(output(&output_name, 1));
    }
    let parameters = graph.parameters().iter().map(|parameter| {
        ValueInfo::tensor(parameter_input(&parameter.name), ElementType::FLOAT, &[DimensionValue::Fixed(1)])
    });
    let defaults = graph
        .parameters()
        .iter()
        .map(|parameter| Initializer::float(parameter_input(&parameter.name), &[1], &[parameter.default]));
    Emitted {
        nodes,
        initializers: emitter.initializers,
        defaults: defaults.collect(),
        parameters: parameters.collect(),
        outputs,
    }
}

struct Emitter<'a> {
    graph: &'a FusionGraph,
    rows: &'a [String],
    /// What each operation's value is called.
    names: Vec<String>,
    /// Whether a value is one of every position.
    varies: Vec<bool>,
    /// By the bits of the number.
    constants: BTreeMap<u32, String>,
    initializers: Vec<Initializer>,
}

impl Emitter<'_> {
    /// The nodes of a range of operations, without those of the bodies in it, which their loops hold.
    fn range(&mut self, range: std::ops::Range<usize>) -> Vec<Node> {
        self.graph.outside_of_bodies(range).into_iter().filter_map(|at| self.operation(at)).collect()
    }

    fn operation(&mut self, at: usize) -> Option<Node> {
        let operation = &self.graph.operations()[at];
        let own = format!("fusion/v{at}");
        let (name, reads, node) = match operation {
            Operation::Row(binding) => (self.rows[*binding].clone(), vec![], None),
            Operation::Parameter(index) => (parameter_input(&self.graph.parameters()[*index].name), vec![], None),
            Operation::Constant(number) => (self.constant(*number), vec![], None),
            Operation::Unary(function, x) => {
                let op = match function {
                    Unary::Negate => "Neg",
                    Unary::Exp => "Exp",
                    Unary::Log => "Log",
                    Unary::Sqrt => "Sqrt",
                };
                let node = Node::new(op, &[self.name(*x)], &[&own]);
                (own, vec![*x], Some(node))
            }
            Operation::Binary(function, a, b) => {
                let op = match function {
                    Binary::Add => "Add",
                    Binary::Subtract => "Sub",
                    Binary::Multiply => "Mul",
                    Binary::Divide => "Div",
                    Binary::Max => "Max",
                    Binary::Min => "Min",
                };
                let node = Node::new(op, &[self.name(*a), self.name(*b)], &[&own]);
                (own, vec![*a, *b], Some(node))
            }
            Operation::Compare(comparison, a, b) => {
                let op = match comparison {
                    Comparison::Less => "Less",
                    Comparison::LessOrEqual => "LessOrEqual",
                    Comparison::Equal => "Equal",
                };
                let node = Node::new(op, &[self.name(*a), self.name(*b)], &[&own]);
                (own, vec![*a, *b], Some(node))
            }
            Operation::Both(a, b) => {
                let node = Node::new("And", &[self.name(*a), self.name(*b)], &[&own]);
                (own, vec![*a, *b], Some(node))
            }
            Operation::Either(a, b) => {
                let node = Node::new("Or", &[self.name(*a), self.name(*b)], &[&own]);
                (own, vec![*a, *b], Some(node))
            }
            Operation::Select(condition, then, otherwise) => {
                let inputs = [self.name(*condition), self.name(*then), self.name(*otherwise)];
                let node = Node::new("Where", &inputs, &[&own]);
                (own, vec![*condition, *then, *otherwise], Some(node))
            }
            Operation::Reduce(reduction, row) => {
                let op = match reduction {
                    Reduction::Max => "ReduceMax",
                    Reduction::Sum => "ReduceSum",
                };
                let node = Node::new(op, &[self.name(*row), "fusion/last_axis"], &[&own]).with_int("keepdims", 1);
                (own, vec![*row], Some(node))
            }
            Operation::Repeat(repeat) => {
                let repeat = repeat.clone();
                let node = self.repeat(&own, &repeat);
                (own, vec![], Some(node))
            }
            Operation::Result(repeat, place) => (format!("{}.{place}", self.name(*repeat)), vec![], None),
            Operation::Carried(_) => (own, vec![], None),
        };
        let from_rows = match operation {
            Operation::Row(_) | Operation::Carried(_) | Operation::Result(..) => true,
            _ => reads.iter().any(|value| self.varies[value.index()]),
        };
        self.varies[at] = from_rows;
        self.names[at] = name;
        node
    }

    /// A loop whose body reads the values around it under their names.
    fn repeat(&mut self, own: &str, repeat: &Repeat) -> Node {
        let times = format!("{own}/times");
        let count = i64::try_from(repeat.times).unwrap_or(i64::MAX);
        self.initializers.push(Initializer::int64(&times, &[], &[count]));
        let initial: Vec<String> = repeat.initial.iter().map(|value| self.name(*value).to_owned()).collect();
        let mut nodes = self.range(repeat.body.clone());
        let carried = (0..repeat.initial.len()).map(|place| self.names[repeat.body.start + place].clone());
        let untyped = |name: String, element: ElementType| {
            let mut info = ValueInfo::tensor(name, element, &[]);
            info.forget_shape();
            info
        };
        let scalar = |name: String, element: ElementType| ValueInfo::tensor(name, element, &[]);
        let [round, go_on, goes_on] = ["round", "go_on", "goes_on"].map(|name| format!("{own}/{name}"));
        let mut input = vec![scalar(round, ElementType::INT64), scalar(go_on.clone(), ElementType::BOOL)];
        input.extend(carried.map(|name| untyped(name, ElementType::FLOAT)));
        nodes.push(Node::new("Identity", &[&go_on], &[&goes_on]));
        let mut output = vec![scalar(goes_on, ElementType::BOOL)];
        for (place, value) in repeat.next.iter().enumerate() {
            let next = format!("{own}/next.{place}");
            nodes.push(Node::new("Identity", &[self.name(*value)], &[&next]));
            output.push(untyped(next, ElementType::FLOAT));
        }
        let body = Graph { name: Some(format!("{own}/body")), node: nodes, input, output, ..Graph::default() };
        let inputs: Vec<&str> = [times.as_str(), ""].into_iter().chain(initial.iter().map(String::as_str)).collect();
        let results: Vec<String> = (0..repeat.initial.len()).map(|place| format!("{own}.{place}")).collect();
        let results: Vec<&str> = results.iter().map(String::as_str).collect();
        Node::new("Loop", &inputs, &results).with_graph("body", body)
    }

    /// A value as an output `[batch, sequence, 1]`, repeated where it is the same at all positions of the row `like`.
    fn at_every_position(&self, value: Value, like: &str, output: &str) -> Vec<Node> {
        let name = self.name(value);
        if self.varies[value.index()] {
            return vec![Node::new("Identity", &[name], &[output])];
        }
        let (top, shape) = (format!("{output}/top"), format!("{output}/shape"));
        vec![
            Node::new("ReduceMax", &[like, "fusion/last_axis"], &[&top]).with_int("keepdims", 1),
            Node::new("Shape", &[&top], &[&shape]),
            Node::new("Expand", &[name, &shape], &[output]),
        ]
    }

    fn name(&self, value: Value) -> &str {
        &self.names[value.index()]
    }

    fn constant(&mut self, number: f32) -> String {
        let initializers = &mut self.initializers;
        let make = || {
            let name = format!("fusion/{number:e}");
            initializers.push(Initializer::float(&name, &[], &[number]));
            name
        };
        self.constants.entry(number.to_bits()).or_insert_with(make).clone()
    }
}

//! Whether a model hangs together: every value is made once, and none needs itself.

use std::collections::{HashMap, HashSet};

use logitfuse_core::{Error, Result};

use crate::{
    error::invalid,
    model::{Model, same_domain},
    order,
    proto::{Attribute, Function, Graph, Node, OperatorSet, SparseTensor, Tensor, ValueInfo},
    shape,
    tensor::{self, Initializer},
    walk::{bodies, bodies_of},
};

/// Bodies inside bodies. A `Loop` around an `If` has two; a file that is read with its bounds has room for 33.
const MAX_BODIES: usize = 40;

/// Domains of operators; a model uses three or four.
const MAX_DOMAINS: usize = 1000;

impl Model {
    /// Checks that the model hangs together, in time and memory proportional to its header:
    ///
    /// - what a node reads or a graph yields is an input, an initializer or a node's result, in the same graph or, for a
    ///   body of `If`, `Loop` or `Scan`, in one around it; the body of a function sees its own values only;
    /// - no two of them in one graph have one name, but for an input and the initializer that is its default;
    /// - no value needs itself, and no function calls itself or grows beyond bounds where it is called;
    /// - tensors, those in bodies and attributes too, have a possible shape and as many elements as it says.
    ///
    /// The nodes may stand in any order: ONNX wants them sorted, ONNX Runtime sorts them, and so does
    /// [`sort`](Self::sort). Whether operators exist and fit what they read is the runtime's affair.
    ///
    /// ```
    /// use logitfuse_onnx_graph::{Model, proto::Node};
    ///
    /// let mut model = Model::default();
    /// model.graph_mut().node = vec![Node::new("Relu", &["b"], &["a"]), Node::new("Relu", &["a"], &["b"])];
    /// let error = model.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "node `a` (`Relu`) and node `b` (`Relu`) wait for each other's results");
    /// ```
    ///
    /// # Errors
    /// [`InvalidData`](logitfuse_core::ErrorKind::InvalidData) with the names of what is wrong.
    pub fn validate(&self) -> Result<()> {
        self.orders().map(|_| ())
    }

    /// Checks the model as [`validate`](Self::validate) does and puts the nodes of every graph in an order in which each
    /// value is made before it is read. Graphs that are sorted already stay as they are.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn sort(&mut self) -> Result<()> {
        let orders = self.orders()?;
        if orders.iter().any(Option::is_some) {
            let mut orders = orders.into_iter();
            for function in &mut self.header.functions {
                rearrange(&mut function.node, &mut orders);
            }
            rearrange(&mut self.graph_mut().node, &mut orders);
        }
        Ok(())
    }

    /// For each function, then the graph, and each body after the nodes around it: the order of its nodes, or `None` where
    /// they are sorted.
    fn orders(&self) -> Result<Vec<Option<Vec<usize>>>> {
        check_imports(&self.header.opset_import)?;
        let mut check = Check { orders: Vec::new(), defined: HashMap::new(), scopes: Vec::new() };
        for function in &self.header.functions {
            let name = || format!("function `{}`", function.name());
            check_imports(&function.opset_import).map_err(|e| e.context(name()))?;
            check_values(&function.value_info).map_err(|e| e.context(name()))?;
            check.scope(&Scope::of_function(function)).map_err(|e| e.context(name()))?;
        }
        for initializer in &self.initializers {
            initializer.check()?;
        }
        let mut scope = Scope::of_graph(self.graph())?;
        scope.initializers.extend(self.initializers.iter().map(Initializer::name));
        check.scope(&scope)?;
        order::check_functions(&self.header.functions, &self.graph().node)?;
        Ok(check.orders)
    }
}

fn rearrange(nodes: &mut Vec<Node>, orders: &mut impl Iterator<Item = Option<Vec<usize>>>) {
    let order = orders.next().flatten();
    nodes.iter_mut().flat_map(bodies).for_each(|body| rearrange(&mut body.node, orders));
    if let Some(order) = order {
        let mut unsorted: Vec<Option<Node>> = std::mem::take(nodes).into_iter().map(Some).collect();
        nodes.extend(order.into_iter().filter_map(|index| unsorted[index].take()));
    }
}

/// How a message calls a node.
pub(crate) fn called(node: &Node) -> String {
    let name = Some(node.name()).filter(|name| !name.is_empty());
    let name = name.or_else(|| node.output.iter().map(String::as_str).find(|name| !name.is_empty()));
    format!("node `{}` (`{}`)", name.unwrap_or_default(), node.op_type())
}

/// The names of a graph or of the body of a function.
struct Scope<'a> {
    inputs: Vec<&'a str>,
    initializers: Vec<&'a str>,
    nodes: &'a [Node],
    outputs: Vec<&'a str>,
}

impl<'a> Scope<'a> {
    /// # Errors
    /// If a tensor or a value's type in the graph is impossible.
    fn of_graph(graph: &'a Graph) -> Result<Self> {
        graph.initializer.iter().try_for_each(check_tensor)?;
        graph.sparse_initializer.iter().try_for_each(check_sparse)?;
        [&graph.input, &graph.output, &graph.value_info].into_iter().try_for_each(|values| check_values(values))?;
        let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref()).map(|t| t.name());
        Ok(Self {
            inputs: graph.input.iter().map(ValueInfo::name).collect(),
            initializers: graph.initializer.iter().map(Tensor::name).chain(sparse).collect(),
            nodes: &graph.node,
            outputs: graph.output.iter().map(ValueInfo::name).collect(),
        })
    }

    fn of_function(function: &'a Function) -> Self {
        Self {
            inputs: function.input.iter().map(String::as_str).collect(),
            initializers: Vec::new(),
            nodes: &function.node,
            outputs: function.output.iter().map(String::as_str).collect(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Input,
    Initializer,
    /// By its place among the nodes.
    Node(usize),
}

/// What makes a value, and how many graphs are around that.
#[derive(Clone, Copy)]
struct Definition {
    depth: usize,
    maker: Maker,
}

struct Check<'a> {
    orders: Vec<Option<Vec<usize>>>,
    /// What each name means where the check stands.
    defined: HashMap<&'a str, Definition>,
    /// The graphs around.
    scopes: Vec<Around>,
}

#[derive(Default)]
struct Around {
    /// The node that the check stands at.
    node: usize,
    /// Which node has to come before which.
    edges: Vec<(usize, usize)>,
}

impl<'a> Check<'a> {
    /// Checks a graph and the bodies in it. What a body reads from around it, the node that holds it has to wait for.
    fn scope(&mut self, scope: &Scope<'a>) -> Result<()> {
        if self.scopes.len() >= MAX_BODIES {
            return Err(invalid(format!("bodies nest more than {MAX_BODIES} deep")));
        }
        let slot = self.orders.len();
        self.orders.push(None);
        let hidden = self.define(scope)?;
        self.scopes.push(Around::default());
        for (index, node) in scope.nodes.iter().enumerate() {
            if let Some(around) = self.scopes.last_mut() {
                around.node = index;
            }
            self.node(node)?;
        }
        for &output in &scope.outputs {
            if !self.defined.contains_key(output) {
                return Err(invalid(format!("nothing makes the output `{output}`")));
            }
        }
        let around = self.scopes.pop().unwrap_or_default();
        self.orders[slot] = order::sorted(scope.nodes, &around.edges)?;
        for (name, definition) in hidden {
            match definition {
                Some(definition) => self.defined.insert(name, definition),
                None => self.defined.remove(name),
            };
        }
        Ok(())
    }

    /// Notes the names of a graph; those of the graphs around that they hide are what is returned.
    fn define(&mut self, scope: &Scope<'a>) -> Result<Vec<(&'a str, Option<Definition>)>> {
        let depth = self.scopes.len();
        let inputs = scope.inputs.iter().map(|&name| (name, Maker::Input));
        let initializers = scope.initializers.iter().map(|&name| (name, Maker::Initializer));
        let results = scope.nodes.iter().enumerate().flat_map(|(index, node)| {
            // A result that is left out has no name.
            let names = node.output.iter().filter(|name| !name.is_empty());
            names.map(move |name| (name.as_str(), Maker::Node(index)))
        });
        let mut hidden = Vec::new();
        for (name, maker) in inputs.chain(initializers).chain(results) {
            if name.is_empty() {
                return Err(invalid("has an input or an initializer without a name".to_owned()));
            }
            match self.defined.insert(name, Definition { depth, maker }) {
                Some(twice) if twice.depth == depth => {
                    if (twice.maker, maker) != (Maker::Input, Maker::Initializer) {
                        let by = |maker| match maker {
                            Maker::Input => "an input".to_owned(),
                            Maker::Initializer => "an initializer".to_owned(),
                            Maker::Node(index) => called(&scope.nodes[index]),
                        };
                        return Err(invalid(format!(
                            "`{name}` is made twice: by {} and by {}",
                            by(twice.maker),
                            by(maker)
                        )));
                    }
                }
                outer => hidden.push((name, outer)),
            }
        }
        Ok(hidden)
    }

    fn node(&mut self, node: &'a Node) -> Result<()> {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            let Some(&Definition { depth, maker }) = self.defined.get(name.as_str()) else {
                return Err(invalid(format!(
                    "{} reads `{name}`, which is no input, no initializer and no node's result",
                    called(node)
                )));
            };
            if let Maker::Node(maker) = maker {
                let around = &mut self.scopes[depth];
                around.edges.push((maker, around.node));
            }
        }
        let mut names = HashSet::new();
        for attribute in &node.attribute {
            let within = |e: Error| e.context(called(node));
            if !names.insert(attribute.name()) {
                return Err(within(invalid(format!("has the attribute `{}` twice", attribute.name()))));
            }
            check_attribute(attribute).map_err(within)?;
        }
        for body in bodies_of(node) {
            let checked = Scope::of_graph(body).and_then(|scope| self.scope(&scope));
            checked.map_err(|e| e.context(format!("in a body of {}", called(node))))?;
        }
        Ok(())
    }
}

/// Which of two versions of a domain holds, readers do not agree on.
fn check_imports(imports: &[OperatorSet]) -> Result<()> {
    let mut domains = HashSet::new();
    for import in imports {
        if !domains.insert(if same_domain(import.domain(), "") { "" } else { import.domain() }) {
            return Err(invalid(format!("names the version of the operators of domain `{}` twice", import.domain())));
        }
    }
    if domains.len() > MAX_DOMAINS {
        return Err(invalid(format!("uses operators of more than {MAX_DOMAINS} domains")));
    }
    Ok(())
}

fn check_attribute(attribute: &Attribute) -> Result<()> {
    attribute.t.as_deref().into_iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
    attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors).try_for_each(check_sparse)
}

fn check_tensor(tensor: &Tensor) -> Result<()> {
    tensor::check(tensor).map_err(|what| invalid(format!("tensor `{}` {what}", tensor.name())))
}

fn check_sparse(tensor: &SparseTensor) -> Result<()> {
    let name = tensor.values.as_ref().map(|values| values.name()).unwrap_or_default();
    if shape::elements(&tensor.dims).is_none() {
        return Err(invalid(format!("sparse tensor `{name}` has an impossible shape")));
    }
    match (&tensor.values, &tensor.indices) {
        (Some(values), Some(indices)) => check_tensor(values).and_then(|()| check_tensor(indices)),
        _ => Err(invalid(format!("sparse tensor `{name}` lacks its values or their places"))),
    }
}

fn check_values(values: &[ValueInfo]) -> Result<()> {
    let impossible = values.iter().find(|value| value.r#type.as_ref().is_some_and(|r#type| !shape::possible(r#type)));
    impossible.map_or(Ok(()), |value| Err(invalid(format!("value `{}` has an impossible shape", value.name()))))
}

//! Several models as one graph.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map::Entry};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    error::clipped,
    model::{Model, same_domain},
    opset, order,
    proto::{DimensionValue, Function, Graph, Node, OperatorSet, ValueInfo},
    rename::{rename_dimensions, rename_nodes, rename_values},
    save::INLINE_BYTES,
    tensor::{Initializer, TensorData},
    walk::{bodies, bodies_of},
};

/// Models that become one graph, one after the other.
///
/// Each keeps its operators, attributes and weights; its names get a prefix, so that nothing of one is taken for
/// something of another. What several have to share, such as token ids, is given the same name explicitly. Tensors that
/// are equal byte for byte stand once in the result: an expert that differs from the base in some matrices costs those.
///
/// ```no_run
/// # fn main() -> logitfuse_core::Result<()> {
/// use logitfuse_onnx_graph::{Joined, Model, Part};
///
/// let mut joined = Joined::new("two_models");
/// for role in ["base", "expert"] {
///     let model = Model::open(format!("{role}/model.onnx").as_ref())?;
///     joined.add(model, &Part::new(role).share("input_ids").share("attention_mask"))?;
/// }
/// // The graph yields `base/logits` and `expert/logits` now.
/// joined.finish().save("joined/model.onnx".as_ref())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Joined {
    model: Model,
    by_digest: HashMap<[u8; 32], String>,
    /// What need not be read again to know that it is the same.
    by_place: HashMap<Place, [u8; 32]>,
    functions: HashMap<FunctionKey, usize>,
}

/// Element type, shape, and where the bytes are.
type Place = (i32, Vec<i64>, TensorData);

/// Domain, name, overload.
type FunctionKey = (String, String, String);

/// How a model takes part: its prefix, and the names that it does not prefix.
#[derive(Clone, Debug)]
pub struct Part {
    prefix: String,
    names: BTreeMap<String, String>,
    dimensions: BTreeMap<String, String>,
}

impl Part {
    /// A model whose values are called `prefix/name`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), names: BTreeMap::new(), dimensions: BTreeMap::new() }
    }

    /// Keeps a name: every part that does so means the same value.
    #[must_use]
    pub fn share(self, name: &str) -> Self {
        self.rename(name, name)
    }

    /// Gives a value this name instead of the prefixed one.
    #[must_use]
    pub fn rename(mut self, name: &str, new: &str) -> Self {
        self.names.insert(name.to_owned(), new.to_owned());
        self
    }

    /// Gives a symbolic dimension this name instead of the prefixed one.
    #[must_use]
    pub fn rename_dimension(mut self, name: &str, new: &str) -> Self {
        self.dimensions.insert(name.to_owned(), new.to_owned());
        self
    }

    /// What a value is called in the joined graph.
    pub fn name_of(&self, name: &str) -> String {
        self.names.get(name).cloned().unwrap_or_else(|| format!("{}/{name}", self.prefix))
    }
}

impl Joined {
    /// A graph with nothing in it.
    pub fn new(name: &str) -> Self {
        let mut model = Model::default();
        model.header.ir_version = Some(8);
        model.header.producer_name = Some("logitfuse".into());
        model.graph_mut().name = Some(name.into());
        Self { model, by_digest: HashMap::new(), by_place: HashMap::new(), functions: HashMap::new() }
    }

    /// A graph with nothing in it whose operators of ONNX's own domain are of this version, or of a newer one if a part's are.
    pub fn with_opset(name: &str, version: i64) -> Self {
        let mut joined = Self::new(name);
        joined.model.header.opset_import.push(OperatorSet { domain: None, version: Some(version) });
        joined
    }

    /// The graph so far.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Adds a model's nodes, weights, inputs and outputs under the names of `part`. An input whose name is there already
    /// means that value: it has to be a tensor of the same element type and number of dimensions.
    ///
    /// The model has to hang together ([`Model::validate`]) and so does the result; nodes that are out of order are sorted.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if the model does not hang together, [`ErrorKind::Incompatible`] if a name means two things
    /// or models wait for each other's results, [`ErrorKind::Unsupported`] if their operators are of versions that do not go
    /// together, and what reading the weights brings. What was added before is lost then.
    pub fn add(&mut self, mut model: Model, part: &Part) -> Result<()> {
        let within = |e: Error| e.context(clipped(part.prefix.clone()));
        model.sort().map_err(within)?;
        self.align_opsets(&mut model).map_err(within)?;
        let functions = std::mem::take(&mut model.header.functions);
        self.add_functions(functions, model.graph_mut(), part)?;
        self.model.header.ir_version = self.model.header.ir_version.max(model.header.ir_version);

        let Model { mut header, initializers } = model;
        let mut graph = header.graph.take().unwrap_or_default();
        let mut names: HashMap<String, String> = HashMap::new();
        // What a caller sees or may replace stays a tensor of its own.
        let seen: HashSet<&str> = graph.input.iter().chain(&graph.output).map(ValueInfo::name).collect();
        for mut initializer in initializers {
            let name = part.name_of(initializer.name());
            if initializer.byte_length() > INLINE_BYTES && !seen.contains(initializer.name()) {
                let digest = self.digest(&initializer)?;
                match self.by_digest.get(&digest) {
                    // A name that was asked for is given.
                    Some(same) if *same != name && part.names.contains_key(initializer.name()) => {}
                    Some(same) => {
                        names.insert(initializer.name().to_owned(), same.clone());
                        continue;
                    }
                    None => drop(self.by_digest.insert(digest, name.clone())),
                }
            }
            names.insert(initializer.name().to_owned(), name.clone());
            initializer.rename(name);
            self.model.initializers.push(initializer);
        }
        rename_values(&mut graph, &mut |name| {
            *name = names.get(name.as_str()).cloned().unwrap_or_else(|| part.name_of(name));
        });
        rename_nodes(&mut graph, &mut |name| *name = format!("{}/{name}", part.prefix));
        rename_dimensions(&mut graph, &mut |name| {
            *name = part.dimensions.get(name.as_str()).cloned().unwrap_or_else(|| format!("{}/{name}", part.prefix));
        });
        self.add_graph(graph)
    }

    /// The joined model.
    pub fn finish(self) -> Model {
        self.model
    }

    fn add_graph(&mut self, graph: Graph) -> Result<()> {
        let joined = self.model.graph_mut();
        let produced: HashSet<&str> = joined.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let there: HashMap<&str, &ValueInfo> = joined.input.iter().map(|input| (input.name(), input)).collect();
        let mut inputs = Vec::new();
        for input in graph.input {
            match there.get(input.name()) {
                Some(there) => check_same(there, &input)?,
                None if produced.contains(input.name()) => {}
                None => inputs.push(input),
            }
        }
        joined.input.extend(inputs);
        joined.output.extend(graph.output);
        joined.node.extend(graph.node);
        joined.value_info.extend(graph.value_info);
        joined.quantization_annotation.extend(graph.quantization_annotation);
        joined.sparse_initializer.extend(graph.sparse_initializer);
        self.model.validate().map_err(|e| {
            Error::new(ErrorKind::Incompatible, e.to_string()).with_help("give the parts different prefixes and names")
        })
    }

    /// Raises whichever of the two is written in older operators of ONNX's own domain; other domains must agree.
    fn align_opsets(&mut self, model: &mut Model) -> Result<()> {
        for set in model.header.opset_import.clone() {
            let (domain, version) = (set.domain(), set.version());
            let Some(there) = self.model.opset(domain) else {
                self.model.header.opset_import.push(set);
                continue;
            };
            if there == version {
                continue;
            }
            if !same_domain(domain, "") {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "its operators of `{domain}` are of version {version}, those of the others of version {there}"
                    ),
                )
                .with_help("export the models with the same versions"));
            }
            let newest = there.max(version);
            opset::raise(self.model.graph_mut(), there, newest)?;
            opset::raise(model.graph_mut(), version, newest)?;
            let own = |set: &&mut OperatorSet| same_domain(set.domain(), "");
            self.model.header.opset_import.iter_mut().filter(own).for_each(|set| set.version = Some(newest));
        }
        Ok(())
    }

    /// Functions are found by domain and name over the whole file: those of a part that are not there in the same words
    /// move to a domain of the part's own.
    fn add_functions(&mut self, functions: Vec<Function>, graph: &mut Graph, part: &Part) -> Result<()> {
        let mut moved: HashSet<(String, String)> = HashSet::new();
        // What calls a function that moves says something else from then on, and moves, too.
        for index in order::callees_first(&functions)? {
            let function = &functions[index];
            let there = self.functions.get(&key(function)).map(|&index| &self.model.header.functions[index]);
            if there.is_some_and(|there| there != function || calls_any(&function.node, &moved)) {
                moved.insert((function.domain().to_owned(), function.name().to_owned()));
            }
        }
        let own_domain = |domain: &str| format!("{domain}.{}", part.prefix);
        for mut function in functions {
            let mut calls = Graph { node: std::mem::take(&mut function.node), ..Graph::default() };
            move_calls(&mut calls, &moved, &own_domain);
            function.node = calls.node;
            for set in &mut function.opset_import {
                if moved.iter().any(|(domain, _)| domain == set.domain()) {
                    self.import(own_domain(set.domain()), set.version());
                }
            }
            if moved.contains(&(function.domain().to_owned(), function.name().to_owned())) {
                let domain = own_domain(function.domain());
                self.import(domain.clone(), 1);
                function.domain = Some(domain);
            }
            let all = &mut self.model.header.functions;
            match self.functions.entry(key(&function)) {
                Entry::Occupied(there) if all[*there.get()] == function => continue,
                // Where the domain of its own is another part's, two are there, which is refused in the end.
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => drop(free.insert(all.len())),
            }
            all.push(function);
        }
        move_calls(graph, &moved, &own_domain);
        Ok(())
    }

    fn digest(&mut self, initializer: &Initializer) -> Result<[u8; 32]> {
        let place = (initializer.element_type().0, initializer.dims().to_vec(), initializer.data().clone());
        if matches!(place.2, TensorData::Header) {
            return initializer.sha256();
        }
        Ok(match self.by_place.entry(place) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => *free.insert(initializer.sha256()?),
        })
    }

    fn import(&mut self, domain: String, version: i64) {
        if self.model.opset(&domain).is_none() {
            self.model.header.opset_import.push(OperatorSet { domain: Some(domain), version: Some(version) });
        }
    }
}

fn key(function: &Function) -> FunctionKey {
    (function.domain().to_owned(), function.name().to_owned(), function.overload().to_owned())
}

fn calls_any(nodes: &[Node], functions: &HashSet<(String, String)>) -> bool {
    let is_one = |node: &Node| functions.contains(&(node.domain().to_owned(), node.op_type().to_owned()));
    let within = |node: &Node| bodies_of(node).any(|body| calls_any(&body.node, functions));
    !functions.is_empty() && nodes.iter().any(|node| is_one(node) || within(node))
}

fn move_calls(graph: &mut Graph, moved: &HashSet<(String, String)>, own_domain: &impl Fn(&str) -> String) {
    for node in &mut graph.node {
        if moved.contains(&(node.domain().to_owned(), node.op_type().to_owned())) {
            node.domain = Some(own_domain(node.domain()));
        }
        bodies(node).for_each(|body| move_calls(body, moved, own_domain));
    }
}

fn check_same(there: &ValueInfo, new: &ValueInfo) -> Result<()> {
    let (Some((element, dims)), Some((new_element, new_dims))) = (there.tensor_type(), new.tensor_type()) else {
        return Ok(());
    };
    let fits = |(a, b): (&Option<DimensionValue>, &Option<DimensionValue>)| match (a, b) {
        (Some(DimensionValue::Fixed(a)), Some(DimensionValue::Fixed(b))) => a == b,
        _ => true,
    };
    if element == new_element && dims.len() == new_dims.len() && dims.iter().zip(&new_dims).all(fits) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Incompatible,
        format!("the models' inputs `{}` differ in element type or shape and cannot be one", new.name()),
    )
    .with_help("export the models in the same way"))
}

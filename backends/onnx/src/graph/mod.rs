//! What an ONNX file says of itself before ONNX Runtime loads it: inputs and outputs, where its weights lie, and
//! whether every key/value pair goes straight through a `GroupQueryAttention` node.
//!
//! Reading the file ourselves lets wrong files be refused at once and by name, and costs milliseconds.

mod wire;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::Path,
};

use self::wire::{Value, Wire, broken};
use crate::{Dim, Element, Port};

/// Graphs nest (`If`, `Loop`); what nests deeper than this was made to break parsers.
const MAX_DEPTH: usize = 32;

/// What is known of a graph from its file alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct GraphSummary {
    /// Inputs that a caller must give: those with an initial value are left out.
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// External data: file name as written, and the bytes of it that are needed.
    pub(crate) external: BTreeMap<String, u64>,
    /// `(past, present)` names that one `GroupQueryAttention` node reads and writes directly.
    pub(crate) shared_pairs: HashSet<(String, String)>,
    /// Positions that the smallest rotary cache holds, where attention nodes rotate by table.
    pub(crate) rotary_positions: Option<usize>,
}

#[derive(Default)]
struct Node {
    op: String,
    domain: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

#[derive(Default)]
struct Tensor {
    name: String,
    dims: Vec<u64>,
    external: HashMap<String, String>,
}

/// What is gathered on the way through the file.
#[derive(Default)]
struct Scan {
    summary: GraphSummary,
    initializers: HashMap<String, Vec<u64>>,
    rotary_tables: HashSet<String>,
}

/// Scans the file.
pub(crate) fn scan(path: &Path) -> io::Result<GraphSummary> {
    let mut wire = Wire::open(path)?;
    let mut scan = Scan::default();
    let end = wire.length();
    let mut graphs = 0;
    while let Some(field) = wire.field(end)? {
        let Value::Until(field_end) = field.value else { continue };
        if field.number == 7 {
            graphs += 1;
            scan.graph(&mut wire, field_end, 0)?;
        }
        wire.skip_to(field_end)?;
    }
    if graphs == 0 {
        return Err(broken(if end == 0 { "is empty" } else { "holds no graph" }));
    }
    let Scan { mut summary, initializers, rotary_tables } = scan;
    summary.inputs.retain(|input| !initializers.contains_key(&input.name));
    summary.rotary_positions =
        rotary_tables.iter().filter_map(|table| usize::try_from(*initializers.get(table)?.first()?).ok()).min();
    Ok(summary)
}

impl Scan {
    fn graph(&mut self, wire: &mut Wire, end: u64, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(broken("graphs nest too deeply"));
        }
        while let Some(field) = wire.field(end)? {
            let Value::Until(field_end) = field.value else { continue };
            match field.number {
                1 => self.node(wire, field_end, depth)?,
                5 => {
                    let tensor = read_tensor(wire, field_end)?;
                    self.note_external(&tensor)?;
                    self.initializers.insert(tensor.name, tensor.dims);
                }
                11 if depth == 0 => self.summary.inputs.push(read_port(wire, field_end)?),
                12 if depth == 0 => self.summary.outputs.push(read_port(wire, field_end)?),
                _ => {}
            }
            wire.skip_to(field_end)?;
        }
        Ok(())
    }

    fn node(&mut self, wire: &mut Wire, end: u64, depth: usize) -> io::Result<()> {
        let mut node = Node::default();
        while let Some(field) = wire.field(end)? {
            let Value::Until(field_end) = field.value else { continue };
            match field.number {
                1 => node.inputs.push(wire.text(field_end)?),
                2 => node.outputs.push(wire.text(field_end)?),
                4 => node.op = wire.text(field_end)?,
                5 => self.attribute(wire, field_end, depth)?,
                7 => node.domain = wire.text(field_end)?,
                _ => {}
            }
            wire.skip_to(field_end)?;
        }
        // Only at the top: inside a branch the names belong to the branch.
        if depth == 0 && node.op == "GroupQueryAttention" && node.domain == "com.microsoft" {
            self.attention(&node);
        }
        Ok(())
    }

    /// `GroupQueryAttention(query, key, value, past_key, past_value, seqlens_k, total_sequence_length, cos_cache, sin_cache, …)
    /// -> (output, present_key, present_value)`.
    fn attention(&mut self, node: &Node) {
        for (past, present) in [(3, 1), (4, 2)] {
            if let (Some(past), Some(present)) = (node.inputs.get(past), node.outputs.get(present)) {
                self.summary.shared_pairs.insert((past.clone(), present.clone()));
            }
        }
        if let Some(table) = node.inputs.get(7).filter(|name| !name.is_empty()) {
            self.rotary_tables.insert(table.clone());
        }
    }

    fn attribute(&mut self, wire: &mut Wire, end: u64, depth: usize) -> io::Result<()> {
        while let Some(field) = wire.field(end)? {
            let Value::Until(field_end) = field.value else { continue };
            match field.number {
                5 => {
                    let tensor = read_tensor(wire, field_end)?;
                    self.note_external(&tensor)?;
                }
                6 | 11 => self.graph(wire, field_end, depth + 1)?,
                _ => {}
            }
            wire.skip_to(field_end)?;
        }
        Ok(())
    }

    fn note_external(&mut self, tensor: &Tensor) -> io::Result<()> {
        let Some(location) = tensor.external.get("location") else { return Ok(()) };
        let number = |key: &str| match tensor.external.get(key) {
            None => Ok(0),
            Some(text) => text.parse::<u64>().map_err(|_| broken(&format!("external data with {key} `{text}`"))),
        };
        let needed = number("offset")?.checked_add(number("length")?).ok_or_else(|| broken("a length overflows"))?;
        let entry = self.summary.external.entry(location.clone()).or_default();
        *entry = needed.max(*entry);
        Ok(())
    }
}

fn read_tensor(wire: &mut Wire, end: u64) -> io::Result<Tensor> {
    let mut tensor = Tensor::default();
    while let Some(field) = wire.field(end)? {
        match (field.number, field.value) {
            (1, Value::Number(dim)) => tensor.dims.push(dim),
            (1, Value::Until(field_end)) => tensor.dims = wire.packed(field_end)?,
            (8, Value::Until(field_end)) => tensor.name = wire.text(field_end)?,
            (13, Value::Until(field_end)) => {
                let (key, value) = read_entry(wire, field_end)?;
                tensor.external.insert(key, value);
            }
            (_, Value::Until(field_end)) => wire.skip_to(field_end)?,
            (_, Value::Number(_)) => {}
        }
    }
    Ok(tensor)
}

fn read_entry(wire: &mut Wire, end: u64) -> io::Result<(String, String)> {
    let (mut key, mut value) = (String::new(), String::new());
    while let Some(field) = wire.field(end)? {
        let Value::Until(field_end) = field.value else { continue };
        match field.number {
            1 => key = wire.text(field_end)?,
            2 => value = wire.text(field_end)?,
            _ => wire.skip_to(field_end)?,
        }
    }
    Ok((key, value))
}

/// `ValueInfoProto`: name, and `TypeProto` of a tensor.
fn read_port(wire: &mut Wire, end: u64) -> io::Result<Port> {
    let mut port = Port { name: String::new(), element: Element::Other, dims: Vec::new() };
    while let Some(field) = wire.field(end)? {
        let Value::Until(field_end) = field.value else { continue };
        match field.number {
            1 => port.name = wire.text(field_end)?,
            2 => read_type(wire, field_end, &mut port)?,
            _ => wire.skip_to(field_end)?,
        }
    }
    Ok(port)
}

fn read_type(wire: &mut Wire, end: u64, port: &mut Port) -> io::Result<()> {
    while let Some(field) = wire.field(end)? {
        let Value::Until(type_end) = field.value else { continue };
        if field.number != 1 {
            wire.skip_to(type_end)?;
            continue;
        }
        while let Some(field) = wire.field(type_end)? {
            match (field.number, field.value) {
                (1, Value::Number(code)) => port.element = Element::from_onnx(code),
                (2, Value::Until(shape_end)) => port.dims = read_shape(wire, shape_end)?,
                (_, Value::Until(field_end)) => wire.skip_to(field_end)?,
                (_, Value::Number(_)) => {}
            }
        }
    }
    Ok(())
}

fn read_shape(wire: &mut Wire, end: u64) -> io::Result<Vec<Dim>> {
    let mut dims = Vec::new();
    while let Some(field) = wire.field(end)? {
        let Value::Until(dim_end) = field.value else { continue };
        let mut dim = Dim::Unknown;
        while let Some(field) = wire.field(dim_end)? {
            match (field.number, field.value) {
                (1, Value::Number(n)) => dim = fixed(n),
                (2, Value::Until(name_end)) => dim = Dim::Named(wire.text(name_end)?),
                (_, Value::Until(field_end)) => wire.skip_to(field_end)?,
                (_, Value::Number(_)) => {}
            }
        }
        dims.push(dim);
    }
    Ok(dims)
}

/// A dimension is a signed number on the wire, and some exporters write -1 for "any".
fn fixed(n: u64) -> Dim {
    i64::try_from(n).ok().and_then(|n| usize::try_from(n).ok()).map_or(Dim::Unknown, Dim::Fixed)
}

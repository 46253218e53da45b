//! The structure of an ONNX file, read before ONNX Runtime loads it: inputs and outputs, the files of its weights, and the
//! key/value pairs that go straight through a `GroupQueryAttention` node.
//!
//! Reading the file ourselves lets wrong files be refused at once and by name, and costs milliseconds.

mod protobuf;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::Path,
};

use self::protobuf::{ProtobufReader, Value, malformed};
use crate::{Dim, Element, TensorInfo};

/// Graphs nest (`If`, `Loop`); what nests deeper than this was made to break parsers.
const MAX_DEPTH: usize = 32;
/// Tensors have four or five dimensions.
pub(crate) const MAX_DIMS: usize = 64;
/// Inputs and outputs of a graph or a node, and files of external data.
const MAX_NAMES: usize = 1 << 16;
const MAX_INITIALIZERS: usize = 1 << 20;

/// The structure of a graph.
#[derive(Clone, Debug, Default)]
pub(crate) struct GraphSummary {
    /// Inputs that a caller must give: those with an initial value are left out.
    pub(crate) inputs: Vec<TensorInfo>,
    pub(crate) outputs: Vec<TensorInfo>,
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
    let mut reader = ProtobufReader::open(path)?;
    let mut scan = Scan::default();
    let end = reader.length();
    let mut graphs = 0;
    while let Some(field) = reader.field(end)? {
        let Value::Until(field_end) = field.value else { continue };
        if field.number == 7 {
            graphs += 1;
            scan.graph(&mut reader, field_end, 0)?;
        }
        reader.skip_to(field_end)?;
    }
    if graphs == 0 {
        return Err(malformed(if end == 0 { "is empty" } else { "holds no graph" }));
    }
    let Scan { mut summary, initializers, rotary_tables } = scan;
    summary.inputs.retain(|input| !initializers.contains_key(&input.name));
    summary.rotary_positions =
        rotary_tables.iter().filter_map(|table| usize::try_from(*initializers.get(table)?.first()?).ok()).min();
    Ok(summary)
}

impl Scan {
    fn graph(&mut self, reader: &mut ProtobufReader, end: u64, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(malformed("graphs nest too deeply"));
        }
        while let Some(field) = reader.field(end)? {
            let Value::Until(field_end) = field.value else { continue };
            match field.number {
                1 => self.node(reader, field_end, depth)?,
                5 => {
                    let tensor = read_tensor(reader, field_end)?;
                    self.note_external(&tensor)?;
                    self.initializers.insert(tensor.name, tensor.dims);
                    at_most(self.initializers.len(), MAX_INITIALIZERS, "initializers")?;
                }
                11 if depth == 0 => self.summary.inputs.push(read_tensor_info(reader, field_end)?),
                12 if depth == 0 => self.summary.outputs.push(read_tensor_info(reader, field_end)?),
                _ => {}
            }
            at_most(self.summary.inputs.len().max(self.summary.outputs.len()), MAX_NAMES, "inputs or outputs")?;
            reader.skip_to(field_end)?;
        }
        Ok(())
    }

    fn node(&mut self, reader: &mut ProtobufReader, end: u64, depth: usize) -> io::Result<()> {
        let mut node = Node::default();
        while let Some(field) = reader.field(end)? {
            let Value::Until(field_end) = field.value else { continue };
            match field.number {
                1 => node.inputs.push(reader.text(field_end)?),
                2 => node.outputs.push(reader.text(field_end)?),
                4 => node.op = reader.text(field_end)?,
                5 => self.attribute(reader, field_end, depth)?,
                7 => node.domain = reader.text(field_end)?,
                _ => {}
            }
            at_most(node.inputs.len().max(node.outputs.len()), MAX_NAMES, "inputs or outputs of a node")?;
            reader.skip_to(field_end)?;
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

    fn attribute(&mut self, reader: &mut ProtobufReader, end: u64, depth: usize) -> io::Result<()> {
        while let Some(field) = reader.field(end)? {
            let Value::Until(field_end) = field.value else { continue };
            match field.number {
                5 => {
                    let tensor = read_tensor(reader, field_end)?;
                    self.note_external(&tensor)?;
                }
                6 | 11 => self.graph(reader, field_end, depth + 1)?,
                _ => {}
            }
            reader.skip_to(field_end)?;
        }
        Ok(())
    }

    fn note_external(&mut self, tensor: &Tensor) -> io::Result<()> {
        let Some(location) = tensor.external.get("location") else { return Ok(()) };
        let number = |key: &str| match tensor.external.get(key) {
            None => Ok(0),
            Some(text) => text.parse::<u64>().map_err(|_| malformed(&format!("external data with {key} `{text}`"))),
        };
        let needed = number("offset")?.checked_add(number("length")?).ok_or_else(|| malformed("a length overflows"))?;
        let entry = self.summary.external.entry(location.clone()).or_default();
        *entry = needed.max(*entry);
        at_most(self.summary.external.len(), MAX_NAMES, "files of external data")
    }
}

fn at_most(count: usize, limit: usize, what: &str) -> io::Result<()> {
    if count > limit { Err(malformed(&format!("more than {limit} {what}"))) } else { Ok(()) }
}

fn read_tensor(reader: &mut ProtobufReader, end: u64) -> io::Result<Tensor> {
    let mut tensor = Tensor::default();
    while let Some(field) = reader.field(end)? {
        match (field.number, field.value) {
            (1, Value::Number(dim)) => tensor.dims.push(dim),
            (1, Value::Until(field_end)) => tensor.dims = reader.packed(field_end)?,
            (8, Value::Until(field_end)) => tensor.name = reader.text(field_end)?,
            (13, Value::Until(field_end)) => {
                let (key, value) = read_entry(reader, field_end)?;
                tensor.external.insert(key, value);
                at_most(tensor.external.len(), MAX_DIMS, "entries of external data")?;
            }
            (_, Value::Until(field_end)) => reader.skip_to(field_end)?,
            (_, Value::Number(_)) => {}
        }
        at_most(tensor.dims.len(), MAX_DIMS, "dimensions of a tensor")?;
    }
    Ok(tensor)
}

fn read_entry(reader: &mut ProtobufReader, end: u64) -> io::Result<(String, String)> {
    let (mut key, mut value) = (String::new(), String::new());
    while let Some(field) = reader.field(end)? {
        let Value::Until(field_end) = field.value else { continue };
        match field.number {
            1 => key = reader.text(field_end)?,
            2 => value = reader.text(field_end)?,
            _ => reader.skip_to(field_end)?,
        }
    }
    Ok((key, value))
}

/// `ValueInfoProto`: name, and `TypeProto` of a tensor.
fn read_tensor_info(reader: &mut ProtobufReader, end: u64) -> io::Result<TensorInfo> {
    let mut info = TensorInfo { name: String::new(), element: Element::Other, dims: Vec::new() };
    while let Some(field) = reader.field(end)? {
        let Value::Until(field_end) = field.value else { continue };
        match field.number {
            1 => info.name = reader.text(field_end)?,
            2 => read_type(reader, field_end, &mut info)?,
            _ => reader.skip_to(field_end)?,
        }
    }
    Ok(info)
}

fn read_type(reader: &mut ProtobufReader, end: u64, info: &mut TensorInfo) -> io::Result<()> {
    while let Some(field) = reader.field(end)? {
        let Value::Until(type_end) = field.value else { continue };
        if field.number != 1 {
            reader.skip_to(type_end)?;
            continue;
        }
        while let Some(field) = reader.field(type_end)? {
            match (field.number, field.value) {
                (1, Value::Number(code)) => info.element = Element::from_onnx(code),
                (2, Value::Until(shape_end)) => info.dims = read_shape(reader, shape_end)?,
                (_, Value::Until(field_end)) => reader.skip_to(field_end)?,
                (_, Value::Number(_)) => {}
            }
        }
    }
    Ok(())
}

fn read_shape(reader: &mut ProtobufReader, end: u64) -> io::Result<Vec<Dim>> {
    let mut dims = Vec::new();
    while let Some(field) = reader.field(end)? {
        let Value::Until(dim_end) = field.value else { continue };
        let mut dim = Dim::Unknown;
        while let Some(field) = reader.field(dim_end)? {
            match (field.number, field.value) {
                (1, Value::Number(n)) => dim = fixed(n),
                (2, Value::Until(name_end)) => dim = Dim::Named(reader.text(name_end)?),
                (_, Value::Until(field_end)) => reader.skip_to(field_end)?,
                (_, Value::Number(_)) => {}
            }
        }
        dims.push(dim);
        at_most(dims.len(), MAX_DIMS, "dimensions of a tensor")?;
    }
    Ok(dims)
}

/// A dimension is a signed number in the file, and some exporters write -1 for "any".
fn fixed(n: u64) -> Dim {
    i64::try_from(n).ok().and_then(|n| usize::try_from(n).ok()).map_or(Dim::Unknown, Dim::Fixed)
}

//! Which tensors of a graph are quantised weights, by the operators that read them.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map::Entry};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{
    ElementType, Initializer, Model,
    proto::{Attribute, Node},
};

use super::{
    layout::{Group, Layout, Zero},
    packing::Packing,
};
use crate::float::Float;

/// Beyond these, a product of sizes might not be a number; no model comes near.
const MOST_ELEMENTS: usize = 1 << 44;
const LARGEST_BLOCK: usize = 1 << 16;

/// A tensor of integers and what turns it into numbers.
#[derive(Clone, Debug)]
pub(crate) struct Scheme {
    /// `MatMulNBits, 4 bits in blocks of 32`
    pub(crate) name: String,
    pub(crate) codes: String,
    /// Tensors with the same scales: several operators may read the integers.
    pub(crate) scales: Vec<String>,
    pub(crate) zeros: Vec<String>,
    pub(crate) layout: Layout,
}

/// All that a graph says of small integers.
#[derive(Debug, Default)]
pub(crate) struct Schemes {
    /// By the tensor of integers.
    pub(crate) known: BTreeMap<String, Scheme>,
    /// Tensors that an operator reads beside integers whose meaning is not known, and the operator.
    pub(crate) unknown: BTreeMap<String, String>,
}

impl Schemes {
    /// # Errors
    /// If the tensors of an operator do not go together, or two operators mean different numbers by the same integers.
    pub(crate) fn of(model: &Model) -> Result<Self> {
        let graph = View::new(model);
        let mut schemes = Self::default();
        for node in &model.graph().node {
            if let Some(scheme) = graph.scheme(node)? {
                schemes.add(scheme)?;
            }
        }
        let zeros = schemes.known.values().flat_map(|scheme| &scheme.zeros);
        let claimed: HashSet<String> = schemes.known.keys().chain(zeros).cloned().collect();
        for node in &model.graph().node {
            let constants = || node.input.iter().filter_map(|name| graph.initializers.get(name.as_str()));
            let claimed = |tensor: &Initializer| claimed.contains(tensor.name());
            if constants().any(|tensor| is_small(tensor.element_type()) && !claimed(tensor)) {
                for tensor in constants().filter(|tensor| !claimed(tensor)) {
                    schemes.unknown.entry(tensor.name().to_owned()).or_insert_with(|| node.op_type().to_owned());
                }
            }
        }
        Ok(schemes)
    }

    fn add(&mut self, scheme: Scheme) -> Result<()> {
        match self.known.entry(scheme.codes.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(scheme);
            }
            Entry::Occupied(mut entry) => {
                let there = entry.get_mut();
                if there.layout.without_sign_of_scales() != scheme.layout.without_sign_of_scales() {
                    let what = format!("`{}` is read as {} and as {}", scheme.codes, there.name, scheme.name);
                    return Err(Error::new(ErrorKind::Unsupported, what)
                        .with_help("export the models with a tensor for each operator, or without quantisation"));
                }
                there.layout.negative &= scheme.layout.negative;
                for (theirs, ours) in [(&mut there.scales, scheme.scales), (&mut there.zeros, scheme.zeros)] {
                    theirs.extend(ours.into_iter().filter(|name| !theirs.contains(name)).collect::<Vec<_>>());
                }
            }
        }
        Ok(())
    }
}

impl Layout {
    fn without_sign_of_scales(self) -> Self {
        Self { negative: false, ..self }
    }
}

/// Integers of at most eight bits, and floats of eight: what weights are quantised to.
fn is_small(element: ElementType) -> bool {
    element != ElementType::BOOL && element.bits().is_some_and(|bits| bits <= 8)
}

/// Whether integers have a sign, and their bits.
fn integer(element: ElementType) -> Option<(bool, u32)> {
    Some(match element.0 {
        2 => (false, 8),
        3 => (true, 8),
        21 => (false, 4),
        22 => (true, 4),
        25 => (false, 2),
        26 => (true, 2),
        _ => return None,
    })
}

struct View<'a> {
    initializers: HashMap<&'a str, &'a Initializer>,
    makers: HashMap<&'a str, &'a Node>,
    readers: HashMap<&'a str, Vec<&'a Node>>,
}

impl<'a> View<'a> {
    fn new(model: &'a Model) -> Self {
        let nodes = &model.graph().node;
        let made = |node: &'a Node| node.output.iter().map(move |name| (name.as_str(), node));
        let mut readers: HashMap<&str, Vec<&Node>> = HashMap::new();
        for node in nodes {
            for name in &node.input {
                readers.entry(name).or_default().push(node);
            }
        }
        Self {
            initializers: model.initializers.iter().map(|tensor| (tensor.name(), tensor)).collect(),
            makers: nodes.iter().flat_map(made).collect(),
            readers,
        }
    }

    fn scheme(&self, node: &Node) -> Result<Option<Scheme>> {
        let microsoft = node.domain() == "com.microsoft";
        let scheme = match (node.op_type(), microsoft) {
            ("MatMulNBits", true) => self.matmul_nbits(node),
            ("GatherBlockQuantized", true) => self.gather_block_quantized(node),
            ("DequantizeLinear", _) => self.dequantize_linear(node),
            ("DynamicQuantizeMatMul", true) => self.matrix(node, 1, input(node, 2), input(node, 3)),
            ("MatMulIntegerToFloat", true) => self.matrix(node, 1, input(node, 3), input(node, 5)),
            ("MatMulInteger", false) => self.matrix(node, 1, self.scale_behind(node), input(node, 3)),
            _ => Ok(None),
        };
        scheme.map_err(|e| e.context(format_args!("{} `{}`", node.op_type(), node.name())))
    }

    fn tensor(&self, name: Option<&str>) -> Option<&'a Initializer> {
        self.initializers.get(name?).copied()
    }

    /// The initializer that a value is, with another shape at most.
    fn reshaped(&self, name: Option<&str>) -> Option<&'a Initializer> {
        self.behind(name, &["Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"])
    }

    /// The initializer that a value comes from through operators of these kinds.
    fn behind(&self, name: Option<&str>, through: &[&str]) -> Option<&'a Initializer> {
        let mut name = name?;
        // A graph may be cyclic; no model has that many in a row.
        for _ in 0..8 {
            if let Some(tensor) = self.initializers.get(name) {
                return Some(tensor);
            }
            let node = self.makers.get(name).filter(|node| through.contains(&node.op_type()))?;
            name = node.input.first()?;
        }
        None
    }

    fn matmul_nbits(&self, node: &Node) -> Result<Option<Scheme>> {
        let Some(codes) = self.reshaped(input(node, 1)) else { return Ok(None) };
        if codes.element_type().0 != 2 || input(node, 4).is_some() {
            return Ok(None);
        }
        let (bits, block) = (int(node, "bits", 4)?, int(node, "block_size", 0)?);
        let (n, k) = (int(node, "N", 0)?, int(node, "K", 0)?);
        let Some(bits) = small_bits(bits) else { return Ok(None) };
        if block == 0 || n == 0 || k == 0 || block > LARGEST_BLOCK {
            return Err(wrong("without a possible `N`, `K` or `block_size`"));
        }
        let blocks = k.div_ceil(block);
        let packing = if k.is_multiple_of(block) {
            Packing::flat(bits, false)
        } else {
            Packing { bits, signed: false, row: k, stored: blocks * block }
        };
        let (outer, len) = if k.is_multiple_of(block) { (n.saturating_mul(blocks), block) } else { (n, k) };
        self.blocks(node, codes, [input(node, 2), input(node, 3)], packing, [outer, len, 1], block, blocks)
    }

    fn gather_block_quantized(&self, node: &Node) -> Result<Option<Scheme>> {
        let Some(codes) = self.reshaped(input(node, 0)) else { return Ok(None) };
        let Some(scales) = self.reshaped(input(node, 2)) else { return Ok(None) };
        let Some((signed, own_bits)) = integer(codes.element_type()) else { return Ok(None) };
        let bits = if own_bits == 8 { int(node, "bits", 4)? } else { own_bits as usize };
        let Some(bits) = small_bits(bits) else { return Ok(None) };
        let block = int(node, "block_size", 128)?;
        if block == 0 || signed && own_bits == 8 {
            return Ok(None);
        }
        let total = elements(codes)?.saturating_mul(if own_bits == 8 { 8 / bits as usize } else { 1 });
        let packing = Packing::flat(bits, signed);
        let names = [input(node, 2), input(node, 3)];
        let last = |tensor: &Initializer| tensor.dims().last().and_then(|&dim| usize::try_from(dim).ok()).unwrap_or(1);
        let direct = self.tensor(input(node, 0)).is_some();
        let axis = attribute(node, "quantize_axis").map_or(1, Attribute::i);
        let last_axis = axis == -1 || usize::try_from(axis).is_ok_and(|axis| axis + 1 == codes.dims().len());
        if total == elements(scales)?.saturating_mul(block) && (last_axis || !direct) {
            return self.blocks(node, codes, names, packing, [total / block, block, 1], block, last(scales));
        }
        let dims = codes.dims();
        let Some(axis) = axis_of(axis, dims).filter(|&axis| direct && (own_bits < 8 || axis + 1 == dims.len())) else {
            return Ok(None);
        };
        let mut shape = around(dims, axis)?;
        shape[1] *= total / elements(codes)?.max(1);
        self.blocks(node, codes, names, packing, shape, block, last(scales))
    }

    /// The scheme of an operator that reads blocks; `per_row` zero points stand together.
    #[expect(clippy::too_many_arguments, reason = "two operators say the same in different words")]
    fn blocks(
        &self,
        node: &Node,
        codes: &Initializer,
        [scales, zeros]: [Option<&str>; 2],
        packing: Packing,
        [outer, len, inner]: [usize; 3],
        block: usize,
        per_row: usize,
    ) -> Result<Option<Scheme>> {
        let Some(scales) = self.reshaped(scales) else { return Ok(None) };
        let Some(scale) = Float::of(scales.element_type()) else { return Ok(None) };
        let zero_tensor = match zeros {
            None => None,
            // One that is computed is not known.
            Some(_) => match self.reshaped(zeros) {
                Some(tensor) => Some(tensor),
                None => return Ok(None),
            },
        };
        let typed = codes.element_type().0 != 2;
        let zero = match zero_tensor {
            None if packing.signed || typed => Zero::Always(0),
            None => Zero::Always(1 << (packing.bits - 1)),
            Some(zeros) if zeros.element_type() == codes.element_type() => Zero::Codes(if typed {
                Packing::flat(packing.bits, packing.signed)
            } else {
                Packing::rows(packing.bits, false, per_row.max(1))
            }),
            Some(zeros) => match Float::of(zeros.element_type()) {
                Some(float) => Zero::Float(float),
                None => return Ok(None),
            },
        };
        let layout =
            Layout { outer, len, inner, group: Group::Block(block), codes: packing, scale, zero, negative: true };
        let name = format!("{}, {} bits in blocks of {block}", node.op_type(), packing.bits);
        finish(name, layout, codes, scales, zero_tensor)
    }

    fn dequantize_linear(&self, node: &Node) -> Result<Option<Scheme>> {
        let (scale, zero) = (input(node, 1), input(node, 2));
        let Some(scales) = self.tensor(scale) else { return Ok(None) };
        let one_scale = elements(scales)? == 1;
        let codes = match self.tensor(input(node, 0)) {
            Some(codes) => codes,
            // Which elements come out, and in which order, matters only if they have different scales.
            None if one_scale => {
                let through = ["Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Transpose"];
                match self.behind(input(node, 0), &through) {
                    Some(codes) => codes,
                    None => return Ok(None),
                }
            }
            None => return Ok(None),
        };
        if one_scale {
            return self.grid(node, codes, scales, zero, Group::Tensor, 0);
        }
        let axis = attribute(node, "axis").map_or(1, Attribute::i);
        let axis = axis_of(axis, codes.dims()).ok_or_else(|| wrong("its axis is not one of its tensor"))?;
        let group = match int(node, "block_size", 0)? {
            0 => Group::Axis,
            block => Group::Block(block),
        };
        self.grid(node, codes, scales, zero, group, axis)
    }

    /// Weights `[K, N]` with one scale, or one for each of N.
    fn matrix(&self, node: &Node, at: usize, scale: Option<&str>, zero: Option<&str>) -> Result<Option<Scheme>> {
        let Some(codes) = self.tensor(input(node, at)) else { return Ok(None) };
        let Some(scales) = self.tensor(scale) else { return Ok(None) };
        let axis = codes.dims().len().saturating_sub(1);
        let group = if elements(scales)? == 1 { Group::Tensor } else { Group::Axis };
        self.grid(node, codes, scales, zero, group, axis)
    }

    fn grid(
        &self,
        node: &Node,
        codes: &Initializer,
        scales: &Initializer,
        zero: Option<&str>,
        group: Group,
        axis: usize,
    ) -> Result<Option<Scheme>> {
        let Some((signed, bits)) = integer(codes.element_type()) else { return Ok(None) };
        let Some(scale) = Float::of(scales.element_type()) else { return Ok(None) };
        let zero_tensor = self.tensor(zero);
        if zero.is_some() && zero_tensor.is_none_or(|zeros| zeros.element_type() != codes.element_type()) {
            return Ok(None);
        }
        let packing = Packing::flat(bits, signed);
        let zero = if zero_tensor.is_some() { Zero::Codes(packing) } else { Zero::Always(0) };
        let [outer, len, inner] =
            if group == Group::Tensor { [1, elements(codes)?, 1] } else { around(codes.dims(), axis)? };
        let layout = Layout { outer, len, inner, group, codes: packing, scale, zero, negative: false };
        let per = match group {
            Group::Tensor => "one scale a tensor".to_owned(),
            Group::Axis => "a scale a column".to_owned(),
            Group::Block(block) => format!("blocks of {block}"),
        };
        finish(format!("{}, {bits} bits, {per}", node.op_type()), layout, codes, scales, zero_tensor)
    }

    /// `onnxruntime.quantization` multiplies what `MatMulInteger` yields with the product of both scales.
    fn scale_behind(&self, node: &Node) -> Option<&'a str> {
        let reader = |name: &str, op: &str| {
            let readers = self.readers.get(name)?;
            readers.iter().find(|reader| reader.op_type() == op).copied()
        };
        let product = node.output.first()?;
        let cast = reader(product, "Cast")?.output.first()?;
        let scaled = reader(cast, "Mul")?;
        let factor = scaled.input.iter().find(|name| *name != cast)?;
        let factors = self.makers.get(factor.as_str()).filter(|maker| maker.op_type() == "Mul")?;
        let mut constants = factors.input.iter().filter_map(|name| self.initializers.get_key_value(name.as_str()));
        let (name, _) = constants.next()?;
        constants.next().is_none().then_some(*name)
    }
}

/// The scheme, if every tensor has as many elements as the layout needs.
fn finish(
    name: String,
    layout: Layout,
    codes: &Initializer,
    scales: &Initializer,
    zeros: Option<&Initializer>,
) -> Result<Option<Scheme>> {
    let elements_of = layout.outer.checked_mul(layout.len).and_then(|n| n.checked_mul(layout.inner));
    let needs = elements_of.filter(|&n| n <= MOST_ELEMENTS).ok_or_else(|| wrong("an impossible shape"))?;
    let too_few = |tensor: &Initializer, needed: usize| {
        let has = tensor.byte_length();
        (has != needed as u64).then(|| wrong(&format!("`{}` has {has} bytes and {needed} are needed", tensor.name())))
    };
    let channels = layout.channels();
    let zero_bytes = match layout.zero {
        Zero::Always(_) => 0,
        Zero::Codes(packing) => packing.bytes(channels),
        Zero::Float(float) => channels * float.size(),
    };
    let fault = too_few(codes, layout.codes.bytes(needs))
        .or_else(|| too_few(scales, channels * layout.scale.size()))
        .or_else(|| zeros.and_then(|zeros| too_few(zeros, zero_bytes)));
    match fault {
        Some(fault) => Err(fault),
        None => Ok(Some(Scheme {
            name,
            codes: codes.name().to_owned(),
            scales: vec![scales.name().to_owned()],
            zeros: zeros.map(|zeros| zeros.name().to_owned()).into_iter().collect(),
            layout,
        })),
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what).with_help("the file is damaged: export the model again")
}

fn attribute<'a>(node: &'a Node, name: &str) -> Option<&'a Attribute> {
    node.attribute(name)
}

fn int(node: &Node, name: &str, default: usize) -> Result<usize> {
    let value = attribute(node, name).map(Attribute::i);
    value.map_or(Ok(default), |value| usize::try_from(value).map_err(|_| wrong(&format!("`{name}` is {value}"))))
}

fn small_bits(bits: usize) -> Option<u32> {
    matches!(bits, 2 | 4 | 8).then_some(if bits == 2 {
        2
    } else if bits == 4 {
        4
    } else {
        8
    })
}

/// An input, unless it is left out.
fn input(node: &Node, i: usize) -> Option<&str> {
    node.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
}

fn elements(tensor: &Initializer) -> Result<usize> {
    let product = |n: usize, &dim: &i64| n.checked_mul(usize::try_from(dim).ok()?);
    tensor.dims().iter().try_fold(1_usize, product).ok_or_else(|| wrong("an impossible shape"))
}

/// An axis that is counted from the end if negative.
fn axis_of(axis: i64, dims: &[i64]) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add_unsigned(dims.len() as u64)? } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < dims.len())
}

/// A shape as what is before an axis, the axis, and what is after it.
fn around(dims: &[i64], axis: usize) -> Result<[usize; 3]> {
    let product = |dims: &[i64]| {
        let n = dims.iter().try_fold(1_usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
        n.ok_or_else(|| wrong("an impossible shape"))
    };
    Ok([product(&dims[..axis])?, product(&dims[axis..=axis])?, product(&dims[axis + 1..])?])
}

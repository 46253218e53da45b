//! ONNX files written field by field: graphs that no exporter would write, for what is told from the file alone.

use std::{fs, path::Path};

use tempfile::TempDir;

/// A dimension: a number or a name.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Fixed(u64),
    Named(&'static str),
}

pub(crate) use Size::{Fixed, Named};

pub(crate) const FLOAT: u64 = 1;
pub(crate) const INT64: u64 = 7;

/// An input or output.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: &'static str,
    pub(crate) element: u64,
    pub(crate) dims: Vec<Size>,
}

pub(crate) fn tensor(name: &'static str, element: u64, dims: &[Size]) -> Tensor {
    Tensor { name, element, dims: dims.to_vec() }
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field that holds a number.
pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field that holds a text or a message.
pub(crate) fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn value_info(tensor: &Tensor) -> Vec<u8> {
    let dim = |size: &Size| match size {
        Fixed(n) => bytes(1, &number(1, *n)),
        Named(name) => bytes(1, &bytes(2, name.as_bytes())),
    };
    let shape: Vec<u8> = tensor.dims.iter().flat_map(dim).collect();
    let of_tensor = [number(1, tensor.element), bytes(2, &shape)].concat();
    [bytes(1, tensor.name.as_bytes()), bytes(2, &bytes(1, &of_tensor))].concat()
}

/// A constant whose data lie in another file, `key` and `value` by pairs.
pub(crate) fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry =
        |(key, value): &(&str, &str)| bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat());
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    bytes(5, &[number(1, 4), number(2, FLOAT), bytes(8, b"weights"), number(14, 1), entries].concat())
}

/// A model folder with this graph; `parts` are further fields of it.
pub(crate) fn folder(inputs: &[Tensor], outputs: &[Tensor], parts: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), inputs, outputs, parts);
    folder
}

pub(crate) fn write(folder: &Path, inputs: &[Tensor], outputs: &[Tensor], parts: &[u8]) {
    let inputs = inputs.iter().flat_map(|tensor| bytes(11, &value_info(tensor)));
    let outputs = outputs.iter().flat_map(|tensor| bytes(12, &value_info(tensor)));
    let graph: Vec<u8> = inputs.chain(outputs).chain(parts.iter().copied()).collect();
    fs::write(folder.join("model.onnx"), [number(1, 9), bytes(7, &graph)].concat()).unwrap();
}

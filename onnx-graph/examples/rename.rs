//! Gives a value of a model, such as an input, another name. Weights are linked, not written: milliseconds for any model.
//!
//! ```text
//! cargo run -p logitfuse-onnx-graph --example rename -- expert/model.onnx input_ids tokens renamed.onnx
//! ```

use std::env;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{Model, rename_values};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [from, name, new_name, to] = &arguments[..] else {
        return Err(Error::new(ErrorKind::InvalidConfig, "usage: rename FROM.onnx NAME NEW-NAME TO.onnx"));
    };
    let mut model = Model::open(from.as_ref())?;
    rename_values(model.graph_mut(), &mut |value| {
        if value == name {
            value.clone_from(new_name);
        }
    });
    model.save_linked(to.as_ref())
}

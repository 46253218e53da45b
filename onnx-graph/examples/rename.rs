//! Gives a value of a model, such as an input, another name: rename FROM.onnx NAME NEW_NAME TO.onnx
//!
//! Weights are linked, not written: a model of any size takes milliseconds.

use std::{env, path::Path, process::ExitCode};

use logitfuse_core::Result;
use logitfuse_onnx_graph::{Model, rename_values};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [from, name, new_name, to] = arguments.as_slice() else {
        eprintln!("usage: rename FROM.onnx NAME NEW_NAME TO.onnx");
        return ExitCode::from(2);
    };
    match rename(from.as_ref(), name, new_name, to.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

fn rename(from: &Path, name: &str, new_name: &str, to: &Path) -> Result<()> {
    let mut model = Model::open(from)?;
    rename_values(model.graph_mut(), &mut |value| {
        if value == name {
            new_name.clone_into(value);
        }
    });
    model.save_linked(to)
}

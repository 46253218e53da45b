//! A fusion as Triton's model repository.

use std::path::Path;

use logitfuse_core::Result;
use logitfuse_onnx_graph::{
    ElementType, Model,
    proto::{DimensionValue, ValueInfo},
};

use crate::{
    folder::{subfolder, write},
    models::Fusion,
    one_graph::one_graph,
    write_genai,
};

const MODEL_PY: &str = include_str!("triton/model.py");
const DECODER: &str = include_str!("triton/config.pbtxt");
const PARAMETER: &str = include_str!("triton/parameter.pbtxt");
const TRACE: &str = include_str!("triton/trace.pbtxt");
const GRAPH: &str = include_str!("triton/graph.pbtxt");
const TENSOR: &str = include_str!("triton/tensor.pbtxt");

/// What the model that decodes is called; the graph by itself is `fusion_graph`.
const NAME: &str = "fusion";

/// Writes `fusion`, which decodes texts, and `fusion_graph`, one pass for clients that keep the caches.
pub(crate) fn write_repository(fusion: &Fusion, root: &Path) -> Result<()> {
    let decoder = subfolder(root, &format!("{NAME}/1"))?;
    write(&decoder.join("model.py"), MODEL_PY)?;
    write_genai(fusion, &subfolder(root, &format!("{NAME}/1/genai"))?)?;
    write(&root.join(NAME).join("config.pbtxt"), &decoder_config(fusion))?;

    let name = format!("{NAME}_graph");
    let graph = one_graph(fusion)?;
    write(&subfolder(root, &name)?.join("config.pbtxt"), &graph_config(&name, &graph))?;
    graph.save(&subfolder(root, &format!("{name}/1"))?.join("model.onnx"))
}

fn decoder_config(fusion: &Fusion) -> String {
    let parameters = fusion.graph.parameters().iter().map(|parameter| {
        filled(PARAMETER, &[("parameter", &parameter.name), ("default", &parameter.default.to_string())])
    });
    let trace = fusion.graph.trace().iter().map(|(name, _)| filled(TRACE, &[("column", name)]));
    filled(DECODER, &[("name", NAME), ("fusion", &parameters.chain(trace).collect::<String>())])
}

fn graph_config(name: &str, graph: &Model) -> String {
    let tensor = |side: &str, info: &ValueInfo| {
        let (element, dims) = info.tensor_type().unwrap_or((ElementType::FLOAT, Vec::new()));
        let optional = side == "input" && graph.initializers.iter().any(|default| default.name() == info.name());
        let dims: Vec<String> = dims
            .iter()
            .map(|dim| match dim {
                Some(DimensionValue::Fixed(n)) => n.to_string(),
                _ => "-1".to_owned(),
            })
            .collect();
        let values = [
            ("side", side),
            ("tensor", info.name()),
            ("type", type_name(element)),
            ("dimensions", &dims.join(", ")),
            ("optional", if optional { " optional: true" } else { "" }),
        ];
        filled(TENSOR, &values)
    };
    let inputs = graph.graph().input.iter().map(|info| tensor("input", info));
    let outputs = graph.graph().output.iter().map(|info| tensor("output", info));
    filled(GRAPH, &[("name", name), ("model", NAME), ("tensors", &inputs.chain(outputs).collect::<String>())])
}

fn type_name(element: ElementType) -> &'static str {
    match element {
        ElementType::INT64 => "TYPE_INT64",
        ElementType(6) => "TYPE_INT32",
        ElementType::FLOAT16 => "TYPE_FP16",
        ElementType::BFLOAT16 => "TYPE_BF16",
        _ => "TYPE_FP32",
    }
}

/// A template with its `{{places}}` filled.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (place, value)| text.replace(&format!("{{{{{place}}}}}"), value))
}

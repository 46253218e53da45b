//! A fusion as one ONNX graph.

use std::collections::BTreeSet;

use logitfuse_core::{Result, SharedVocabulary};
use logitfuse_onnx_graph::{
    ElementType, Initializer, Joined, Model, Part,
    proto::{DimensionValue, Node, ValueInfo},
};
use logitfuse_pipeline::model_files::{Dim, Element, TensorInfo};

use crate::{
    emit::{Emitted, OPSET, emit},
    models::{ExportModel, Fusion},
};

/// The one graph: `input_ids`, `attention_mask`, `position_ids` where a model takes them, `past_key_values.*` and
/// `fusion.*` become `logits`, `present.*` and `trace.*`. Parameters have their defaults.
pub(crate) fn one_graph(fusion: &Fusion) -> Result<Model> {
    let mut joined = Joined::with_opset("fusion", OPSET);
    let mut logits = Vec::new();
    for model in &fusion.models {
        let part = part(model);
        logits.push(part.name_of(&model.signature.logits.name));
        joined.add(model.model.clone(), &part)?;
    }
    let mut joined = joined.finish();
    let emitted = add_rule(&mut joined, fusion, &logits, "logits");

    let presents = joined.graph_mut().output.iter().filter(|output| output.name().starts_with("present."));
    let mut presents: Vec<ValueInfo> = presents.cloned().collect();
    let graph = joined.graph_mut();
    let mut outputs = emitted.outputs.into_iter();
    graph.output = outputs.next().into_iter().collect();
    graph.output.append(&mut presents);
    graph.output.extend(outputs);
    // The three inputs of tokens first, as exporters write them.
    let place = |input: &ValueInfo| {
        ["input_ids", "attention_mask", "position_ids"].iter().position(|name| *name == input.name()).unwrap_or(3)
    };
    graph.input.sort_by_key(place);
    graph.input.extend(emitted.parameters);
    joined.initializers.extend(emitted.defaults);
    Ok(joined)
}

/// The same graph without defaults: genai passes on only what a graph demands.
pub(crate) fn without_defaults(mut model: Model) -> Model {
    let inputs: BTreeSet<String> = model.graph().input.iter().map(|input| input.name().to_owned()).collect();
    model.initializers.retain(|initializer| !inputs.contains(initializer.name()));
    model
}

/// Adds the rule's nodes and constants to a graph that has each model's logits; inputs, outputs and defaults are the caller's.
pub(crate) fn add_rule(model: &mut Model, fusion: &Fusion, logits: &[String], fused: &str) -> Emitted {
    let mut emitted = {
        let rows = rows(model, fusion, logits);
        let bindings: Vec<String> = fusion.files.model_of.iter().map(|place| rows[*place].clone()).collect();
        emit(&fusion.graph, &bindings, fused, fusion.vocabulary().width())
    };
    model.graph_mut().node.append(&mut emitted.nodes);
    model.initializers.append(&mut emitted.initializers);
    emitted
}

/// Each model's logits as f32, cut to the shared vocabulary, masked where it has holes.
fn rows(model: &mut Model, fusion: &Fusion, logits: &[String]) -> Vec<String> {
    let width = fusion.vocabulary().width();
    let holes = holes(fusion.vocabulary());
    if let Some(holes) = &holes {
        model.initializers.push(holes.clone());
        model.initializers.push(Initializer::float("fusion/masked", &[], &[f32::NEG_INFINITY]));
    }
    let mut rows = Vec::new();
    for (part, name) in fusion.models.iter().zip(logits) {
        let mut row = name.clone();
        let node = |op: &str, suffix: &str, inputs: &[&str]| {
            let output = format!("fusion/{}/{suffix}", part.name);
            let node = Node::new(op, inputs, &[&output]);
            (node, output)
        };
        let mut nodes = Vec::new();
        if part.signature.width != Some(width) {
            let bounds = ["start", "end", "axis"].map(|name| format!("fusion/width/{name}"));
            let (slice, output) = node("Slice", "cut", &[&row, &bounds[0], &bounds[1], &bounds[2]]);
            nodes.push(slice);
            row = output;
        }
        if part.signature.logits.element != Element::F32 {
            let (cast, output) = node("Cast", "f32", &[&row]);
            nodes.push(cast.with_int("to", ElementType::FLOAT.0.into()));
            row = output;
        }
        if holes.is_some() {
            let (masked, output) = node("Where", "shared", &["fusion/holes", "fusion/masked", &row]);
            nodes.push(masked);
            row = output;
        }
        model.graph_mut().node.append(&mut nodes);
        rows.push(row);
    }
    if fusion.models.iter().any(|part| part.signature.width != Some(width)) {
        let end = i64::try_from(width).unwrap_or(i64::MAX);
        for (name, value) in [("start", 0), ("end", end), ("axis", -1)] {
            model.initializers.push(Initializer::int64(format!("fusion/width/{name}"), &[1], &[value]));
        }
    }
    rows
}

/// Which ids the models do not share, if any.
fn holes(vocabulary: &SharedVocabulary) -> Option<Initializer> {
    let width = vocabulary.width();
    if vocabulary.count() == width {
        return None;
    }
    let ids = (0..width).map(|id| u8::from(!u32::try_from(id).is_ok_and(|id| vocabulary.contains(id)))).collect();
    Some(Initializer::raw("fusion/holes", ElementType::BOOL, &[i64::try_from(width).unwrap_or(i64::MAX)], ids))
}

/// How a model takes part: token inputs shared, caches renumbered, everything else under the model's name.
fn part(model: &ExportModel) -> Part {
    let signature = &model.signature;
    let mut part = Part::new(&model.name).rename(&signature.ids.name, "input_ids");
    part = dimensions(part, &signature.ids, &["batch_size", "sequence_length"]);
    if let Some(mask) = &signature.mask {
        part = dimensions(part.rename(&mask.name, "attention_mask"), mask, &["batch_size", "total_sequence_length"]);
    }
    if let Some(positions) = &signature.positions {
        part = dimensions(part.rename(&positions.name, "position_ids"), positions, &["batch_size", "sequence_length"]);
    }
    for layer in &model.layers {
        for (tensor, past, present) in layer.names() {
            part = part.rename(&tensor.past, &past).rename(&tensor.present, &present);
            let find = |infos: &[TensorInfo], name: &str| infos.iter().find(|info| info.name == name).cloned();
            if let Some(input) = find(model.folder.inputs(), &tensor.past) {
                part = dimensions(part, &input, &["batch_size", "", "past_sequence_length"]);
            }
            if let Some(output) = find(model.folder.outputs(), &tensor.present) {
                part = dimensions(part, &output, &["batch_size", "", "total_sequence_length"]);
            }
        }
    }
    part
}

/// The usual names for a tensor's symbolic dimensions; "" leaves one as it is.
fn dimensions(mut part: Part, tensor: &TensorInfo, names: &[&str]) -> Part {
    for (dim, name) in tensor.dims.iter().zip(names) {
        if let (Dim::Named(own), false) = (dim, name.is_empty()) {
            part = part.rename_dimension(own, name);
        }
    }
    part
}

/// A tensor of logits, as a stage hands it on.
pub(crate) fn logits_info(name: &str, model: &ExportModel) -> ValueInfo {
    let dimension = |name: &str| DimensionValue::Named(name.into());
    let width = match model.signature.width.and_then(|width| i64::try_from(width).ok()) {
        Some(width) => DimensionValue::Fixed(width),
        None => dimension("vocabulary_size"),
    };
    let element = match model.signature.logits.element {
        Element::F16 => ElementType::FLOAT16,
        Element::Bf16 => ElementType::BFLOAT16,
        _ => ElementType::FLOAT,
    };
    ValueInfo::tensor(name, element, &[dimension("batch_size"), dimension("sequence_length"), width])
}

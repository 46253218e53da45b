//! `genai_config.json`, as onnxruntime-genai 0.18 reads it.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result, TokenId, python_json};
use logitfuse_pipeline::read_text_file;
use serde_json::{Map, Value, json};

use crate::{
    emit::{parameter_input, trace_output},
    models::{ExportModel, Fusion},
    stages::{stage_file, stage_logits},
    uniform_kv::UniformShape,
};

/// The configuration of a pipeline of stages.
pub(crate) fn pipeline_config(fusion: &Fusion) -> Result<Value> {
    let mut stages: Vec<Value> = fusion
        .models
        .iter()
        .map(|model| {
            let mut inputs = token_inputs(model);
            // An output of the graph that is not listed is freed twice by genai 0.18, so all are.
            let mut outputs = vec![model.signature.logits.name.clone()];
            for layer in &model.layers {
                for (_, past, present) in layer.names() {
                    inputs.push(past);
                    outputs.push(present);
                }
            }
            let known = |name: &str| {
                name == model.signature.logits.name
                    || model.layers.iter().any(|layer| [&layer.key, &layer.value].iter().any(|t| t.present == name))
            };
            let others = model.folder.outputs().iter().filter(|output| !known(&output.name));
            outputs.extend(others.map(|output| output.name.clone()));
            let logits = Map::from_iter([(model.signature.logits.name.clone(), json!(stage_logits(model)))]);
            let stage = json!({
                "filename": stage_file(&model.name),
                "inputs": inputs,
                "outputs": outputs,
                "output_names_forwarder": logits,
            });
            json!({ model.name.as_str(): stage })
        })
        .collect();
    let parameters: Vec<String> = fusion.graph.parameters().iter().map(|p| parameter_input(&p.name)).collect();
    let traces = fusion.graph.trace().iter().map(|(name, _)| trace_output(name));
    let logits = fusion.models.iter().map(stage_logits);
    stages.push(json!({ "fuse": {
        "filename": stage_file("fuse"),
        "inputs": logits.chain(parameters.iter().cloned()).collect::<Vec<_>>(),
        "outputs": std::iter::once("fused_logits".to_owned()).chain(traces).collect::<Vec<_>>(),
    } }));
    if !parameters.is_empty() {
        let unused: Vec<String> =
            fusion.graph.parameters().iter().map(|parameter| format!("unused.{}", parameter.name)).collect();
        stages.push(json!({ "parameters": {
            "filename": stage_file("parameters"),
            "inputs": parameters,
            "outputs": unused,
            "run_on_prompt": false,
            "run_on_token_gen": false,
        } }));
    }
    let mut decoder = decoder(fusion, &fusion.models.iter().collect::<Vec<_>>(), "fused_logits")?;
    decoder["pipeline"] = json!(stages);
    // Idle workers of one stage would steal the cores of the next: a third of the speed on two cores.
    decoder["session_options"]["session.intra_op.allow_spinning"] = json!("0");
    config(fusion, "decoder-pipeline", &decoder, None)
}

/// The configuration of one graph, with another model that drafts for it if there is one.
pub(crate) fn graph_config(
    fusion: &Fusion,
    file: &str,
    draft: Option<(&ExportModel, &str)>,
    uniform: Option<&UniformShape>,
) -> Result<Value> {
    let all: Vec<&ExportModel> = fusion.models.iter().collect();
    let mut target = decoder(fusion, &all, "logits")?;
    target["filename"] = json!(file);
    if let Some(UniformShape { heads, size }) = uniform {
        target["num_key_value_heads"] = json!(heads);
        target["head_size"] = json!(size);
    }
    let draft = draft
        .map(|(model, file)| {
            let mut draft = decoder(fusion, &[model], &model.signature.logits.name)?;
            draft["filename"] = json!(file);
            Ok::<_, logitfuse_core::Error>(draft)
        })
        .transpose()?;
    let mut config = config(fusion, "decoder", &target, draft.as_ref())?;
    if uniform.is_some() {
        config["search"]["past_present_share_buffer"] = json!(false);
    }
    Ok(config)
}

fn config(fusion: &Fusion, kind: &str, decoder: &Value, draft: Option<&Value>) -> Result<Value> {
    let end: &[TokenId] = &fusion.files.end_of_sequence;
    let width = fusion.vocabulary().width();
    let first = end.first().copied().unwrap_or(0);
    let stated = base_config(fusion)?;
    let id = |key: &str| stated[key].as_u64().filter(|&id| id < width as u64).unwrap_or(u64::from(first));
    let context = fusion.context_length().ok_or_else(|| {
        let what = "no model says how many tokens fit into a sequence, and genai_config.json has to";
        Error::new(ErrorKind::InvalidConfig, what).with_help("set `context_length` of a source")
    })?;
    let mut config = json!({
        "model": {
            "type": kind,
            "bos_token_id": id("bos_token_id"),
            "eos_token_id": end,
            "pad_token_id": id("pad_token_id"),
            "vocab_size": width,
            "context_length": context,
            "decoder": decoder,
        },
        "search": {
            "max_length": context,
            "do_sample": fusion.run.temperature > 0.0,
            "repetition_penalty": fusion.run.repetition_penalty,
            // Shared buffers are for caches that attention nodes write in place.
            "past_present_share_buffer": fusion.writes_in_place(),
        },
    });
    if fusion.run.temperature > 0.0 {
        config["search"]["temperature"] = json!(fusion.run.temperature);
        config["search"]["top_p"] = json!(fusion.run.top_p);
        // 0 keeps all, here and there.
        config["search"]["top_k"] = json!(fusion.run.top_k);
    }
    if let Some(draft) = draft {
        config["model"]["draft"] = draft.clone();
    }
    Ok(config)
}

fn decoder(fusion: &Fusion, models: &[&ExportModel], logits: &str) -> Result<Value> {
    let stated = base_config(fusion)?;
    let first = models[0];
    let shape = |place: usize| first.layers.first().and_then(|layer| layer.key.dims[place]);
    let heads = shape(1).unwrap_or(1);
    let size = shape(3).unwrap_or(1);
    let count = |key: &str, otherwise: usize| stated[key].as_u64().unwrap_or(otherwise as u64);
    let layers: usize = models.iter().map(|model| model.layers.len()).sum();
    let inputs: Map<String, Value> = ["input_ids", "attention_mask", "position_ids"]
        .into_iter()
        .filter(|name| models.iter().any(|model| token_inputs(model).iter().any(|input| input == name)))
        .map(|name| (name.to_owned(), json!(name)))
        .chain([
            ("past_key_names".to_owned(), json!("past_key_values.%d.key")),
            ("past_value_names".to_owned(), json!("past_key_values.%d.value")),
        ])
        .collect();
    Ok(json!({
        "head_size": size,
        "hidden_size": count("hidden_size", heads * size),
        "num_attention_heads": count("num_attention_heads", heads),
        "num_key_value_heads": heads,
        "num_hidden_layers": layers,
        "session_options": { "provider_options": [] },
        "inputs": inputs,
        "outputs": {
            "logits": logits,
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }))
}

/// The inputs of tokens that a model takes, under their usual names.
fn token_inputs(model: &ExportModel) -> Vec<String> {
    let signature = &model.signature;
    let optional = [(&signature.mask, "attention_mask"), (&signature.positions, "position_ids")];
    let there = optional.into_iter().filter(|(info, _)| info.is_some()).map(|(_, name)| name);
    std::iter::once("input_ids").chain(there).map(str::to_owned).collect()
}

/// The first model's `config.json`; null where it has none.
pub(crate) fn base_config(fusion: &Fusion) -> Result<Value> {
    let path = fusion.models[0].folder.root().join("config.json");
    Ok(read_json(&path)?.unwrap_or(Value::Null))
}

/// An object from a file as Python writes it; none without the file.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text_file(path, 16 << 20)?;
    let value: Option<Value> = serde_json::from_str(&python_json(&text)).ok();
    value.filter(Value::is_object).map(Some).ok_or_else(|| {
        Error::new(ErrorKind::InvalidData, format!("{}: no JSON object", path.display()))
            .with_help("fetch the file again")
    })
}

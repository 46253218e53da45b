//! A fusion as the stages of genai's decoder pipeline.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{
    ElementType, Model,
    proto::{DimensionValue, Node, OperatorSet, ValueInfo},
    rename_values,
};
use logitfuse_pipeline::model_files::TensorInfo;

use crate::{
    emit::OPSET,
    folder::link,
    models::{ExportModel, Fusion},
    one_graph::{add_rule, logits_info},
};

/// Writes the models, the rule and the parameters' stage into a folder.
pub(crate) fn write_stages(fusion: &Fusion, folder: &Path) -> Result<()> {
    for model in &fusion.models {
        let file = folder.join(stage_file(&model.name));
        if is_as_named(model) {
            link_model(model, &file)?;
        } else {
            renamed(model).save_linked(&file)?;
        }
    }
    fuse(fusion).save(&folder.join(stage_file("fuse")))?;
    if !fusion.graph.parameters().is_empty() {
        parameters(fusion).save(&folder.join(stage_file("parameters")))?;
    }
    Ok(())
}

/// The file of a stage.
pub(crate) fn stage_file(stage: &str) -> String {
    format!("{stage}.onnx")
}

/// What a model's logits are called between its stage and the fuse stage.
pub(crate) fn stage_logits(model: &ExportModel) -> String {
    format!("{}_logits", model.name)
}

/// Whether a model's file can stand as it is, byte for byte.
fn is_as_named(model: &ExportModel) -> bool {
    let signature = &model.signature;
    let is = |info: &Option<TensorInfo>, name: &str| info.as_ref().is_none_or(|info| info.name == name);
    let caches = model.layers.iter().flat_map(|layer| {
        layer.names().map(|(tensor, past, present)| tensor.past == past && tensor.present == present)
    });
    signature.ids.name == "input_ids"
        && is(&signature.mask, "attention_mask")
        && is(&signature.positions, "position_ids")
        && caches.into_iter().all(|same| same)
}

/// The model's file under another name; its external data keep theirs, which the file holds.
fn link_model(model: &ExportModel, file: &Path) -> Result<()> {
    link(model.folder.onnx(), file)?;
    let (from, to) = (folder_of(model.folder.onnx()), folder_of(file));
    for (path, kind) in model.folder.files() {
        if kind == "model" && path != model.folder.onnx() {
            let location = path.strip_prefix(&from).map_err(|_| {
                Error::new(ErrorKind::InvalidData, format!("{}: lies outside the model's folder", path.display()))
                    .with_help("keep the files of a model together in one folder")
            })?;
            let target = to.join(location);
            std::fs::create_dir_all(folder_of(&target)).map_err(|e| crate::folder::failed(&target, &e))?;
            link(&path, &target)?;
        }
    }
    Ok(())
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

/// The model with the usual names for its inputs, and caches numbered after those of the models before.
fn renamed(model: &ExportModel) -> Model {
    let signature = &model.signature;
    let mut names = BTreeMap::from([(signature.ids.name.clone(), "input_ids".to_owned())]);
    let tokens = [(&signature.mask, "attention_mask"), (&signature.positions, "position_ids")];
    names.extend(tokens.into_iter().filter_map(|(info, name)| Some((info.as_ref()?.name.clone(), name.to_owned()))));
    for layer in &model.layers {
        for (tensor, past, present) in layer.names() {
            names.insert(tensor.past.clone(), past);
            names.insert(tensor.present.clone(), present);
        }
    }
    let mut renamed = model.model.clone();
    rename_values(renamed.graph_mut(), &mut |name| {
        if let Some(new) = names.get(name) {
            new.clone_into(name);
        }
    });
    renamed
}

/// The rule by itself: each model's logits and the parameters become the fused logits and the trace.
fn fuse(fusion: &Fusion) -> Model {
    let mut model = small_model("fuse");
    let logits: Vec<String> = fusion.models.iter().map(stage_logits).collect();
    let emitted = add_rule(&mut model, fusion, &logits, "fused_logits");
    let graph = model.graph_mut();
    graph.input = fusion.models.iter().zip(&logits).map(|(part, name)| logits_info(name, part)).collect();
    graph.input.extend(emitted.parameters);
    graph.output = emitted.outputs;
    model.initializers.extend(emitted.defaults);
    model
}

/// A stage that never runs. genai takes only inputs that some stage demands, and a parameter with a default is not
/// demanded; here it is.
fn parameters(fusion: &Fusion) -> Model {
    let mut model = small_model("parameters");
    let graph = model.graph_mut();
    for parameter in fusion.graph.parameters() {
        let name = crate::emit::parameter_input(&parameter.name);
        let unused = format!("unused.{}", parameter.name);
        let info = |name: &str| ValueInfo::tensor(name, ElementType::FLOAT, &[DimensionValue::Fixed(1)]);
        graph.node.push(Node::new("Identity", &[&name], &[&unused]));
        graph.output.push(info(&unused));
        graph.input.push(info(&name));
    }
    model
}

fn small_model(name: &str) -> Model {
    let mut model = Model::default();
    model.header.ir_version = Some(8);
    model.header.producer_name = Some("logitfuse".into());
    model.header.opset_import = vec![OperatorSet { domain: None, version: Some(OPSET) }];
    model.graph_mut().name = Some(name.into());
    model
}

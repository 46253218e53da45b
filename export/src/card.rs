//! What an export says of itself: `fusion.json` for programs, `README.md` for people, `config.json` for loaders.

use std::{fmt::Write as _, path::Path};

use logitfuse_core::Result;
use logitfuse_pipeline::read_text_file;
use serde_json::{Value, json};

use crate::{
    ExportSettings, Target,
    emit::{parameter_input, trace_output},
    folder::{sha256, write as write_file},
    genai_config::base_config,
    models::Fusion,
    write_json,
};

/// Writes `fusion.json` and `README.md`.
pub(crate) fn write(fusion: &Fusion, settings: &ExportSettings, folder: &Path) -> Result<()> {
    let card = card(fusion, settings)?;
    write_json(&folder.join("fusion.json"), &card)?;
    write_file(&folder.join("README.md"), &readme(fusion, settings, &card))
}

/// The first model's `config.json`, with the vocabulary and the layers of the whole.
pub(crate) fn config_json(fusion: &Fusion) -> Result<Value> {
    let mut config = base_config(fusion)?;
    if !config.is_object() {
        config = json!({});
    }
    config["vocab_size"] = json!(fusion.vocabulary().width());
    config["num_hidden_layers"] = json!(fusion.layer_count());
    if let Some(context) = fusion.context_length() {
        config["max_position_embeddings"] = json!(context);
    }
    if config.get("eos_token_id").is_none_or(Value::is_null) {
        config["eos_token_id"] = json!(fusion.files.end_of_sequence);
    }
    Ok(config)
}

fn card(fusion: &Fusion, settings: &ExportSettings) -> Result<Value> {
    let parameters: Vec<Value> = fusion
        .graph
        .parameters()
        .iter()
        .map(|p| json!({ "name": p.name, "input": parameter_input(&p.name), "default": p.default }))
        .collect();
    let unit = |name: &str| fusion.info.trace.iter().find(|column| column.name == name).map(|c| c.unit.clone());
    let trace: Vec<Value> = fusion
        .graph
        .trace()
        .iter()
        .map(|(name, _)| json!({ "name": name, "output": trace_output(name), "unit": unit(name) }))
        .collect();
    let mut models = Vec::new();
    for model in &fusion.models {
        let mut files = Vec::new();
        for (path, kind) in model.folder.files().into_iter().filter(|(_, kind)| *kind == "model") {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            files.push(json!({ "name": name, "kind": kind, "sha256": sha256(&path)? }));
        }
        let name = model.folder.root().file_name().map(|name| name.to_string_lossy().into_owned());
        let licence = licence(model.folder.root());
        let layers: Vec<usize> = model.layers.iter().map(|layer| layer.number).collect();
        models.push(json!({
            "name": model.name, "folder": name, "licence": licence, "layers": layers, "files": files,
        }));
    }
    let bindings: Vec<Value> = fusion
        .files
        .session
        .bindings
        .iter()
        .zip(&fusion.files.model_of)
        .map(|(binding, place)| {
            json!({ "role": binding.role, "source": binding.source, "model": fusion.models[*place].name })
        })
        .collect();
    Ok(json!({
        "format": 1,
        "producer": format!("logitfuse {}", env!("CARGO_PKG_VERSION")),
        "target": settings.target.to_string(),
        "strategy": fusion.info.id,
        "equation": fusion.info.equation,
        "reference": fusion.info.reference,
        "parameters": parameters,
        "trace": trace,
        "bindings": bindings,
        "models": models,
        "vocabulary": fusion.vocabulary().width(),
        "end_of_sequence": fusion.files.end_of_sequence,
    }))
}

/// The licence that a model's card states in its front matter.
fn licence(root: &Path) -> Option<String> {
    let text = ["README.md", "MODEL_CARD.md"].iter().find_map(|name| read_text_file(&root.join(name), 1 << 20).ok())?;
    let matter = text.strip_prefix("---")?;
    let matter = &matter[..matter.find("\n---")?];
    let line = matter.lines().find_map(|line| line.strip_prefix("license:"))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

fn readme(fusion: &Fusion, settings: &ExportSettings, card: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("not stated").to_owned();
    let mut page = format!(
        "# {} as files for {}\n\n{}.\n\n```text\n{}\n```\n\n{}.\n",
        fusion.info.id,
        served_by(settings.target),
        capitalised(&fusion.info.summary),
        fusion.info.equation,
        fusion.info.reference,
    );
    page.push_str("\n## Models\n\n| name | folder | licence | file | sha256 |\n|---|---|---|---|---|\n");
    for model in card["models"].as_array().into_iter().flatten() {
        for file in model["files"].as_array().into_iter().flatten() {
            let [name, folder, licence] = ["name", "folder", "licence"].map(|key| text(&model[key]));
            let [file, hash] = ["name", "sha256"].map(|key| text(&file[key]));
            let _ = writeln!(page, "| {name} | {folder} | {licence} | {file} | `{hash}` |");
        }
    }
    page.push_str("\nThe licences of all models apply to the whole.\n");
    if !fusion.graph.parameters().is_empty() {
        page.push_str("\n## Parameters\n\nEach is an input, float32 of shape [1].\n\n| input | default |\n|---|---|\n");
        for parameter in fusion.graph.parameters() {
            let _ = writeln!(page, "| `{}` | {} |", parameter_input(&parameter.name), parameter.default);
        }
    }
    if !fusion.graph.trace().is_empty() {
        page.push_str(
            "\n## Trace\n\nEach is an output, float32 of shape [batch, sequence, 1].\n\n| output | unit |\n|---|---|\n",
        );
        for trace in card["trace"].as_array().into_iter().flatten() {
            let _ = writeln!(page, "| `{}` | {} |", text(&trace["output"]), text(&trace["unit"]));
        }
    }
    page.push_str(&usage(fusion, settings));
    let _ = writeln!(page, "\nWritten by logitfuse {}.", env!("CARGO_PKG_VERSION"));
    page
}

fn served_by(target: Target) -> &'static str {
    match target {
        Target::Genai => "onnxruntime-genai",
        Target::Onnx => "ONNX Runtime",
        Target::Triton => "Triton",
    }
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// How to run it, with a parameter that is really there.
fn usage(fusion: &Fusion, settings: &ExportSettings) -> String {
    let parameter = fusion.graph.parameters().first();
    let set_python = parameter.map_or(String::new(), |parameter| {
        format!(
            "value = np.array([{:?}], np.float32)  # keep it alive: genai reads it at every token\n\
             generator.set_model_input(\"{}\", value)\n",
            parameter.default,
            parameter_input(&parameter.name)
        )
    });
    let set_csharp = parameter.map_or(String::new(), |parameter| {
        format!(
            "using var value = new Tensor(new float[] {{ {:?}f }}, new long[] {{ 1 }}, ElementType.float32);\n\
             generator.SetModelInput(\"{}\", value);\n",
            parameter.default,
            parameter_input(&parameter.name)
        )
    });
    let trace =
        fusion.graph.trace().first().map_or(String::new(), |(name, _)| {
            format!("    print(generator.get_output(\"{}\"))\n", trace_output(name))
        });
    let (folder, defaults) = match settings.target {
        Target::Onnx => (
            "genai",
            "In the folder `genai` every parameter has to be set; genai cannot leave out an input of a graph.",
        ),
        Target::Genai => (".", "Parameters that are not set have their defaults."),
        Target::Triton => ("fusion/1/genai", "Parameters that are not set have their defaults."),
    };
    let genai = format!(
        "\n## With onnxruntime-genai\n\n{defaults} A name that the files do not have is ignored by genai without a word. \
         Batches are padded on the right.\n\n```python\nimport numpy as np\nimport onnxruntime_genai as og\n\n\
         model = og.Model(\"{folder}\")\ntokenizer = og.Tokenizer(model)\n\
         tokenizer.update_options(add_special_tokens=\"true\")  # the tokens that begin a text\nparams = og.GeneratorParams(model)\n\
         params.set_search_options(max_length=256)\ngenerator = og.Generator(model, params)\n{set_python}\
         generator.append_tokens(tokenizer.encode(\"Why is the sky blue?\"))\nwhile not generator.is_done():\n    \
         generator.generate_next_token()\n{trace}print(tokenizer.decode(generator.get_sequence(0)))\n```\n\n\
         ```csharp\nusing Microsoft.ML.OnnxRuntimeGenAI;\n\nusing var model = new Model(\"{folder}\");\n\
         using var tokenizer = new Tokenizer(model);\n\
         tokenizer.UpdateOptions(new() {{ [\"add_special_tokens\"] = \"true\" }});\nusing var options = new GeneratorParams(model);\n\
         options.SetSearchOption(\"max_length\", 256);\nusing var generator = new Generator(model, options);\n{set_csharp}\
         generator.AppendTokenSequences(tokenizer.Encode(\"Why is the sky blue?\"));\nwhile (!generator.IsDone())\n    \
         generator.GenerateNextToken();\nConsole.WriteLine(tokenizer.Decode(generator.GetSequence(0)));\n```\n"
    );
    match settings.target {
        Target::Onnx => format!(
            "\n## With ONNX Runtime\n\n`onnx/model.onnx` takes `input_ids`, the other inputs of tokens that it names, and \
             `past_key_values.*`, and gives `logits` of all positions and `present.*`. Parameters that are not fed have their \
             defaults. logitfuse opens this folder as one model: `logitfuse generate --model DIR`.\n{genai}"
        ),
        Target::Triton => format!(
            "\n## With Triton\n\nThis folder is a model repository: `tritonserver --model-repository DIR`, with `pip install \
             onnxruntime-genai tokenizers` in the Python of its Python backend. Model `fusion` decodes; the first lines of \
             `fusion/1/model.py` say what it takes and gives. Model `fusion_graph` is one pass.\n{genai}"
        ),
        Target::Genai => genai,
    }
}

//! Whether exported files compute what the live engine does.

use std::{ops::ControlFlow, path::Path};

use logitfuse_core::numerics::{argmax, log_sum_exp};
use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, Step, TokenId};
use logitfuse_engine::{Cancel, Decoder, Event, Request};
use logitfuse_onnx_graph::{Joined, Model, Part};
use logitfuse_pipeline::{
    ModelFolder, Runtime,
    model_files::{OnnxOptions, OnnxSource},
};
use serde_json::Value;

use crate::{Target, folder::failed};

/// What a [`check`] found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Checked {
    /// Prompts that were decoded.
    pub prompts: usize,
    /// Tokens that the live engine generated.
    pub tokens: usize,
    /// The largest difference of two log-probabilities of a token, in nats, among tokens with a probability of 1e-6 or more.
    pub largest_difference: f64,
    /// The first token that the files would have chosen otherwise.
    pub first_difference: Option<Difference>,
}

/// A token that the files choose otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The prompt's place.
    pub prompt: usize,
    /// The token's place after the prompt, from 0.
    pub position: usize,
    /// What the live engine chose.
    pub live: TokenId,
    /// What the files choose.
    pub exported: TokenId,
}

/// The log-probability from which on a token counts in [`Checked::largest_difference`], in nats: that of 1e-6.
const COUNTS: f64 = -13.815_510_557_964_274;

/// Decodes prompts greedily with the live engine, feeds what it generated to the exported files, and compares the rows of
/// every position.
///
/// The files run in this process: the one graph as it is, the stages of a pipeline joined to one graph. What onnxruntime-genai
/// makes of them is not part of the check.
///
/// # Errors
/// Those of the engine and of the files.
pub fn check(
    decoder: &mut Decoder,
    runtime: &Runtime,
    target: Target,
    folder: &Path,
    prompts: &[Vec<TokenId>],
    new_tokens: usize,
    cancel: &Cancel,
) -> Result<Checked> {
    let mut source = exported(runtime, target, folder)?;
    let bindings = decoder.session().bindings.len();
    let mut checked = Checked::default();
    for prompt in prompts {
        let (tokens, fused) = live(decoder, vec![prompt.clone(); bindings], new_tokens, cancel)?;
        if tokens.is_empty() {
            continue;
        }
        let sequence = source.open()?;
        let mut rows = Rows::new();
        // In the engine's steps: quantised models round rows of one pass together.
        let steps = std::iter::once(prompt.as_slice()).chain(tokens.chunks(1));
        for (position, ((fed, token), live)) in steps.zip(&tokens).zip(&fused).enumerate() {
            source.forward(&[Step { sequence, tokens: fed, rows: 1 }], &mut rows)?;
            let row = &rows.row(0)[..live.len()];
            checked.largest_difference = checked.largest_difference.max(difference(live, row));
            let chosen = u32::try_from(argmax(row)).unwrap_or(TokenId::MAX);
            if chosen != *token && checked.first_difference.is_none() {
                checked.first_difference =
                    Some(Difference { prompt: checked.prompts, position, live: *token, exported: chosen });
            }
        }
        source.close(sequence);
        checked.prompts += 1;
        checked.tokens += tokens.len();
    }
    Ok(checked)
}

/// The tokens that the engine generates, and its rows.
fn live(
    decoder: &mut Decoder,
    prompts: Vec<Vec<TokenId>>,
    new_tokens: usize,
    cancel: &Cancel,
) -> Result<(Vec<TokenId>, Vec<Vec<f32>>)> {
    let request = Request::new(prompts).max_new_tokens(new_tokens).observe_rows().cancel(cancel);
    let (mut tokens, mut rows) = (Vec::new(), Vec::new());
    let mut observe = |event: Event<'_>| {
        if let Event::Rows(observed) = event {
            tokens.push(observed.token);
            rows.push(observed.fused.logits().to_vec());
        }
        ControlFlow::Continue(())
    };
    decoder.generate(&[request], cancel, &mut observe)?;
    if cancel.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
    }
    Ok((tokens, rows))
}

/// The largest difference of log-probabilities, in nats.
fn difference(live: &[f32], exported: &[f32]) -> f64 {
    let [live_normaliser, exported_normaliser] = [live, exported].map(log_sum_exp);
    let pairs =
        live.iter().zip(exported).map(|(&a, &b)| (f64::from(a) - live_normaliser, f64::from(b) - exported_normaliser));
    let counted = pairs.filter(|(a, b)| a.max(*b) >= COUNTS);
    counted
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, next| if next > worst || next.is_nan() { next } else { worst })
}

fn exported(runtime: &Runtime, target: Target, folder: &Path) -> Result<OnnxSource> {
    let open = |path: &Path| {
        let model = ModelFolder::open(path, None)?;
        OnnxSource::open(runtime, &model, &OnnxOptions::default())
    };
    match target {
        Target::Onnx => open(folder),
        Target::Genai => {
            let joined = folder.join(".check");
            let made = join_stages(folder, &joined).and_then(|()| open(&joined.join("model.onnx")));
            std::fs::remove_dir_all(&joined).map_err(|e| failed(&joined, &e))?;
            made
        }
        Target::Triton => Err(Error::new(ErrorKind::Unsupported, "check: a model repository is not one model")
            .with_help("check target genai or onnx, whose files it holds")),
    }
}

/// The stages of a pipeline as one graph, by what `genai_config.json` says of them.
fn join_stages(folder: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).map_err(|e| failed(into, &e))?;
    let config = logitfuse_pipeline::read_text_file(&folder.join("genai_config.json"), 16 << 20)?;
    let config: Value = serde_json::from_str(&config)
        .map_err(|e| Error::new(ErrorKind::InvalidData, format!("{}: {e}", folder.display())))?;
    let mut joined = Joined::with_opset("pipeline", crate::emit::OPSET);
    let stages = config["model"]["decoder"]["pipeline"].as_array().into_iter().flatten();
    for (name, stage) in stages.filter_map(|stage| stage.as_object()?.iter().next()) {
        if stage["run_on_prompt"] == false {
            continue;
        }
        let model = Model::open(&folder.join(stage["filename"].as_str().unwrap_or_default()))?;
        let names = |key: &str| stage[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        let forwarded = &stage["output_names_forwarder"];
        let mut part = Part::new(name);
        for tensor in names("inputs").chain(names("outputs")) {
            part = part.rename(tensor, forwarded[tensor].as_str().unwrap_or(tensor));
        }
        if name == "fuse" {
            part = part.rename("fused_logits", "logits");
        }
        joined.add(model, &part)?;
    }
    let mut joined = joined.finish();
    joined.graph_mut().output.retain(|output| !output.name().ends_with("_logits"));
    joined.save_linked(&into.join("model.onnx"))
}

use std::{collections::BTreeMap, fmt::Write as _};

use crate::signature::Signature;

/// The shapes that TensorRT should build engines for. Without them it builds a new engine, for minutes, whenever a
/// sequence grows past what it has seen.
pub(crate) struct TensorRtProfile<'a> {
    pub(crate) signature: &'a Signature,
    pub(crate) context_length: Option<usize>,
    pub(crate) chunk_tokens: usize,
}

/// One point of the profile.
struct Shapes {
    batch: usize,
    chunk: usize,
    past: usize,
}

impl TensorRtProfile<'_> {
    /// The user's options in ONNX Runtime's words, with the shape profiles unless the user has written them.
    pub(crate) fn options(&self, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut options = given.clone();
        for (ours, switch, path) in [
            ("engine_cache", "trt_engine_cache_enable", "trt_engine_cache_path"),
            ("timing_cache", "trt_timing_cache_enable", "trt_timing_cache_path"),
        ] {
            if let Some(folder) = options.remove(ours) {
                options.insert(switch.into(), "1".into());
                options.insert(path.into(), folder);
            }
        }
        if let Some(on) = options.remove("fp16") {
            options.insert("trt_fp16_enable".into(), if matches!(&*on, "true" | "1") { "1" } else { "0" }.into());
        }
        let mut number = |key: &str, default: usize| {
            options.remove(key).and_then(|n| n.parse().ok()).filter(|&n| n > 0).unwrap_or(default)
        };
        let batch = number("max_batch", 1);
        let length = number("max_length", self.context_length.unwrap_or(2048));
        let chunk = number("max_chunk", self.chunk_tokens).min(length);
        if !options.contains_key("trt_profile_min_shapes") {
            for (key, shapes) in [
                ("trt_profile_min_shapes", Shapes { batch: 1, chunk: 1, past: 0 }),
                ("trt_profile_opt_shapes", Shapes { batch, chunk: 1, past: length / 2 }),
                ("trt_profile_max_shapes", Shapes { batch, chunk, past: length }),
            ] {
                options.insert(key.into(), self.shapes(&shapes));
            }
        }
        options
    }

    /// `name:1x1,name:1x0x64,…` for every input whose shape varies.
    fn shapes(&self, Shapes { batch, chunk, past }: &Shapes) -> String {
        let signature = self.signature;
        let total = past + chunk;
        let mut text = format!("{}:{batch}x{chunk}", signature.ids.name);
        if let Some(mask) = &signature.mask {
            let _ = write!(text, ",{}:{batch}x{total}", mask.name);
        }
        if let Some(positions) = &signature.positions {
            let _ = write!(text, ",{}:{batch}x{chunk}", positions.name);
        }
        for tensor in &signature.cache {
            let dims: Vec<String> = tensor.shape(*batch, *past).iter().map(ToString::to_string).collect();
            let _ = write!(text, ",{}:{}", tensor.past, dims.join("x"));
        }
        text
    }
}

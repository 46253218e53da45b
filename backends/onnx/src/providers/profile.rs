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
        for (short, enable, path) in [
            ("engine_cache", "trt_engine_cache_enable", "trt_engine_cache_path"),
            ("timing_cache", "trt_timing_cache_enable", "trt_timing_cache_path"),
        ] {
            if let Some(folder) = options.remove(short) {
                options.insert(enable.into(), "1".into());
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::TensorRtProfile;
    use crate::{Dim, Element, TensorInfo, folder::ModelConfig, signature::Signature};

    fn tensor(name: &str, element: Element, dims: &[&str]) -> TensorInfo {
        let dim = |text: &&str| text.parse().map_or_else(|_| Dim::Named((*text).into()), Dim::Fixed);
        TensorInfo { name: name.into(), element, dims: dims.iter().map(dim).collect() }
    }

    fn options(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        let inputs = [
            tensor("input_ids", Element::I64, &["batch", "tokens"]),
            tensor("attention_mask", Element::I64, &["batch", "total"]),
            tensor("position_ids", Element::I64, &["batch", "tokens"]),
            tensor("past_key_values.0.key", Element::F16, &["batch", "2", "past", "64"]),
        ];
        let outputs = [
            tensor("logits", Element::F16, &["batch", "tokens", "97"]),
            tensor("present.0.key", Element::F16, &["batch", "2", "total", "64"]),
        ];
        let signature = Signature::discover(Path::new("x"), &inputs, &outputs, &ModelConfig::default()).unwrap();
        let profile = TensorRtProfile { signature: &signature, context_length: Some(4096), chunk_tokens: 128 };
        profile.options(&given.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn every_varying_input_gets_a_range() {
        let options =
            options(&[("max_batch", "4"), ("max_length", "1000"), ("fp16", "true"), ("engine_cache", "/cache")]);
        let expected = [
            ("trt_engine_cache_enable", "1"),
            ("trt_engine_cache_path", "/cache"),
            ("trt_fp16_enable", "1"),
            (
                "trt_profile_max_shapes",
                "input_ids:4x128,attention_mask:4x1128,position_ids:4x128,past_key_values.0.key:4x2x1000x64",
            ),
            (
                "trt_profile_min_shapes",
                "input_ids:1x1,attention_mask:1x1,position_ids:1x1,past_key_values.0.key:1x2x0x64",
            ),
            (
                "trt_profile_opt_shapes",
                "input_ids:4x1,attention_mask:4x501,position_ids:4x1,past_key_values.0.key:4x2x500x64",
            ),
        ];
        assert_eq!(options, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn profiles_that_the_user_wrote_are_left_alone() {
        let given = [("trt_profile_min_shapes", "input_ids:1x1"), ("device_id", "1")];
        let expected = given.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(options(&given), expected);
    }
}

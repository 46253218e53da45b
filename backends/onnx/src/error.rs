//! ONNX Runtime's errors as errors of logitfuse.

use std::fmt::Display;

use logitfuse_core::{Error, ErrorKind};

/// A run-time failure of ONNX Runtime, on one line, prefixed with what was being done.
pub(crate) fn backend(what: impl Display) -> impl FnOnce(ort::Error) -> Error {
    move |cause| {
        let words = one_line(cause.message());
        match dimension(&words) {
            Some(wrong) => Error::new(ErrorKind::Unsupported, format!("{what}: {wrong}")).with_help(
                "export the model for text generation with dynamic axes, batch and sequence length among them",
            ),
            None => Error::new(ErrorKind::Backend, format!("{what}: {words}"))
                .with_help("fetch or export the model again, or update ONNX Runtime: `logitfuse runtime install`"),
        }
    }
}

/// What ONNX Runtime says of an input of a wrong shape, in words that say who is at fault: the graph's shapes are fixed.
fn dimension(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("Got invalid dimensions for input: ")?;
    let (name, rest) = rest.split_once(" for the following indices index: ")?;
    let (index, rest) = rest.split_once(" Got: ")?;
    let (got, rest) = rest.split_once(" Expected: ")?;
    let expected = rest.split(' ').next()?;
    Some(format!("input `{name}` takes {expected} in dimension {index} always, where a text needs {got}"))
}

/// ONNX Runtime's messages come with line breaks, source locations and function signatures. Keeps the words.
pub(crate) fn one_line(message: &str) -> String {
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words.trim_end_matches('.').to_owned();
    // "/onnxruntime_src/onnxruntime/core/x.cc:123 bool f(const T&, ...) [with T = U] the words": the location says nothing to a user.
    let Some(location) = words.find("/onnxruntime_src/").or_else(|| words.find("/onnxruntime/core/")) else {
        return words;
    };
    let (before, rest) = words.split_at(location);
    let Some(signature_end) = end_of_signature(rest) else {
        return words;
    };
    let kept = format!("{before}{}", rest[signature_end..].trim_start());
    if kept.trim().is_empty() { words } else { kept }
}

/// Where the C++ location and signature at the start of `text` end.
fn end_of_signature(text: &str) -> Option<usize> {
    let open = text.find('(')?;
    let mut depth = 0usize;
    let close = text.bytes().enumerate().skip(open).find_map(|(i, byte)| {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(i + 1)
    })?;
    let rest = &text[close..];
    match rest.trim_start().strip_prefix("[with ") {
        Some(with) => with.find(']').map(|end| text.len() - with.len() + end + 1),
        None => Some(close + rest.strip_prefix(" const").map_or(0, |_| " const".len())),
    }
}

#[cfg(test)]
mod tests {
    use super::{dimension, one_line};

    #[test]
    fn dimensions_that_do_not_fit_are_told_in_our_words() {
        let words = one_line(
            "Got invalid dimensions for input: past_key_values.0.key for the following indices\n index: 2 Got: 0 Expected: \
             64\n index: 3 Got: 1 Expected: 2\n Please fix either the inputs/outputs or the model.",
        );
        let ours = "input `past_key_values.0.key` takes 64 in dimension 2 always, where a text needs 0";
        assert_eq!(dimension(&words).as_deref(), Some(ours));
        assert_eq!(dimension("Failed to allocate memory"), None);
    }

    #[test]
    fn source_locations_are_dropped_and_words_kept() {
        let message = "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2195 \
                       onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed\nto load";
        assert_eq!(one_line(message), "[ONNXRuntimeError] : 1 : FAIL : Failed to load");
        assert_eq!(
            one_line("CUDA execution provider is not enabled in this build. "),
            "CUDA execution provider is not enabled in this build"
        );
        assert_eq!(one_line("/onnxruntime_src/a.cc:1 no signature"), "/onnxruntime_src/a.cc:1 no signature");
    }
}

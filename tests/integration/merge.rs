//! Quantised models that others made, merged by `logitfuse merge` and run by ONNX Runtime in Python.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::peer_python;

/// What ONNX Runtime reads of a merged model is numpy's arithmetic on what it reads of the parents, but for the rounding that was told.
#[test]
fn merged_weights_are_those_that_onnx_runtime_reads() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/quantised_merge.py");
    let mut python = Command::new(peer_python());
    python.arg(script).arg(assert_cmd::cargo::cargo_bin("logitfuse")).arg(folder.path());
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schemes = told.as_object().unwrap();
    assert_eq!(schemes.len(), 15);
    for (scheme, errors) in schemes {
        let [error, reported] = ["error", "reported"].map(|key| errors[key].as_f64().unwrap());
        // Kernels that quantise activations multiply with 0 and 255 of 255, in f32.
        assert!((error - reported).abs() <= 0.02 * reported + 1e-6, "{scheme}: {error}, told as {reported}");
        assert!(reported < if scheme.contains('4') { 0.15 } else { 0.02 }, "{scheme}: {reported}");
    }
}

//! What the tests of `logitfuse plugin` share.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

pub(crate) use crate::libraries::{library, patched};

/// `logitfuse plugin …`.
pub(crate) fn plugin(arguments: &[&str], misbehave: Option<&str>) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.arg("plugin").args(arguments).env_remove("RUST_BACKTRACE").env_remove("LOGITFUSE_PLUGIN_PATH");
    command.envs(misbehave.map(|rule| ("LOGITFUSE_MISBEHAVE", rule)));
    command.output().unwrap()
}

/// The results of `plugin check` that are no `passed`: `(group/name, verdict, detail)`.
pub(crate) fn check(file: &Path, arguments: &[&str], misbehave: Option<&str>) -> Vec<(String, String, String)> {
    let arguments = [&["check", file.to_str().unwrap(), "--format", "json"], arguments].concat();
    let output = plugin(&arguments, misbehave);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    let findings = report["findings"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(findings > 0)), "{report:#}");
    let text = |result: &Value, key: &str| result[key].as_str().unwrap_or_default().to_owned();
    report["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["verdict"] != "passed")
        .map(|r| (format!("{}/{}", text(r, "group"), text(r, "name")), text(r, "verdict"), text(r, "detail")))
        .collect()
}

//! Group static: what can be read without running anything.

use object::Object;

use crate::{CaseResult, Group, Outcome};
use logitfuse_core::Law;
use logitfuse_plugin_host::{PluginFile, StrategyMetadata};
use logitfuse_schema::Schema;

pub(crate) fn results(file: &PluginFile) -> Vec<CaseResult> {
    let mut results = vec![
        result(None, "licence", licence(&file.metadata().license)),
        result(None, "onnx-runtime", onnx_runtime(file.bytes())),
    ];
    for strategy in &file.metadata().strategies {
        let id = Some(strategy.info.id.as_str());
        results.push(result(id, "described", described(strategy)));
        results.push(result(id, "defaults", defaults(strategy.schema())));
        results.push(result(id, "laws", laws(strategy)));
    }
    results
}

pub(crate) fn result(strategy: Option<&str>, name: &str, outcome: Outcome) -> CaseResult {
    let (verdict, detail) = outcome.parts();
    CaseResult {
        group: Group::Static,
        name: name.to_owned(),
        strategy: strategy.map(str::to_owned),
        verdict,
        detail,
        seconds: 0.0,
    }
}

/// Whether a licence reads like an SPDX expression: identifiers joined by AND, OR and WITH, with parentheses.
fn licence(expression: &str) -> Outcome {
    if expression.is_empty() {
        return Outcome::Warning(
            "the metadata state no licence, without which the plugin may not be passed on".to_owned(),
        );
    }
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let (mut depth, mut wants_name) = (0_i32, true);
    for word in spaced.split_whitespace() {
        let name = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+' | ':'));
        match word {
            "(" if wants_name => depth += 1,
            ")" if !wants_name && depth > 0 => depth -= 1,
            "AND" | "OR" | "WITH" if !wants_name => wants_name = true,
            _ if wants_name && name && !matches!(word, "AND" | "OR" | "WITH") => wants_name = false,
            _ => return Outcome::Failed(format!("licence {expression:?} is no SPDX expression, at {word:?}")),
        }
    }
    if depth == 0 && !wants_name {
        Outcome::passed()
    } else {
        Outcome::Failed(format!("licence {expression:?} is no SPDX expression"))
    }
}

/// A second ONNX Runtime in the process ends in mixed-up symbols.
fn onnx_runtime(bytes: &[u8]) -> Outcome {
    let imports = object::File::parse(bytes).ok().and_then(|file| {
        let imports = file.imports().ok()?;
        let names = imports.filter_map(|import| match import.ok()?.name() {
            object::NameOrOrdinal::Name(name) => Some(String::from_utf8_lossy(name).into_owned()),
            object::NameOrOrdinal::Ordinal(_) => None,
        });
        Some(names.collect::<Vec<_>>())
    });
    let Some(imports) = imports else { return Outcome::Skipped("its imports cannot be read".to_owned()) };
    match imports.iter().find(|name| name.starts_with("Ort") || name.contains("onnxruntime")) {
        Some(name) => Outcome::Failed(format!("imports {name}: a plugin must not bring ONNX Runtime along")),
        None => Outcome::passed(),
    }
}

fn described(strategy: &StrategyMetadata) -> Outcome {
    let info = &strategy.info;
    let mut missing = Vec::new();
    for (what, text) in [("summary", &info.summary), ("equation", &info.equation)] {
        if text.is_empty() {
            missing.push(what.to_owned());
        }
    }
    missing.extend(
        info.roles.iter().filter(|role| role.summary.is_empty()).map(|role| format!("summary of role {}", role.name)),
    );
    missing.extend(
        info.trace.iter().filter(|column| column.unit.is_empty()).map(|column| format!("unit of {}", column.name)),
    );
    let properties = strategy.schema().root().get("properties").and_then(serde_json::Value::as_object);
    let silent = |schema: &serde_json::Value| schema.get("description").is_none();
    missing.extend(
        properties.into_iter().flatten().filter(|(_, s)| silent(s)).map(|(name, _)| format!("description of {name}")),
    );
    if missing.is_empty() {
        Outcome::passed()
    } else {
        Outcome::Warning(format!("the metadata lack: {}", missing.join(", ")))
    }
}

/// A default that its own schema refuses, and a table that lets misspelt names pass.
fn defaults(schema: &Schema) -> Outcome {
    let properties = schema.root().get("properties").and_then(serde_json::Value::as_object);
    let least = crate::sample_params::least(schema);
    for (name, property) in properties.into_iter().flatten() {
        let Some(default) = schema.resolve(property).and_then(|p| property.get("default").or_else(|| p.get("default")))
        else {
            continue;
        };
        let mut table = least.clone();
        table[name] = default.clone();
        if !default.is_null()
            && let Err(refusal) = schema.check(&table)
        {
            return Outcome::Failed(format!(
                "the default of {name} breaks its schema: {} {}",
                refusal.pointer, refusal.why
            ));
        }
    }
    if schema.root().get("additionalProperties") == Some(&serde_json::Value::Bool(false)) {
        Outcome::passed()
    } else {
        Outcome::Warning("the schema lacks \"additionalProperties\": false, so a misspelt name passes".to_owned())
    }
}

fn laws(strategy: &StrategyMetadata) -> Outcome {
    let unknown: Vec<String> =
        strategy.info.laws.iter().filter(|law| matches!(law, Law::Other(_))).map(ToString::to_string).collect();
    if unknown.is_empty() {
        Outcome::passed()
    } else {
        Outcome::Warning(format!("not checked: the claim {}", unknown.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_expressions() {
        for good in ["MIT", "MIT OR Apache-2.0", "(MIT AND Zlib) OR GPL-2.0-only WITH Classpath-exception-2.0"] {
            assert!(matches!(licence(good), Outcome::Passed(_)), "{good}");
        }
        for bad in ["MIT/Apache", "MIT OR", "see file", "(MIT", "OR MIT", "MIT) OR (MIT"] {
            assert!(matches!(licence(bad), Outcome::Failed(_)), "{bad}");
        }
    }
}

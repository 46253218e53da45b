//! Paths in a document: which values are paths, and what they are relative to.

use std::path::{Component, Path, PathBuf};

use serde_json::Value as Json;

use super::{
    document::{Node, Table, Value},
    schema::{FILE, resolve},
};

/// Rewrites every path of a table that has this schema.
pub(crate) fn rewrite(schema: &Json, table: &mut Table, with: &dyn Fn(&str) -> String) {
    let schema = resolve(&FILE, schema);
    for (key, entry) in table {
        let property = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
        rewrite_node(property, &mut entry.node, with);
    }
}

fn rewrite_node(schema: &Json, node: &mut Node, with: &dyn Fn(&str) -> String) {
    let schema = resolve(&FILE, schema);
    match &mut node.value {
        Value::String(text) if is_path(schema, text) => *text = with(text),
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite_node(&schema["items"], item, with)),
        Value::Table(table) => rewrite(schema, table, with),
        _ => {}
    }
}

/// Whether this text is a path there, and not one of the words that may stand there as well.
fn is_path(schema: &Json, text: &str) -> bool {
    let alternatives = schema["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    let word = alternatives.iter().filter_map(|one| one["enum"].as_array()).flatten().any(|word| word == text);
    !word && alternatives.iter().chain([schema]).any(|one| one["format"] == "path")
}

/// The same file, seen from another folder: what the working directory calls `path`, `folder` calls the result.
pub(crate) fn seen_from(folder: &Path, path: &str) -> String {
    let plain = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if Path::new(path).is_absolute() || folder.as_os_str().is_empty() {
        return path.to_owned();
    }
    let up: PathBuf = folder.components().filter(|part| matches!(part, Component::Normal(_))).map(|_| "..").collect();
    // Where a link leads elsewhere, up is not back.
    let back = folder.join(&up).canonicalize().ok();
    if plain && back.is_some() && back == Path::new(".").canonicalize().ok() {
        return up.join(path).display().to_string();
    }
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

//! What schemas say.

use serde_json::Value as Json;

/// References that lead to references end after so many.
const LONGEST_CHAIN: usize = 16;

/// Words that say something about a schema and nothing about values.
pub(crate) const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "format",
    "readOnly",
    "writeOnly",
    "unit",
];

/// Whether a keyword is one of [`ANNOTATIONS`], or a private one.
pub(crate) fn is_annotation(keyword: &str) -> bool {
    ANNOTATIONS.contains(&keyword) || keyword.starts_with("x-")
}

/// What `$ref` names within `root`, or the schema itself; `None` for a reference that leads nowhere, or in a circle.
pub(crate) fn follow<'s>(root: &'s Json, schema: &'s Json) -> Option<&'s Json> {
    let mut schema = schema;
    for _ in 0..LONGEST_CHAIN {
        match schema.get("$ref").and_then(Json::as_str) {
            None => return Some(schema),
            Some(to) => schema = root.pointer(to.strip_prefix('#')?)?,
        }
    }
    None
}

/// The schema behind references, and behind an `anyOf` or `allOf` of one form beside null: how optional values are written.
///
/// ```
/// use serde_json::json;
///
/// let root = json!({ "definitions": { "A": { "type": "string" } } });
/// let optional = json!({ "anyOf": [{ "$ref": "#/definitions/A" }, { "type": "null" }] });
/// assert_eq!(logitfuse_schema::resolve(&root, &optional)["type"], "string");
/// ```
pub fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    let mut schema = schema;
    for _ in 0..LONGEST_CHAIN {
        let Some(target) = follow(root, schema) else { return schema };
        schema = target;
        let several = schema.get("anyOf").or_else(|| schema.get("allOf")).and_then(Json::as_array);
        let mut present = several.into_iter().flatten().filter(|one| !is_null(one));
        match (present.next(), present.next()) {
            (Some(only), None) => schema = only,
            _ => break,
        }
    }
    schema
}

/// Whether a schema allows nothing but null.
pub(crate) fn is_null(schema: &Json) -> bool {
    schema.get("type").is_some_and(|kind| kind == "null")
}

/// What a property is for: its own description, or that of the type that it refers to, on one line without the period.
pub fn description(root: &Json, schema: &Json) -> Option<String> {
    let own = schema.get("description").and_then(Json::as_str);
    let text = own.or_else(|| resolve(root, schema).get("description").and_then(Json::as_str))?;
    Some(text.split_whitespace().collect::<Vec<&str>>().join(" ").trim_end_matches('.').to_owned())
}

/// The values that a schema lists, in an `enum`, a `const`, or a `oneOf` in which each is described by itself. Empty if it
/// lists none.
pub fn choices(schema: &Json) -> Vec<&Json> {
    let lists = |one: &Json| one.get("const").is_some() || one.get("enum").is_some_and(Json::is_array);
    let described = schema.get("oneOf").and_then(Json::as_array).filter(|all| all.iter().all(lists));
    let mut choices = Vec::new();
    for one in described.into_iter().flatten().chain([schema]) {
        choices.extend(one.get("const"));
        choices.extend(one.get("enum").and_then(Json::as_array).into_iter().flatten());
    }
    choices
}

/// The names of a `type` keyword, if it is well formed.
pub fn types(keyword: &Json) -> Option<Vec<&str>> {
    let list = match keyword {
        Json::String(one) => vec![one.as_str()],
        Json::Array(list) => list.iter().map(Json::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let known = ["null", "boolean", "integer", "number", "string", "array", "object"];
    (!list.is_empty() && list.iter().all(|t| known.contains(t))).then_some(list)
}

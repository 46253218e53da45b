//! The JSON Schema of an experiment's file, made from the types that read it.
//!
//! It is what editors complete from and what files are checked against, so neither can lag behind the other.

use std::sync::LazyLock;

pub(crate) use logitfuse_schema::resolve;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Config,
    served::ModelConfig,
    suite::{ExpectConfig, GapConfig},
    task::TaskConfig,
};

/// The tables that a variant, a task and a sweep may change.
pub(crate) const LAYERED: [&str; 5] = ["run", "sources", "strategy", "plugins", "speculation"];

/// What a single file may hold. No key is required but `schema`, because what it extends may say the rest.
pub(crate) static FILE: LazyLock<Value> = LazyLock::new(|| {
    let mut file = complete();
    let root = file.clone();
    relax(&root, &mut file, "", &mut Vec::new());
    file["required"] = json!(["schema"]);
    file
});

/// What everything together must hold.
pub(crate) static WHOLE: LazyLock<Value> = LazyLock::new(complete);

/// The JSON Schema (draft 7) of an experiment's TOML, as it is published beside the project for editors.
///
/// ```
/// let schema = logitfuse_config::json_schema();
/// assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
/// assert!(schema["properties"]["tasks"].is_object());
/// ```
pub fn json_schema() -> Value {
    FILE.clone()
}

/// The same with the parameters of strategies, by what `use` calls them: an editor completes `params` then too.
///
/// ```
/// use logitfuse_config::json_schema_with;
/// use logitfuse_pipeline::built_in;
///
/// let schema = json_schema_with(built_in().into_iter().map(|info| (info.id, info.params_schema)));
/// let known = schema["definitions"]["StrategyConfig"]["allOf"].as_array().unwrap();
/// assert!(known.iter().any(|one| one["if"]["properties"]["use"]["const"] == "dynamic-kl"));
/// ```
///
/// What is no JSON (a plugin's mistake) is left out.
pub fn json_schema_with(strategies: impl IntoIterator<Item = (String, String)>) -> Value {
    let mut root = json_schema();
    let known = strategies.into_iter().filter_map(|(name, params)| {
        let mut params: Map<String, Value> = serde_json::from_str(&params).ok()?;
        // References inside it are to itself; and a layer may leave out what another one says.
        params.insert("$id".to_owned(), json!(format!("logitfuse:strategies/{name}")));
        params.remove("required");
        Some(json!({
            "if": { "properties": { "use": { "const": name } }, "required": ["use"] },
            "then": { "properties": { "params": params } },
        }))
    });
    root["definitions"]["StrategyConfig"]["allOf"] = known.collect();
    root
}

fn complete() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let task = generator.subschema_for::<TaskConfig>().to_value();
    let gap = generator.subschema_for::<GapConfig>().to_value();
    let expect = generator.subschema_for::<ExpectConfig>().to_value();
    let model = generator.subschema_for::<ModelConfig>().to_value();
    let mut root = generator.into_root_schema_for::<Config>().to_value();

    let layer: Map<String, Value> =
        LAYERED.iter().filter_map(|key| Some(((*key).to_owned(), root["properties"].get(*key)?.clone()))).collect();
    let sweep = json!({
        "description": "Lists of values by path; every combination of them is a variant.",
        "type": "object",
        "properties": {
            "zip": { "type": "boolean", "description": "Take the first of every list, then the second, instead of every combination.", "default": false },
        },
        "additionalProperties": { "description": "The values, or a table of paths that begin alike.", "type": ["array", "object"] },
    });
    let mut variant = layer.clone();
    variant.insert("sweep".to_owned(), json!({ "$ref": "#/definitions/SweepConfig" }));
    let table = |description: &str, properties: Map<String, Value>| json!({ "description": description, "type": "object", "properties": properties, "additionalProperties": false });
    let definitions = &mut root["definitions"];
    definitions["SweepConfig"] = sweep;
    definitions["Layer"] = table("Keys of the experiment that are changed.", layer);
    definitions["VariantConfig"] = table("The experiment with these keys changed.", variant);
    definitions["TaskConfig"]["properties"]["with"] =
        json!({ "description": "What this task changes in the experiment.", "$ref": "#/definitions/Layer" });

    let by_name = |description: &str, of: &Value| json!({ "description": description, "type": "object", "additionalProperties": of });
    let properties = &mut root["properties"];
    properties["extends"] = json!({
        "description": "Files that this one changes, the first lowest; relative to this file.",
        "type": "array", "items": { "type": "string" },
    });
    properties["tasks"] = by_name("Data with questions, by name.", &task);
    properties["variants"] = by_name(
        "The experiment's variants, by name; one called `default` if absent.",
        &json!({ "$ref": "#/definitions/VariantConfig" }),
    );
    properties["sweep"] = json!({ "$ref": "#/definitions/SweepConfig" });
    properties["gap"] = gap;
    properties["expect"] = json!({
        "description": "What must hold of the result.", "type": "array", "items": expect,
    });
    properties["models"] = json!({
        "description": "Fusions of the sources that a server offers by name; the experiment's own if absent.",
        "type": "array", "items": model,
    });
    root["title"] = json!("An experiment of logitfuse");
    unlink(&mut root);
    root
}

/// Descriptions are those of rustdoc, whose links lead nowhere in an editor.
fn unlink(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            for (keyword, value) in keywords {
                match value {
                    Value::String(text) if keyword == "description" => *text = without_links(text),
                    _ => unlink(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unlink),
        _ => {}
    }
}

/// `[text](target)` and ``[`name`]`` as their text; other brackets, such as TOML's tables, stay.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        out += before;
        let link = after.split_once(']').and_then(|(name, after)| {
            let target = after.strip_prefix('(').and_then(|after| after.split_once(')'));
            let reference = (name.len() > 2 && name.starts_with('`') && name.ends_with('`')).then_some(after);
            Some((name, target.map(|(_, after)| after).or(reference)?))
        });
        rest = if let Some((name, after)) = link {
            out += name;
            after
        } else {
            out.push('[');
            after
        };
    }
    out + rest
}

/// Takes `required` away from every table that another layer may complete: all but those in lists, which are replaced as a
/// whole.
fn relax(root: &Value, schema: &mut Value, pointer: &str, seen: &mut Vec<String>) {
    let mut todo = vec![pointer.to_owned()];
    while let Some(pointer) = todo.pop() {
        if seen.contains(&pointer) {
            continue;
        }
        if let Some(table) = schema.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            table.remove("required");
        }
        let Some(here) = root.pointer(&pointer) else { continue };
        if let Some(target) = here["$ref"].as_str() {
            todo.push(target.trim_start_matches('#').to_owned());
        }
        for key in here["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            todo.push(format!("{pointer}/properties/{key}"));
        }
        for key in ["anyOf", "allOf"] {
            let alternatives = here[key].as_array().map_or(0, Vec::len);
            todo.extend((0..alternatives).map(|i| format!("{pointer}/{key}/{i}")));
        }
        if here["additionalProperties"].is_object() {
            todo.push(format!("{pointer}/additionalProperties"));
        }
        seen.push(pointer);
    }
}

/// The schema of a type's own table.
pub(crate) fn of<T: JsonSchema>() -> &'static Value {
    let name = T::schema_name();
    &WHOLE["definitions"][&*name]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_their_text() {
        assert_eq!(
            without_links("See [the page](crate) of [`Cell`], in `[run]` or [x]."),
            "See the page of `Cell`, in `[run]` or [x]."
        );
    }

    #[test]
    fn only_what_lists_hold_is_required_of_a_file() {
        let required = |schema: &Value, name: &str| schema["definitions"][name]["required"].is_array();
        for name in ["SourceConfig", "TaskConfig", "GapConfig", "PluginConfig", "FewshotConfig"] {
            assert!(required(&WHOLE, name) && !required(&FILE, name), "{name}");
        }
        for name in ["PipelineConfig", "MetricConfig", "ExpectConfig", "ModelConfig"] {
            assert!(required(&WHOLE, name) && required(&FILE, name), "{name}");
        }
        assert_eq!(FILE["required"], json!(["schema"]));
    }
}

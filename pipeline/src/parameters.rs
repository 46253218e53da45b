//! What a strategy's schema says of its parameters, for people.

use logitfuse_core::StrategyInfo;
use serde::Serialize;
use serde_json::Value;

/// One parameter of a strategy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// Its key; a key of a table within has a dot: `posterior.eta`.
    pub name: String,
    /// `number`, `integer`, `true or false`, `text`, `list of number`, `choice`.
    pub kind: String,
    /// What it is when absent; null where absence has a meaning of its own, which `summary` tells.
    pub default: Value,
    /// What it may be, in words; absent where that is anything of its kind.
    pub range: Option<String>,
    /// `nats`, `tokens`, …; absent for plain numbers and everything else.
    pub unit: Option<String>,
    /// What it does.
    pub summary: String,
    /// What a choice is between.
    pub choices: Vec<Choice>,
}

/// One value of a parameter that is a choice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// As it is written in a TOML.
    pub value: String,
    /// What it means.
    pub summary: String,
}

/// The parameters of a strategy, built in or plugin, from its JSON Schema.
///
/// ```
/// use logitfuse_pipeline::{built_in, parameters};
///
/// let strategies = built_in();
/// let proxy = strategies.iter().find(|s| s.id == "static-proxy").unwrap();
/// let parameters = parameters(proxy);
/// let base_weight = parameters.iter().find(|p| p.name == "base_weight").unwrap();
/// assert_eq!((base_weight.kind.as_str(), base_weight.range.as_deref()), ("number", Some("0 or more")));
/// assert_eq!(base_weight.default, 1.0);
/// ```
pub fn parameters(info: &StrategyInfo) -> Vec<Parameter> {
    let schema: Value = serde_json::from_str(&info.params_schema).unwrap_or_default();
    let mut found = Vec::new();
    collect(&schema, &schema, "", &mut found);
    found
}

fn collect(root: &Value, table: &Value, prefix: &str, found: &mut Vec<Parameter>) {
    for (name, property) in table["properties"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        let what = resolve(root, property);
        if what["properties"].is_object() {
            collect(root, what, &format!("{name}."), found);
            continue;
        }
        let choices = choices(what);
        found.push(Parameter {
            kind: if choices.is_empty() { kind(root, what) } else { "choice".to_owned() },
            default: property["default"].clone(),
            range: range(property).or_else(|| range(what)).or_else(|| range(resolve(root, &what["items"]))),
            unit: unit(property, &name),
            summary: one_line(&property["description"]),
            choices,
            name,
        });
    }
}

/// The schema behind a reference, or behind "this or null".
fn resolve<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let alternatives = schema["anyOf"].as_array().or_else(|| schema["allOf"].as_array());
    if let Some(one) = alternatives.and_then(|list| list.iter().find(|s| s["type"] != "null")) {
        return resolve(root, one);
    }
    let referred = schema["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?));
    referred.unwrap_or(schema)
}

fn choices(schema: &Value) -> Vec<Choice> {
    let described = schema["oneOf"].as_array().into_iter().flatten().map(|one| (&one["const"], &one["description"]));
    let bare = schema["enum"].as_array().into_iter().flatten().map(|value| (value, &Value::Null));
    let named = described.chain(bare).filter_map(|(value, summary)| Some((value.as_str()?, summary)));
    named.map(|(value, summary)| Choice { value: value.to_owned(), summary: one_line(summary) }).collect()
}

fn kind(root: &Value, schema: &Value) -> String {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    };
    match types[..] {
        ["boolean"] => "true or false".to_owned(),
        ["string"] => "text".to_owned(),
        ["array"] => format!("list of {}", kind(root, resolve(root, &schema["items"]))),
        ["object"] => "table".to_owned(),
        [number] => number.to_owned(),
        _ => "value".to_owned(),
    }
}

fn range(schema: &Value) -> Option<String> {
    let bound = |key: &str| schema[key].as_number();
    let low = match (bound("minimum"), bound("exclusiveMinimum")) {
        (Some(least), _) => Some(format!("{least} or more")),
        (None, Some(below)) => Some(format!("above {below}")),
        (None, None) => None,
    };
    let high = match (bound("maximum"), bound("exclusiveMaximum")) {
        (Some(most), _) => Some(format!("{most} or less")),
        (None, Some(above)) => Some(format!("below {above}")),
        (None, None) => None,
    };
    let both = [low, high].into_iter().flatten().collect::<Vec<String>>().join(", ");
    // `0.0 or more` reads like a measurement.
    (!both.is_empty()).then(|| both.replace(".0 or", " or").replace(".0,", ",").trim_end_matches(".0").to_owned())
}

fn unit(property: &Value, name: &str) -> Option<String> {
    let by_name = || ["nats", "tokens"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
    property["unit"].as_str().or_else(by_name).map(str::to_owned)
}

fn one_line(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(schema: &Value) -> Vec<Parameter> {
        parameters(&StrategyInfo::new("test", []).with_params_schema(schema.to_string()))
    }

    #[test]
    fn every_form_of_a_schema_is_understood() {
        let found = of(&json!({
            "$defs": {
                "Mode": { "oneOf": [{ "const": "a", "description": "The\nfirst." }, { "const": "b" }] },
                "Inner": { "properties": { "eta": { "type": "number", "minimum": 0.0, "default": 1.0 } } },
            },
            "properties": {
                "budget_nats": { "type": ["number", "null"], "exclusiveMinimum": 0.0 },
                "mode": { "$ref": "#/$defs/Mode", "default": "a" },
                "other": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }] },
                "table": { "anyOf": [{ "$ref": "#/$defs/Inner" }, { "type": "null" }] },
                "weights": { "type": ["array", "null"], "items": { "type": "number", "minimum": 0.0, "maximum": 1.5 } },
            },
        }));
        let names: Vec<&str> = found.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["budget_nats", "mode", "other", "table.eta", "weights"]);
        let kinds: Vec<&str> = found.iter().map(|p| p.kind.as_str()).collect();
        assert_eq!(kinds, ["number", "choice", "choice", "number", "list of number"]);
        let ranges: Vec<Option<&str>> = found.iter().map(|p| p.range.as_deref()).collect();
        assert_eq!(ranges, [Some("above 0"), None, None, Some("0 or more"), Some("0 or more, 1.5 or less")]);
        assert_eq!(found[0].unit.as_deref(), Some("nats"));
        assert_eq!(found[1].choices[0], Choice { value: "a".to_owned(), summary: "The first.".to_owned() });
        assert_eq!((found[3].default.clone(), found[1].default.clone()), (json!(1.0), json!("a")));
    }

    #[test]
    fn no_parameters_are_none() {
        assert_eq!(of(&json!({ "type": "object" })), []);
        assert_eq!(parameters(&StrategyInfo::new("test", []).with_params_schema("nonsense")), []);
    }
}

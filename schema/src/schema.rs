//! A schema that is checked before it is used.

use serde_json::Value as Json;

use crate::{
    Refusal,
    ends::requires_itself,
    keywords::{follow, is_annotation, types},
    validate,
};

/// Schemas within schemas end here.
const DEEPEST: usize = 64;
/// So many schemas may be within one; no honest one has as many parameters.
const MOST_SCHEMAS: usize = 10_000;
/// Every look at a value may follow references, so their names must not be long.
const LONGEST_REFERENCE: usize = 1_000;

/// A schema of a table, every keyword of which is understood.
#[derive(Clone, Debug)]
pub struct Schema {
    root: Json,
}

impl Schema {
    /// A schema of a table. The error is the place in the schema and what is wrong there.
    pub fn new(root: &Json) -> Result<Self, String> {
        let schema = Self { root: root.clone() };
        if root.get("type").and_then(Json::as_str) != Some("object") {
            return Err("/type: must be \"object\": parameters are a table".to_owned());
        }
        schema.understand(root, "", 0, &mut 0)?;
        if let Some(at) = requires_itself(root) {
            return Err(format!("{at}: is required within itself, so that no parameters fulfil it"));
        }
        Ok(schema)
    }

    /// The schema as it was written.
    pub fn root(&self) -> &Json {
        &self.root
    }

    /// Checks parameters; the first thing that is wrong.
    pub fn check(&self, params: &Json) -> Result<(), Refusal> {
        let violations = validate(&self.root, &self.root, params);
        violations.first().map_or(Ok(()), |violation| Err(Refusal::new(violation, params)))
    }

    /// What `$ref` names, or the schema itself.
    pub fn resolve<'a>(&'a self, schema: &'a Json) -> Option<&'a Json> {
        follow(&self.root, schema)
    }

    /// Refuses keywords outside the supported part, so that a schema never promises more than is checked.
    fn understand(&self, schema: &Json, at: &str, depth: usize, seen: &mut usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("{at}: nested more than {DEEPEST} deep"));
        }
        *seen += 1;
        if *seen > MOST_SCHEMAS {
            return Err(format!("{at}: more than {MOST_SCHEMAS} schemas within one"));
        }
        let object = match schema {
            Json::Bool(_) => return Ok(()),
            Json::Object(object) => object,
            _ => return Err(format!("{at}: a schema is an object, true or false")),
        };
        for (key, value) in object {
            let at = format!("{at}/{key}");
            let mut within = |schema: &Json, at: &str| self.understand(schema, at, depth + 1, seen);
            match key.as_str() {
                "$ref" => {
                    let local = |to: &str| to.len() <= LONGEST_REFERENCE && (to == "#" || to.starts_with("#/"));
                    if !value.as_str().is_some_and(local) || follow(&self.root, schema).is_none() {
                        return Err(format!("{at}: leads nowhere in this schema, or in a circle"));
                    }
                }
                "$defs" | "definitions" | "properties" => {
                    let table = value.as_object().ok_or_else(|| format!("{at}: must be an object"))?;
                    for (name, schema) in table {
                        within(schema, &format!("{at}/{name}"))?;
                    }
                }
                "additionalProperties" | "items" | "not" | "if" | "then" | "else" => within(value, &at)?,
                "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                    let list = value.as_array().filter(|list| !list.is_empty());
                    for (index, schema) in list.ok_or_else(|| format!("{at}: must be a list"))?.iter().enumerate() {
                        within(schema, &format!("{at}/{index}"))?;
                    }
                }
                "type" if types(value).is_some() => {}
                "required" if value.as_array().is_some_and(|list| list.iter().all(Json::is_string)) => {}
                "enum" if value.is_array() => {}
                "const" => {}
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() => {}
                "multipleOf" if value.as_f64().is_some_and(|step| step > 0.0) => {}
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
                    if value.is_u64() => {}
                "uniqueItems" if value.is_boolean() => {}
                key if is_annotation(key) => {}
                _ => return Err(format!("{at}: not a keyword that parameters may use, or not of its form")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refusal(schema: &Value, value: &Value) -> Option<(String, String)> {
        let refusal = Schema::new(schema).expect("a schema of the supported part").check(value).err()?;
        Some((refusal.pointer, refusal.why))
    }

    #[test]
    fn what_schemars_writes_is_understood() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "P", "type": "object",
            "properties": {
                "alpha": { "type": "number", "format": "double", "default": 1.0, "minimum": 0 },
                "mode": { "$ref": "#/$defs/Mode" },
                "weights": { "type": ["array", "null"], "items": { "type": "number" }, "maxItems": 2 },
            },
            "additionalProperties": false,
            "$defs": { "Mode": { "oneOf": [
                { "type": "string", "const": "fast" },
                { "type": "object", "properties": { "depth": { "type": "integer" } }, "required": ["depth"], "additionalProperties": false },
            ] } },
        });
        let at = |value: Value| refusal(&schema, &value).map(|(pointer, _)| pointer);
        assert_eq!(at(json!({ "alpha": 2, "mode": { "depth": 3.0 }, "weights": null })), None);
        assert_eq!(at(json!({ "alpha": -1 })).as_deref(), Some("/alpha"));
        assert_eq!(at(json!({ "alpha": "1" })).as_deref(), Some("/alpha"));
        assert_eq!(at(json!({ "mode": { "depth": 1.5 } })).as_deref(), Some("/mode/depth"));
        assert_eq!(at(json!({ "mode": "slow" })).as_deref(), Some("/mode"));
        assert_eq!(at(json!({ "weights": [1, "x"] })).as_deref(), Some("/weights/1"));
        assert_eq!(at(json!({ "weights": [1, 2, 3] })).as_deref(), Some("/weights"));
        let (pointer, why) = refusal(&schema, &json!({ "alhpa": 1 })).expect("a misspelt name");
        assert_eq!(
            (pointer.as_str(), why.as_str()),
            ("/alhpa", "no parameter has this name; there are alpha, mode, weights")
        );
    }

    #[test]
    fn conditions_switch_parameters_off() {
        let schema = json!({
            "type": "object",
            "properties": { "mode": { "enum": ["fast", "slow", null] }, "depth": { "type": ["integer", "null"] } },
            "if": { "properties": { "mode": { "const": "slow" } }, "required": ["mode"] },
            "then": { "required": ["depth"] },
            "else": { "properties": { "depth": { "type": "null" } } },
        });
        assert_eq!(refusal(&schema, &json!({ "mode": "slow", "depth": 3 })), None);
        assert_eq!(refusal(&schema, &json!({ "mode": "fast", "depth": null })), None);
        let (pointer, why) = refusal(&schema, &json!({ "depth": 3 })).expect("a depth without its mode");
        assert_eq!((pointer.as_str(), why.as_str()), ("/depth", "must be left out beside the other parameters"));
        assert_eq!(refusal(&schema, &json!({ "mode": "slow" })).expect("no depth").1, "`depth` is missing");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (schema, at) in [
            (json!({ "type": "object", "properties": { "a": { "pattern": "^x" } } }), "/properties/a/pattern"),
            (
                json!({ "type": "object", "properties": { "a": { "$ref": "https://example.org/x" } } }),
                "/properties/a/$ref",
            ),
            (json!({ "type": "object", "properties": { "a": { "type": "float" } } }), "/properties/a/type"),
            (json!({ "type": "array" }), "/type"),
        ] {
            assert!(Schema::new(&schema).expect_err("refused").starts_with(at));
        }
    }

    #[test]
    fn schemas_that_no_value_fulfils_or_that_are_too_many_are_refused() {
        let itself = json!({ "type": "object", "required": ["a"], "properties": { "a": { "$ref": "#" } } });
        assert_eq!(
            Schema::new(&itself).expect_err("refused"),
            "/properties/a: is required within itself, so that no parameters fulfil it"
        );
        let many: serde_json::Map<String, Value> = (0..20_000).map(|n| (n.to_string(), json!({}))).collect();
        let refused = Schema::new(&json!({ "type": "object", "properties": many })).expect_err("refused");
        assert!(refused.ends_with(": more than 10000 schemas within one"), "{refused}");
        let long = format!("#/$defs/{}", "x".repeat(2_000));
        let defs = json!({ "x".repeat(2_000): {} });
        let schema = json!({ "type": "object", "properties": { "a": { "$ref": long } }, "$defs": defs });
        assert!(Schema::new(&schema).expect_err("refused").starts_with("/properties/a/$ref: leads nowhere"));
    }

    /// A hundred thousand faults, each of which might hold a copy of a long description.
    #[test]
    fn faults_are_told_without_copies_of_what_a_key_is_for() {
        let about = "x".repeat(100_000);
        let list = json!({ "type": "array", "description": about, "items": { "type": "number" } });
        let schema = json!({ "type": "object", "properties": { "a": list } });
        let value = json!({ "a": vec!["no"; 50_000] });
        let found = validate(&schema, &schema, &value);
        assert_eq!(found.len(), 50_000);
        assert!(found.iter().filter(|violation| violation.about.is_some()).count() <= 256);
        // Looking for duplicates is work, too.
        let unique = json!({ "type": "object", "properties": { "a": { "type": "array", "uniqueItems": true } } });
        let value = json!({ "a": (0..50_000).collect::<Vec<_>>() });
        assert!(Schema::new(&unique).expect("sound").check(&value).is_err_and(|refusal| refusal.why.contains("too")));
    }

    #[test]
    fn circles_end() {
        let schema = json!({ "type": "object", "$defs": { "A": { "$ref": "#/$defs/A" } }, "properties": { "a": { "$ref": "#/$defs/A" } } });
        assert!(Schema::new(&schema).is_err());
        let nested = json!({ "type": "object", "additionalProperties": { "$ref": "#" } });
        let mut value = json!({});
        for _ in 0..100 {
            value = json!({ "a": value });
        }
        assert!(Schema::new(&nested).expect("recursion is allowed").check(&value).is_err());
        let maze = json!({ "type": "object", "allOf": [{ "$ref": "#" }, { "$ref": "#" }] });
        assert!(Schema::new(&maze).expect("recursion is allowed").check(&json!({})).is_err());
    }
}

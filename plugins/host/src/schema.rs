//! The part of JSON Schema that describes tables of parameters.
//!
//! Why the host checks at all: a plugin in C asks for the keys that it knows, and a misspelt key would be ignored in
//! silence. Why not a whole JSON Schema library: those bring more code than everything else in this crate, for remote
//! references and formats that no parameter needs. Keywords outside this part are refused when the metadata is read, so a
//! schema never promises more than is checked.

use std::cell::Cell;

use serde_json::{Map, Value};

/// Words that say something about a schema and nothing about values.
const ANNOTATIONS: &[&str] = &[
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
/// References that lead in a circle end here.
const DEEPEST: usize = 64;
/// Schemas within schemas may multiply; no honest one needs this many looks at a value.
const MOST_LOOKS: u32 = 100_000;

/// How deep a check is, and how many looks it has left.
#[derive(Clone, Copy)]
struct Run<'a> {
    depth: usize,
    looks: &'a Cell<u32>,
}

impl Run<'_> {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    fn exhausted(self) -> bool {
        let left = self.looks.get();
        self.looks.set(left.saturating_sub(1));
        left == 0 || self.depth > DEEPEST
    }
}

/// Whether a number keeps to a bound.
type Holds = fn(f64, f64) -> bool;

/// A schema whose every keyword is understood.
#[derive(Clone, Debug)]
pub struct Schema {
    root: Value,
}

/// A value that a schema refuses: the JSON pointer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The JSON pointer of the value.
    pub pointer: String,
    /// What is wrong with it.
    pub why: String,
}

impl Schema {
    /// A schema of a table. The error is the place in the schema and what is wrong there.
    pub fn new(root: &Value) -> Result<Self, String> {
        let schema = Self { root: root.clone() };
        if root.get("type").and_then(Value::as_str) != Some("object") {
            return Err("/type: must be \"object\": parameters are a table".to_owned());
        }
        schema.understand(root, "", 0)?;
        Ok(schema)
    }

    /// The schema as it was written.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Checks parameters.
    pub fn check(&self, params: &Value) -> Result<(), Refusal> {
        self.check_at(&self.root, params, "", Run { depth: 0, looks: &Cell::new(MOST_LOOKS) })
    }

    /// What `$ref` names, or the schema itself.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        let mut schema = schema;
        for _ in 0..DEEPEST {
            match schema.get("$ref").and_then(Value::as_str) {
                None => return Some(schema),
                Some(to) => schema = self.root.pointer(to.strip_prefix('#')?)?,
            }
        }
        None
    }

    fn understand(&self, schema: &Value, at: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("{at}: nested more than {DEEPEST} deep"));
        }
        let object = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(object) => object,
            _ => return Err(format!("{at}: a schema is an object, true or false")),
        };
        for (key, value) in object {
            let at = format!("{at}/{key}");
            let within = |schema: &Value, at: &str| self.understand(schema, at, depth + 1);
            match key.as_str() {
                "$ref" => {
                    let local = value.as_str().is_some_and(|to| to == "#" || to.starts_with("#/"));
                    if !local || self.resolve(schema).is_none() {
                        return Err(format!("{at}: leads nowhere in this schema"));
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
                "required" if value.as_array().is_some_and(|list| list.iter().all(Value::is_string)) => {}
                "enum" if value.is_array() => {}
                "const" => {}
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() => {}
                "multipleOf" if value.as_f64().is_some_and(|step| step > 0.0) => {}
                "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
                    if value.is_u64() => {}
                "uniqueItems" if value.is_boolean() => {}
                key if ANNOTATIONS.contains(&key) || key.starts_with("x-") => {}
                _ => return Err(format!("{at}: not a keyword that parameters may use, or not of its form")),
            }
        }
        Ok(())
    }

    fn check_at(&self, schema: &Value, value: &Value, pointer: &str, run: Run<'_>) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal { pointer: pointer.to_owned(), why });
        if run.exhausted() {
            return refuse(format!("nested more than {DEEPEST} deep, or its schema is a maze"));
        }
        let Some(object) = schema.as_object() else {
            return if schema == &Value::Bool(false) { refuse("nothing is allowed here".to_owned()) } else { Ok(()) };
        };
        if let Some(to) = object.get("$ref") {
            match self.resolve(schema) {
                Some(target) => self.check_at(target, value, pointer, run.deeper())?,
                None => return refuse(format!("its schema {to} leads nowhere")),
            }
        }
        if let Some(types) = object.get("type").and_then(types)
            && !types.iter().any(|t| is_of_type(value, t))
        {
            // That is how a schema says that other parameters switch this one off; nobody writes a null.
            return refuse(if types == ["null"] {
                "must be left out beside the other parameters".to_owned()
            } else {
                format!("must be {}, and is {}", types.join(" or "), type_of(value))
            });
        }
        if let Some(allowed) = object.get("enum").and_then(Value::as_array)
            && !allowed.iter().any(|one| equal(one, value))
        {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            return refuse(format!("{value} is none of {}", allowed.join(", ")));
        }
        if let Some(only) = object.get("const").filter(|only| !equal(only, value)) {
            return refuse(format!("must be {only}"));
        }
        self.check_choices(object, value, pointer, run)?;
        if let Some(why) = number_out_of_range(object, value).or_else(|| length_out_of_range(object, value)) {
            return refuse(why);
        }
        match value {
            Value::Object(table) => self.check_table(object, table, pointer, run),
            Value::Array(list) => self.check_list(object, list, pointer, run),
            _ => Ok(()),
        }
    }

    fn check_choices(
        &self,
        object: &Map<String, Value>,
        value: &Value,
        pointer: &str,
        run: Run<'_>,
    ) -> Result<(), Refusal> {
        let list = |key: &str| object.get(key).and_then(Value::as_array);
        for schema in list("allOf").into_iter().flatten() {
            self.check_at(schema, value, pointer, run.deeper())?;
        }
        for key in ["anyOf", "oneOf"] {
            let Some(schemas) = list(key) else { continue };
            let refusals: Vec<Refusal> =
                schemas.iter().filter_map(|schema| self.check_at(schema, value, pointer, run.deeper()).err()).collect();
            let accepted = schemas.len() - refusals.len();
            if key == "oneOf" && accepted > 1 {
                return Err(Refusal { pointer: pointer.to_owned(), why: "fits more than one of its forms".to_owned() });
            }
            if accepted == 0 {
                // The refusal that got furthest speaks of the form that was meant.
                let furthest = refusals.into_iter().max_by_key(|refusal| refusal.pointer.len());
                return furthest.map_or(Ok(()), Err);
            }
        }
        if let Some(condition) = object.get("if") {
            let holds = self.check_at(condition, value, pointer, run.deeper()).is_ok();
            if let Some(schema) = object.get(if holds { "then" } else { "else" }) {
                self.check_at(schema, value, pointer, run.deeper())?;
            }
        }
        if let Some(schema) = object.get("not")
            && self.check_at(schema, value, pointer, run.deeper()).is_ok()
        {
            return Err(Refusal { pointer: pointer.to_owned(), why: format!("{value} is excluded") });
        }
        Ok(())
    }

    fn check_table(
        &self,
        object: &Map<String, Value>,
        table: &Map<String, Value>,
        pointer: &str,
        run: Run<'_>,
    ) -> Result<(), Refusal> {
        let properties = object.get("properties").and_then(Value::as_object);
        for name in object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                return Err(Refusal { pointer: pointer.to_owned(), why: format!("`{name}` is missing") });
            }
        }
        for (name, value) in table {
            let pointer = format!("{pointer}/{}", escape(name));
            match (properties.and_then(|p| p.get(name)), object.get("additionalProperties")) {
                (None, Some(Value::Bool(false))) => {
                    let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    let known = if known.is_empty() {
                        "there is none".to_owned()
                    } else {
                        format!("there are {}", known.join(", "))
                    };
                    return Err(Refusal { pointer, why: format!("no parameter has this name; {known}") });
                }
                (Some(schema), _) | (None, Some(schema)) => self.check_at(schema, value, &pointer, run.deeper())?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn check_list(
        &self,
        object: &Map<String, Value>,
        list: &[Value],
        pointer: &str,
        run: Run<'_>,
    ) -> Result<(), Refusal> {
        let first = object.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, value) in list.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| object.get("items")) {
                self.check_at(schema, value, &format!("{pointer}/{index}"), run.deeper())?;
            }
            if object.get("uniqueItems") == Some(&Value::Bool(true))
                && list[..index].iter().any(|other| equal(other, value))
            {
                return Err(Refusal { pointer: format!("{pointer}/{index}"), why: format!("{value} is there twice") });
            }
        }
        Ok(())
    }
}

/// The types of a `type` keyword, if it is well formed.
fn types(value: &Value) -> Option<Vec<&str>> {
    let list = match value {
        Value::String(one) => vec![one.as_str()],
        Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    let known = ["null", "boolean", "integer", "number", "string", "array", "object"];
    (!list.is_empty() && list.iter().all(|t| known.contains(t))).then_some(list)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of_type(value: &Value, t: &str) -> bool {
    // 2.0 is an integer in JSON Schema.
    type_of(value) == t
        || (t == "integer" && (value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|x| x.fract() == 0.0)))
}

/// Numbers are equal by value: a TOML writes 1 where a schema has 1.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        #[expect(clippy::float_cmp, reason = "an enumerated number is that number")]
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn number_out_of_range(object: &Map<String, Value>, value: &Value) -> Option<String> {
    let x = value.as_f64()?;
    let bound = |key: &str| object.get(key).and_then(Value::as_f64);
    let checks: [(&str, Holds, &str); 4] = [
        ("minimum", |x, bound| x >= bound, "at least"),
        ("exclusiveMinimum", |x, bound| x > bound, "above"),
        ("maximum", |x, bound| x <= bound, "at most"),
        ("exclusiveMaximum", |x, bound| x < bound, "below"),
    ];
    for (key, holds, word) in checks {
        if let Some(bound) = bound(key).filter(|&bound| !holds(x, bound)) {
            return Some(format!("must be {word} {bound}, and is {value}"));
        }
    }
    let step = bound("multipleOf")?;
    let times = x / step;
    ((times - times.round()).abs() > 1e-9 * times.abs().max(1.0))
        .then(|| format!("must be a multiple of {step}, and is {value}"))
}

fn length_out_of_range(object: &Map<String, Value>, value: &Value) -> Option<String> {
    let (len, least, most, what) = match value {
        Value::String(text) => (text.chars().count(), "minLength", "maxLength", "characters"),
        Value::Array(list) => (list.len(), "minItems", "maxItems", "items"),
        Value::Object(table) => (table.len(), "minProperties", "maxProperties", "entries"),
        _ => return None,
    };
    let bound = |key: &str| object.get(key).and_then(Value::as_u64);
    if let Some(least) = bound(least).filter(|&least| (len as u64) < least) {
        return Some(format!("must have at least {least} {what}, and has {len}"));
    }
    bound(most).filter(|&most| len as u64 > most).map(|most| format!("must have at most {most} {what}, and has {len}"))
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

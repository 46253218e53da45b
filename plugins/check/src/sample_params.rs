//! Random parameters from a schema: some that it allows, and some that it refuses.

use serde_json::{Map, Value, json};

use logitfuse_schema::Schema;

/// A random number generator.
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x6a09_e667_f3bc_c909)
    }

    /// The next number: splitmix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of so many.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }
}

/// Values within one that is made up; a schema may ask for lists of lists without end.
const MOST_VALUES: usize = 4_096;
/// A list that is made up has no more, whatever its schema asks for.
const LONGEST_LIST: u64 = 64;
/// Values within values.
const DEEPEST: usize = 16;

/// As few parameters as the schema allows: none, unless it requires some.
pub(crate) fn least(schema: &Schema) -> Value {
    let mut rng = SplitMix64::new(0);
    let mut table = Map::new();
    if schema.check(&json!({})).is_err() {
        for name in required(schema.root()) {
            let property = &schema.root()["properties"][name];
            // The default if there is one, else anything that is allowed.
            let value = property.get("default").cloned().unwrap_or_else(|| any(schema, property, &mut rng));
            table.insert(name.to_owned(), value);
        }
    }
    Value::Object(table)
}

fn required(schema: &Value) -> Vec<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// `base` with some parameters set to others that the schema allows.
pub(crate) fn allowed(schema: &Schema, base: &Value, rng: &mut SplitMix64) -> Value {
    let mut table = base.clone();
    for (name, property) in properties(schema) {
        if rng.below(2) == 0 {
            let mut with = table.clone();
            with[name] = any(schema, property, rng);
            if let Some(allowed) = allowed_with_another(schema, with, rng) {
                table = allowed;
            }
        }
    }
    table
}

/// Parameters that the schema allows, if need be with one more: some make sense beside another only.
fn allowed_with_another(schema: &Schema, table: Value, rng: &mut SplitMix64) -> Option<Value> {
    if schema.check(&table).is_ok() {
        return Some(table);
    }
    properties(schema).find_map(|(name, property)| {
        let mut with = table.clone();
        with[name] = any(schema, property, rng);
        schema.check(&with).is_ok().then_some(with)
    })
}

/// Parameters that the schema refuses, each with one thing wrong, and the JSON pointer of that thing.
pub(crate) fn refused(schema: &Schema, base: &Value) -> Vec<(Value, String)> {
    let wrong_values = [
        json!(null),
        json!(true),
        json!("no such value"),
        json!(-1e300),
        json!(1e300),
        json!(0.5),
        json!([]),
        json!({}),
        json!([[]]),
    ];
    let mut all = Vec::new();
    let mut consider = |name: &str, value: &Value| {
        let mut table = base.clone();
        table[name] = value.clone();
        if let Err(refusal) = schema.check(&table) {
            all.push((table, refusal.pointer));
        }
    };
    consider("no_such_parameter", &json!(1));
    for (name, property) in properties(schema) {
        for value in &wrong_values {
            consider(name, value);
        }
        for (bound, step) in [("minimum", -1.0), ("exclusiveMinimum", 0.0), ("maximum", 1.0), ("exclusiveMaximum", 0.0)]
        {
            if let Some(bound) = property.get(bound).and_then(Value::as_f64) {
                consider(name, &json!(bound + step));
            }
        }
    }
    all
}

fn properties(schema: &Schema) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.root().get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, property)| (name.as_str(), property))
}

fn any(schema: &Schema, at: &Value, rng: &mut SplitMix64) -> Value {
    let mut left = MOST_VALUES;
    value(schema, at, rng, 0, &mut left)
}

fn value(schema: &Schema, at: &Value, rng: &mut SplitMix64, depth: usize, left: &mut usize) -> Value {
    *left = left.saturating_sub(1);
    if *left == 0 || depth > DEEPEST {
        return Value::Null;
    }
    let at = schema.resolve(at).unwrap_or(at);
    if let Some(only) = at.get("const") {
        return only.clone();
    }
    for key in ["enum", "examples"] {
        if let Some(list) = at.get(key).and_then(Value::as_array).filter(|list| !list.is_empty()) {
            return list[rng.below(list.len())].clone();
        }
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(list) = at.get(key).and_then(Value::as_array).filter(|list| !list.is_empty() && depth < 8) {
            return value(schema, &list[rng.below(list.len())], rng, depth + 1, left);
        }
    }
    let kind = match at.get("type") {
        Some(Value::String(one)) => one.as_str(),
        Some(Value::Array(list)) => list.get(rng.below(list.len())).and_then(Value::as_str).unwrap_or("null"),
        _ => "null",
    };
    match kind {
        "boolean" => json!(rng.below(2) == 0),
        "integer" => integer(at, rng),
        "number" => number(at, rng),
        "string" => at.get("default").cloned().unwrap_or_else(|| json!(["", "a", "äöü", "none"][rng.below(4)])),
        "array" => {
            let bound = |key: &str, or: u64| at.get(key).and_then(Value::as_u64).unwrap_or(or);
            let least = bound("minItems", 0);
            let room = bound("maxItems", least.saturating_add(3)).saturating_sub(least).saturating_add(1);
            let items = least.saturating_add(rng.next() % room).min(LONGEST_LIST);
            let none = Value::Null;
            (0..items).map(|_| value(schema, at.get("items").unwrap_or(&none), rng, depth + 1, left)).collect()
        }
        "object" => {
            let needed = required(at)
                .into_iter()
                .map(|name| (name.to_owned(), value(schema, &at["properties"][name], rng, depth + 1, left)));
            Value::Object(needed.collect())
        }
        _ => Value::Null,
    }
}

fn integer(at: &Value, rng: &mut SplitMix64) -> Value {
    let bound = |key: &str| at.get(key).and_then(Value::as_f64);
    #[expect(clippy::cast_possible_truncation, reason = "bounds of counts; what does not fit saturates")]
    let (low, high) = (
        bound("minimum").or(bound("exclusiveMinimum").map(|x| x + 1.0)).map_or(-3, |x| x.ceil() as i64),
        bound("maximum").or(bound("exclusiveMaximum").map(|x| x - 1.0)).map(|x| x.floor() as i64),
    );
    let high = high.unwrap_or(low.saturating_add(6)).max(low);
    json!(match rng.below(4) {
        0 => low,
        1 => high,
        _ => low.saturating_add(
            i64::try_from(rng.next() % (u64::try_from(high.saturating_sub(low)).unwrap_or(0) + 1)).unwrap_or(0)
        ),
    })
}

fn number(at: &Value, rng: &mut SplitMix64) -> Value {
    let bound = |key: &str| at.get(key).and_then(Value::as_f64);
    let (open_low, open_high) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let low = bound("minimum").or(open_low).unwrap_or(-4.0);
    let high = bound("maximum").or(open_high).unwrap_or(low.max(0.0) + 4.0).max(low);
    let between = low + (high - low) * ((rng.next() >> 11) as f64 / (1_u64 << 53) as f64);
    json!(match rng.below(6) {
        0 if open_low.is_none() => low,
        1 if open_high.is_none() => high,
        2 if low <= 0.0 && high >= 0.0 && open_low != Some(0.0) && open_high != Some(0.0) => 0.0,
        _ => between,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_that_ask_for_too_much_end() {
        let list = json!({ "type": "array", "minItems": u64::MAX, "items": { "$ref": "#/properties/a" } });
        let tree = json!({ "type": ["object", "null"], "required": ["l", "r"],
            "properties": { "l": { "$ref": "#/properties/b" }, "r": { "$ref": "#/properties/b" } } });
        let forms = json!({ "anyOf": [{ "$ref": "#/properties/c" }, { "$ref": "#/properties/c" }] });
        let schema = json!({ "type": "object", "properties": { "a": list, "b": tree, "c": forms } });
        let schema = Schema::new(&schema).expect("nothing of it is required");
        let mut rng = SplitMix64::new(3);
        for _ in 0..50 {
            assert!(allowed(&schema, &least(&schema), &mut rng).to_string().len() < 1 << 20);
        }
        assert!(!refused(&schema, &json!({})).is_empty());
    }

    #[test]
    fn what_is_proposed_is_allowed_or_refused_as_said() {
        let schema = Schema::new(&json!({
            "type": "object", "additionalProperties": false, "required": ["mode"],
            "properties": {
                "mode": { "enum": ["fast", "slow"] },
                "alpha": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
                "depth": { "type": ["integer", "null"], "minimum": 2 },
                "weights": { "type": "array", "items": { "type": "number" }, "minItems": 1 },
                "a_rate": { "type": ["number", "null"] },
            },
            "if": { "properties": { "mode": { "const": "slow" } } },
            "then": { "required": ["a_rate"] },
            "else": { "properties": { "a_rate": { "type": "null" } } },
        }))
        .expect("a schema");
        let base = least(&schema);
        assert_eq!(schema.check(&base), Ok(()));
        let mut rng = SplitMix64::new(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let table = allowed(&schema, &base, &mut rng);
            assert_eq!(schema.check(&table), Ok(()), "{table}");
            seen.extend(table.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        }
        assert_eq!(seen.len(), 5);
        let refused = refused(&schema, &base);
        assert!(refused.iter().any(|(_, at)| at == "/no_such_parameter"));
        assert!(refused.iter().any(|(table, at)| at == "/alpha" && table["alpha"] == json!(0.0)));
        assert!(refused.iter().all(|(table, _)| table["depth"] != Value::Null || table.get("depth").is_none()));
    }
}

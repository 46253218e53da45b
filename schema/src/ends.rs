//! Whether a schema can be fulfilled by something that ends.

use std::{collections::BTreeMap, ptr};

use serde_json::Value as Json;

use crate::keywords::{follow, types};

/// Values are checked no deeper, so what requires more can be fulfilled by none.
const DEEPEST: usize = 64;

/// The place of a schema that requires itself, or tables within tables without end: no value fulfils it.
pub(crate) fn requires_itself(root: &Json) -> Option<String> {
    Ends { root, known: BTreeMap::new() }.height(root, 0).err()
}

struct Ends<'s> {
    root: &'s Json,
    /// How deep a value of a schema must be, by the schema's address; `None` while that is being found out.
    known: BTreeMap<usize, Option<usize>>,
}

impl<'s> Ends<'s> {
    fn height(&mut self, schema: &'s Json, depth: usize) -> Result<usize, String> {
        let Some(schema) = follow(self.root, schema) else { return Ok(0) };
        let at = ptr::from_ref(schema).addr();
        match self.known.get(&at) {
            Some(Some(height)) if depth + height <= DEEPEST => return Ok(*height),
            Some(_) => return Err(String::new()),
            None if depth > DEEPEST => return Err(String::new()),
            None => {}
        }
        self.known.insert(at, None);
        let mut height = 0;
        for (place, required) in required(schema) {
            let below = self.height(required, depth + 1).map_err(|at| format!("{place}{at}"))?;
            height = height.max(below + 1);
        }
        self.known.insert(at, Some(height));
        Ok(height)
    }
}

/// The schemas of what a value must hold, with their places. Where there is a choice, nothing must be.
fn required(schema: &Json) -> Vec<(String, &Json)> {
    let only = |name: &str| schema.get("type").and_then(types).is_some_and(|types| types == [name]);
    let mut all = Vec::new();
    if only("object") {
        let names = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for name in names {
            let property = schema.get("properties").and_then(|all| all.get(name));
            all.extend(property.map(|property| (format!("/properties/{name}"), property)));
        }
    }
    if only("array") && schema.get("minItems").and_then(Json::as_u64).is_some_and(|least| least > 0) {
        all.extend(schema.get("items").map(|items| ("/items".to_owned(), items)));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_value_can_fulfil_is_named() {
        let object = |property: Json| json!({ "type": "object", "required": ["a"], "properties": { "a": property } });
        for (schema, at) in [
            (object(json!({ "$ref": "#" })), "/properties/a"),
            (object(object(json!({ "$ref": "#/properties/a" }))), "/properties/a/properties/a"),
            (object(json!({ "type": "array", "minItems": 2, "items": { "$ref": "#" } })), "/properties/a/items"),
        ] {
            assert_eq!(requires_itself(&schema).as_deref(), Some(at), "{schema}");
        }
        for schema in [
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } } }),
            object(json!({ "type": ["object", "null"], "required": ["b"], "properties": { "b": { "$ref": "#" } } })),
            object(json!({ "type": "array", "items": { "$ref": "#" } })),
            object(json!({ "anyOf": [{ "$ref": "#" }, { "type": "null" }] })),
        ] {
            assert_eq!(requires_itself(&schema), None, "{schema}");
        }
    }

    /// Every level twice: as many ways through it as would never end, and as many schemas as it has levels.
    #[test]
    fn each_schema_is_looked_at_once() {
        let tower = |levels: usize| {
            let mut defs = serde_json::Map::new();
            for level in 0..levels {
                let next = json!({ "$ref": format!("#/$defs/{}", level + 1) });
                let both = json!({ "a": next, "b": next });
                defs.insert(level.to_string(), json!({ "type": "object", "required": ["a", "b"], "properties": both }));
            }
            defs.insert(levels.to_string(), json!({ "type": "number" }));
            json!({ "type": "object", "required": ["a"], "properties": { "a": { "$ref": "#/$defs/0" } }, "$defs": defs })
        };
        assert_eq!(requires_itself(&tower(60)), None);
        assert!(requires_itself(&tower(70)).is_some(), "no value so deep is checked");
    }
}

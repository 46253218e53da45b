//! Plugin metadata: any bytes as a `.lfmeta` section, and sections that are made from the bytes by a grammar, so that schemas
//! nest, refer to themselves and to one another. They are refused or read, without a panic and in bounded time; what is read is
//! fit for a terminal, holds parameters against its schema, and has parameters made up for it as `plugin check` does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_plugin_check::fuzzing::parameters;
use logitfuse_plugin_host::Metadata;
use serde_json::{Map, Value, json};

fuzz_target!(|data: &[u8]| {
    // A third of the inputs is taken as it is, a third gets past the magic without having to find it.
    let Some((&form, data)) = data.split_first() else { return };
    let section = match form % 3 {
        0 => data.to_vec(),
        1 => [b"LFMETA01", data].concat(),
        _ => [b"LFMETA01".to_vec(), Grammar(data).document().to_string().into_bytes()].concat(),
    };
    let Ok(metadata) = Metadata::parse(&section) else { return };
    let texts = [&metadata.id, &metadata.version, &metadata.license, &metadata.sdk, &metadata.url];
    assert!(texts.iter().all(|text| !text.contains(char::is_control)));
    for strategy in &metadata.strategies {
        assert!(metadata.strategy(&strategy.info.id).is_some());
        assert!(!strategy.info.roles.is_empty());
        let mut grammar = Grammar(data);
        for _ in 0..4 {
            // A refusal points into the parameters.
            if let Err(refusal) = strategy.check_params(&grammar.value(0)) {
                let pointer = refusal.to_string();
                assert!(pointer.starts_with('/') || pointer.starts_with("params: "), "{pointer}");
            }
        }
        parameters(strategy, u64::from(form));
    }
});

/// Documents from bytes; where these end, everything is the first of its kind.
struct Grammar<'a>(&'a [u8]);

const NAMES: [&str; 6] = ["a", "b", "alpha", "weights", "", "\u{202e}"];
const PLACES: [&str; 8] =
    ["#", "#/properties/a", "#/properties/b", "#/$defs/a", "#/$defs/b", "#/items", "#/properties/a/items", "#/nowhere"];
const TYPES: [&str; 7] = ["object", "array", "number", "integer", "string", "boolean", "null"];

impl Grammar<'_> {
    fn below(&mut self, n: usize) -> usize {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(byte) % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn document(&mut self) -> Value {
        let strategies: Vec<Value> = (0..=self.below(3)).map(|_| self.strategy()).collect();
        json!({
            "abi": [self.one(&[1, 1, 1, 0, 2]), 0],
            "plugin": { "id": self.one(&["x", "org.example.x", ""]), "version": self.one(&NAMES), "url": self.one(&NAMES) },
            "strategies": strategies,
        })
    }

    fn strategy(&mut self) -> Value {
        let roles: Vec<Value> = (0..=self.below(3))
            .map(|_| {
                json!({ "name": self.one(&["base", "expert", "anti"]), "min": self.below(3), "max": self.one(&[Some(2), None]),
                    "aliases": (0..self.below(3)).map(|_| self.one(&NAMES)).collect::<Vec<_>>() })
            })
            .collect();
        let mut strategy = json!({
            "id": self.one(&["s", "t", "u"]),
            "summary": self.one(&NAMES),
            "roles": roles,
            "laws": (0..self.below(3)).map(|_| self.one(&["deterministic", "linear-in: a", "identity-at: a=0", ""])).collect::<Vec<_>>(),
            "capabilities": (0..self.below(3)).map(|_| self.one(&["commit", "fork", "begin"])).collect::<Vec<_>>(),
        });
        let mut schema = self.schema(0);
        if self.below(8) > 0 {
            schema["type"] = json!("object");
        }
        strategy["params"] = schema;
        if self.below(4) == 0 {
            strategy["lead"] = json!(self.one(&["base", "expert"]));
        }
        if self.below(4) == 0 {
            strategy["prompt"] = json!(self.one(&["end", "log_probs", "rows", "more"]));
        }
        if self.below(4) == 0 {
            let prompts = self.below(3);
            strategy["calibration"] =
                json!({ "role": self.one(&["base", "expert"]), "rows_of": ["base"], "prompts": prompts });
        }
        strategy
    }

    fn schema(&mut self, depth: usize) -> Value {
        let mut schema = Map::new();
        for _ in 0..=self.below(4) {
            let (key, value) = match self.below(if depth < 6 { 16 } else { 9 }) {
                0 => ("type", json!(self.one(&TYPES))),
                1 => ("$ref", json!(self.one(&PLACES))),
                2 => ("type", json!([self.one(&TYPES), self.one(&TYPES)])),
                3 => ("required", json!([self.one(&NAMES), self.one(&NAMES)])),
                4 => ("enum", json!([self.value(3), self.value(3)])),
                5 => ("const", self.value(3)),
                6 => (self.one(&["minimum", "maximum", "exclusiveMinimum", "multipleOf"]), self.number()),
                7 => (self.one(&["minItems", "maxItems", "minLength", "maxProperties"]), self.number()),
                8 => (self.one(&["default", "description", "uniqueItems", "x-own", "pattern"]), self.value(3)),
                9 | 10 => ("properties", self.schemas(depth)),
                11 => ("$defs", self.schemas(depth)),
                12 => {
                    (self.one(&["items", "additionalProperties", "not", "if", "then", "else"]), self.schema(depth + 1))
                }
                _ => {
                    let forms: Vec<Value> = (0..=self.below(3)).map(|_| self.schema(depth + 1)).collect();
                    (self.one(&["anyOf", "oneOf", "allOf", "prefixItems"]), json!(forms))
                }
            };
            schema.insert(key.to_owned(), value);
        }
        Value::Object(schema)
    }

    fn schemas(&mut self, depth: usize) -> Value {
        let all = (0..=self.below(3)).map(|_| (self.one(&NAMES).to_owned(), self.schema(depth + 1)));
        Value::Object(all.collect())
    }

    fn number(&mut self) -> Value {
        match self.below(6) {
            0 => json!(0),
            1 => json!(-1.5),
            2 => json!(u64::MAX),
            3 => json!(1e300),
            4 => json!(5e-324),
            _ => json!(self.below(256)),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth < 5 { 8 } else { 5 }) {
            0 => json!({}),
            1 => Value::Null,
            2 => json!(self.below(2) == 1),
            3 => self.number(),
            4 => json!(self.one(&NAMES)),
            5 => (0..self.below(5)).map(|_| self.value(depth + 1)).collect(),
            _ => {
                let all = (0..self.below(4)).map(|_| (self.one(&NAMES).to_owned(), self.value(depth + 1)));
                Value::Object(all.collect())
            }
        }
    }
}

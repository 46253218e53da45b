//! The bounds of a strength: two numbers, or the name of a pair.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor, value::SeqAccessDeserializer},
};

use super::{Params, check::MOST_STRENGTH};

const PAPER: &str = "paper";

pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    struct Bounds;
    impl<'de> Visitor<'de> for Bounds {
        type Value = [f64; 2];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("[low, high] or \"paper\"")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<[f64; 2], E> {
            if name == PAPER { Ok(Params::PAPER_BOUNDS) } else { Err(E::invalid_value(Unexpected::Str(name), &self)) }
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<[f64; 2], A::Error> {
            Deserialize::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(Bounds)
}

pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            {
                "type": "array",
                "items": { "type": "number", "minimum": 0.0, "maximum": MOST_STRENGTH },
                "minItems": 2,
                "maxItems": 2,
            },
            { "const": PAPER, "description": "[0, 2], as published" },
        ],
    })
}

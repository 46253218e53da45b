//! Parameters of strategies: from JSON to a checked struct, with errors that point at the key.
//!
//! Why here: every strategy, built in or plugin, takes its parameters as one JSON object (a TOML table turned into
//! JSON), and an error must name the key that is wrong. A message therefore starts with the key's JSON
//! pointer, which the experiment maps back to a line of the file.
//!
//! ```
//! use logitfuse_core::params;
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Debug, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Params {
//!     weights: Vec<f64>,
//! }
//!
//! let good: Params = params::parse(&json!({ "weights": [1.0, 2.0] }))?;
//! assert_eq!(good.weights, [1.0, 2.0]);
//! let bad = params::parse::<Params>(&json!({ "weights": [1.0, "much"] })).unwrap_err();
//! assert!(bad.to_string().starts_with("/weights/1: "));
//! # Ok::<(), logitfuse_core::Error>(())
//! ```

use std::{
    fmt::{self, Display},
    marker::PhantomData,
};

use serde::{
    Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value, json};
use serde_path_to_error::Segment;

use crate::{Error, ErrorKind, Result};

/// Reads parameters from a JSON object.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`]; the message starts with the JSON pointer of what is wrong.
pub fn parse<T: DeserializeOwned>(value: &Value) -> Result<T> {
    // A list would pass for the fields in their order.
    if !value.is_object() {
        return Err(invalid("", "must be a table of names and values"));
    }
    serde_path_to_error::deserialize(value).map_err(|e| invalid(&pointer(e.path()), e.inner()))
}

/// The error of a parameter: its JSON pointer (empty for all of them) and what is wrong, with the allowed range.
pub fn invalid(pointer: &str, what: impl Display) -> Error {
    let pointer = if pointer.is_empty() { "params" } else { pointer };
    Error::new(ErrorKind::InvalidConfig, format!("{pointer}: {what}"))
}

/// Refuses infinities and NaN.
pub fn finite(pointer: &str, x: f64) -> Result<f64> {
    if x.is_finite() { Ok(x) } else { Err(invalid(pointer, "must be finite")) }
}

/// Refuses what is negative, infinite or NaN.
pub fn not_negative(pointer: &str, x: f64) -> Result<f64> {
    if x >= 0.0 && x.is_finite() { Ok(x) } else { Err(invalid(pointer, "must be 0 or more, and finite")) }
}

/// Refuses what is not above 0, infinite or NaN.
pub fn positive(pointer: &str, x: f64) -> Result<f64> {
    if x > 0.0 && x.is_finite() { Ok(x) } else { Err(invalid(pointer, "must be above 0, and finite")) }
}

/// Refuses what is not in (0, 1]: a probability that something must have, or a fraction of one.
pub fn fraction(pointer: &str, x: f64) -> Result<f64> {
    if x > 0.0 && x <= 1.0 { Ok(x) } else { Err(invalid(pointer, "must be above 0 and at most 1")) }
}

/// Reads a table within the parameters, for `#[serde(deserialize_with = "…")]`: what [`parse`] refuses at the top, a list
/// that would pass for the fields in their order, is refused here, too.
///
/// ```
/// use logitfuse_core::params;
/// use serde::Deserialize;
/// use serde_json::json;
///
/// #[derive(Debug, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Params {
///     #[serde(deserialize_with = "params::optional_table")]
///     inner: Option<Inner>,
/// }
/// # impl Default for Params { fn default() -> Self { Self { inner: None } } }
///
/// #[derive(Debug, Deserialize)]
/// struct Inner {
///     x: f64,
/// }
///
/// let params: Params = params::parse(&json!({ "inner": { "x": 1.0 } }))?;
/// assert_eq!(params.inner.unwrap().x, 1.0);
/// assert!(params::parse::<Params>(&json!({ "inner": [1.0] })).unwrap_err().to_string().starts_with("/inner: "));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
///
/// # Errors
/// What is no table, and what the fields' own types refuse.
pub fn optional_table<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Table<T>(PhantomData<T>);
    impl<'de, T: DeserializeOwned> Visitor<'de> for Table<T> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of names and values")
        }
        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Table(PhantomData))
}

/// A clause for the `allOf` of a parameters' JSON Schema: these names are left out unless `key` has one of these values.
/// `null` among the values stands for a key that is left out, too.
///
/// Why: a parameter that another one switches off is refused, and a schema without this clause lets editors, forms and
/// checkers propose what the strategy will not take.
///
/// ```
/// use logitfuse_core::params;
/// use serde_json::json;
///
/// let clause = params::only_with("solver", &json!(["grid"]), ["grid_step"]);
/// assert_eq!(clause["if"]["properties"]["solver"], json!({ "not": { "enum": ["grid"] } }));
/// assert_eq!(clause["then"]["properties"]["grid_step"], json!({ "type": "null" }));
/// ```
pub fn only_with<'a>(key: &str, values: &Value, names: impl IntoIterator<Item = &'a str>) -> Value {
    let otherwise: Map<String, Value> =
        names.into_iter().map(|name| (name.to_owned(), json!({ "type": "null" }))).collect();
    let mut condition = json!({ "properties": { key: { "not": { "enum": values } } } });
    if values.as_array().is_some_and(|values| values.contains(&Value::Null)) {
        condition["required"] = json!([key]);
    }
    json!({ "if": condition, "then": { "properties": otherwise } })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
            }
            Segment::Unknown => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_escaped_as_json_pointers_want() {
        let error = parse::<BTreeMap<String, u8>>(&json!({ "a/b~c": "x" })).expect_err("no number");
        assert!(error.to_string().starts_with("/a~1b~0c: "), "{error}");
    }

    #[test]
    fn a_list_is_no_table() {
        assert_eq!(
            parse::<(f64,)>(&json!([1.0])).expect_err("a list").to_string(),
            "params: must be a table of names and values"
        );
    }

    #[test]
    fn ranges_exclude_nan() {
        for check in [finite, not_negative, positive, fraction] {
            assert!(check("/x", f64::NAN).is_err());
            assert_eq!(check("/x", 0.5).ok(), Some(0.5));
        }
        assert!(fraction("/x", 0.0).is_err() && positive("/x", 0.0).is_err() && not_negative("/x", 0.0).is_ok());
    }
}

//! Values that can be checked.

use serde_json::Value as Json;

/// A value, seen one level deep.
#[derive(Clone, Debug)]
pub enum View<'a, I> {
    /// JSON's null.
    Null,
    /// True or false.
    Boolean(bool),
    /// A number that the format writes as a whole one, or that counts as one.
    Integer(f64),
    /// Any other number.
    Number(f64),
    /// Text.
    String(&'a str),
    /// A list.
    Array(Vec<I>),
    /// A table, in the order of its text.
    Object(Vec<(&'a str, I)>),
    /// What the format has and JSON has not, such as a date. It is of no type.
    Foreign,
}

/// A value that can be checked against a schema: a reference into a tree.
pub trait Instance<'a>: Copy {
    /// The value, one level deep.
    fn view(self) -> View<'a, Self>;
}

impl<'a> Instance<'a> for &'a Json {
    fn view(self) -> View<'a, Self> {
        match self {
            Json::Null => View::Null,
            Json::Bool(value) => View::Boolean(*value),
            Json::Number(number) => {
                let x = number.as_f64().unwrap_or(f64::NAN);
                // 2.0 is an integer in JSON Schema.
                if x.fract() == 0.0 { View::Integer(x) } else { View::Number(x) }
            }
            Json::String(text) => View::String(text),
            Json::Array(list) => View::Array(list.iter().collect()),
            Json::Object(table) => View::Object(table.iter().map(|(key, value)| (key.as_str(), value)).collect()),
        }
    }
}

impl<'a, I: Instance<'a>> View<'a, I> {
    /// Whether the value is of a type that a schema may name.
    pub(crate) fn is_of_type(&self, name: &str) -> bool {
        match self {
            Self::Null => name == "null",
            Self::Boolean(_) => name == "boolean",
            Self::Integer(_) => matches!(name, "integer" | "number"),
            Self::Number(_) => name == "number",
            Self::String(_) => name == "string",
            Self::Array(_) => name == "array",
            Self::Object(_) => name == "object",
            Self::Foreign => false,
        }
    }

    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(x) | Self::Number(x) => Some(*x),
            _ => None,
        }
    }

    /// Whether both are the same value; numbers are equal by value, as a TOML writes 1 where a schema has 1.0.
    pub(crate) fn equals<'b, J: Instance<'b>>(&self, other: &View<'b, J>) -> bool {
        match (self, other) {
            (Self::Null, View::Null) => true,
            (Self::Boolean(a), View::Boolean(b)) => a == b,
            (Self::String(a), View::String(b)) => a == b,
            (Self::Array(a), View::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.view().equals(&b.view()))
            }
            (Self::Object(a), View::Object(b)) => {
                let in_b = |key: &str| b.iter().find(|(other, _)| *other == key).map(|(_, value)| value);
                a.len() == b.len() && a.iter().all(|(key, a)| in_b(key).is_some_and(|b| a.view().equals(&b.view())))
            }
            _ => self.number().is_some_and(|a| other.number() == Some(a)),
        }
    }
}

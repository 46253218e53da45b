//! What is wrong with parameters, in words.

use serde_json::Value as Json;

use crate::{Problem, Violation, types, validate::failed_bound};

/// A value that a schema refuses: the JSON pointer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The JSON pointer of the value.
    pub pointer: String,
    /// What is wrong with it.
    pub why: String,
}

impl Refusal {
    /// The words for what is wrong with `params`.
    pub(crate) fn new(violation: &Violation<'_>, params: &Json) -> Self {
        let segment = |key: &String| format!("/{}", key.replace('~', "~0").replace('/', "~1"));
        let pointer: String = violation.path.iter().map(segment).collect();
        let null = Json::Null;
        let value = params.pointer(&pointer).unwrap_or(&null);
        Self { why: why(&violation.problem, value), pointer }
    }
}

fn why(problem: &Problem<'_>, value: &Json) -> String {
    let list = |all: &[&Json]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match problem {
        Problem::Type(schema) => match schema.get("type").and_then(types) {
            // That is how a schema says that other parameters switch this one off; a null is never written.
            Some(types) if types == ["null"] => "must be left out beside the other parameters".to_owned(),
            Some(types) => format!("must be {}, and is {}", types.join(" or "), type_of(value)),
            None => format!("{value} fits none of its forms"),
        },
        Problem::NotListed(listed) => match listed[..] {
            [only] => format!("must be {only}"),
            _ => format!("{value} is none of {}", list(listed)),
        },
        Problem::Range(rules) => match value.as_f64().and_then(|x| failed_bound(rules, x)) {
            Some((words, bound)) => format!("must be {words} {bound}, and is {value}"),
            None => format!("out of range: {value}"),
        },
        Problem::MultipleOf(step) => format!("must be a multiple of {step}, and is {value}"),
        Problem::Length { len, least, most, what } => match (least, most) {
            (Some(least), _) if (*len as u64) < *least => format!("must have at least {least} {what}, and has {len}"),
            (_, most) => format!("must have at most {} {what}, and has {len}", most.unwrap_or_default()),
        },
        Problem::Missing { key, .. } => format!("`{key}` is missing"),
        Problem::Unknown(schema) => {
            let properties = schema.get("properties").and_then(Json::as_object);
            let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let known =
                if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) };
            format!("no parameter has this name; {known}")
        }
        Problem::Duplicate => format!("{value} is there twice"),
        Problem::Ambiguous => "fits more than one of its forms".to_owned(),
        Problem::Excluded => format!("{value} is excluded"),
        Problem::Forbidden => "nothing is allowed here".to_owned(),
        Problem::NotJson => "is no JSON".to_owned(),
        Problem::TooDeep => {
            "nested too deep, too large to compare, or its schema refers to itself too often".to_owned()
        }
    }
}

fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

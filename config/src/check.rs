//! Checks a document against a JSON Schema, and says everything that is wrong at once: the words and places for what
//! `logitfuse_schema` finds.
//!
//! Why not let serde say it: serde ends at the first fault, and knows neither what a key is for nor its neighbours.

use std::ops::Range;

use logitfuse_schema::{Instance, Problem, View, Violation, bounds, choices, description, resolve, types, validate};
use serde_json::Value as Json;

use logitfuse_pipeline::did_you_mean;

use super::{
    diagnostic::Diagnostic,
    document::{Entry, Node, Table, Value},
    place::SourceMap,
};

/// What a table may have wrong before the rest is only counted.
const MOST: usize = 200;

/// A check in progress.
pub(crate) struct Check<'a> {
    root: &'a Json,
    texts: &'a SourceMap,
    pub(crate) found: Vec<Diagnostic>,
}

/// A value of a document; a table need not be one that was written as such.
#[derive(Clone, Copy)]
enum Written<'a> {
    Table(&'a Table),
    Node(&'a Node),
}

impl<'a> Instance<'a> for Written<'a> {
    fn view(self) -> View<'a, Self> {
        let entries = |table: &'a Table| {
            View::Object(table.iter().map(|(key, entry)| (key.as_str(), Self::Node(&entry.node))).collect())
        };
        match self {
            Self::Table(table) => entries(table),
            Self::Node(node) => match &node.value {
                Value::String(text) => View::String(text),
                Value::Integer(number) => View::Integer(*number as f64),
                // A TOML says whether it means a whole number.
                Value::Float(number) => View::Number(*number),
                Value::Boolean(value) => View::Boolean(*value),
                Value::Array(items) => View::Array(items.iter().map(Self::Node).collect()),
                Value::Table(table) => entries(table),
                Value::Other(_) => View::Foreign,
            },
        }
    }
}

/// What a path leads to.
#[derive(Clone, Copy)]
struct Found<'a> {
    /// The value; `None` for the table that was checked.
    node: Option<&'a Node>,
    /// The key, if it has one.
    key: Option<&'a Range<usize>>,
    /// What to underline.
    at: &'a Range<usize>,
}

impl<'a> Check<'a> {
    /// Against the definitions of this schema.
    pub(crate) fn new(root: &'a Json, texts: &'a SourceMap) -> Self {
        Self { root, texts, found: Vec::new() }
    }

    /// Checks a table that stands at a path.
    pub(crate) fn table(&mut self, schema: &'a Json, path: &[&str], at: &Range<usize>, table: &Table) {
        let violations = validate(self.root, resolve(self.root, schema), Written::Table(table));
        for violation in violations.iter().take(MOST) {
            let found = locate(table, &violation.path, at);
            let diagnostic = self.words(violation, path, found);
            self.found.push(diagnostic);
        }
        if let Some(more) = violations.len().checked_sub(MOST).filter(|more| *more > 0) {
            let what = format!("{more} more things are wrong in {}", here(path));
            self.found.push(Diagnostic::new(what, None).help("mend those above first"));
        }
    }

    /// The words for a violation in a table that stands at `prefix`.
    fn words(&self, violation: &Violation<'_>, prefix: &[&str], found: Found<'_>) -> Diagnostic {
        let path: Vec<&str> = prefix.iter().copied().chain(violation.path.iter().map(String::as_str)).collect();
        let name = path.join(".");
        let place = |span| self.texts.place(span);
        let is = found.node.map_or("a table", noun);
        let mut diagnostic = match &violation.problem {
            Problem::Unknown(schema) => {
                let key = violation.path.last().map_or("", String::as_str);
                let known: Vec<&str> =
                    schema["properties"].as_object().into_iter().flatten().map(|(key, _)| &**key).collect();
                let here = here(&path[..path.len() - 1]);
                Diagnostic::new(format!("unknown key `{key}` in {here}"), place(found.key.unwrap_or(found.at)))
                    .label(did_you_mean(key, known.iter().copied()))
                    .help(format!("{here} takes {}", known.join(", ")))
            }
            Problem::Missing { key, known, schema } => {
                let what = Diagnostic::new(format!("`{key}` is missing in {}", here(&path)), place(found.at));
                if known.is_empty() {
                    what.label(format!("it has no `{key}`")).help(self.add(key, schema))
                } else {
                    what.help(format!("it is one of {}", known.join(", ")))
                }
            }
            Problem::NotListed(listed) => {
                let words: Vec<&str> = listed.iter().filter_map(|one| one.as_str()).collect();
                let all = words.join(", ");
                let help = format!("it is one of {all}");
                match found.node.and_then(Node::as_str) {
                    Some(word) => Diagnostic::new(format!("{name} cannot be \"{word}\""), place(found.at))
                        .label(did_you_mean(word, words.iter().copied()))
                        .help(help),
                    None => Diagnostic::new(format!("{name} must be a word, and is {is}"), place(found.at)).help(help),
                }
            }
            Problem::NotJson => match found.node.map(|node| &node.value) {
                Some(Value::Other(text)) => {
                    Diagnostic::new(format!("`{text}` is {is}, which no key takes"), place(found.at))
                        .help("write it as text, in quotes, or shorter")
                }
                _ => {
                    Diagnostic::new(format!("{name} must be finite"), place(found.at)).help("leave it out for no limit")
                }
            },
            Problem::Range(rules) => {
                let limits: Vec<String> = bounds(rules).map(|(words, limit)| format!("{words} {limit}")).collect();
                let number = match found.node.map(|node| &node.value) {
                    Some(Value::Integer(number)) => *number as f64,
                    Some(Value::Float(number)) => *number,
                    _ => f64::NAN,
                };
                Diagnostic::new(format!("{name} must be {}, and is {number}", limits.join(" and ")), place(found.at))
            }
            Problem::Type(schema) => {
                let wanted = wanted(self.root, schema);
                Diagnostic::new(format!("{name} must be {wanted}, and is {is}"), place(found.at))
                    .label(format!("expected {wanted}"))
            }
            Problem::Length { len, least, most, what } => {
                let limits = [least.map(|n| format!("{n} or more")), most.map(|n| format!("{n} at most"))];
                let limits: Vec<String> = limits.into_iter().flatten().collect();
                let what = format!("{name} must have {} {what}, and has {len}", limits.join(" and "));
                Diagnostic::new(what, place(found.at))
            }
            Problem::MultipleOf(step) => {
                Diagnostic::new(format!("{name} must be a multiple of {step}"), place(found.at))
            }
            Problem::Duplicate => Diagnostic::new(format!("{name} is there twice"), place(found.at)),
            Problem::TooDeep => Diagnostic::new(format!("{name} is nested too deep"), place(found.at)),
            _ => Diagnostic::new(format!("{name} is not allowed"), place(found.at)),
        };
        // What a key is for helps wherever nothing more to the point does.
        if diagnostic.help.is_none() {
            let about = violation.about.as_ref();
            diagnostic.help = about.map(|(len, about)| format!("{}: {about}", path[..prefix.len() + len].join(".")));
        }
        diagnostic
    }

    /// The line that a table of a schema lacks.
    fn add(&self, key: &str, schema: &Json) -> String {
        let property = &schema["properties"][key];
        let about = description(self.root, property).map_or(String::new(), |about| format!(": {about}"));
        // What can be one thing only need not be looked up.
        let value = Some(&property["maximum"]).filter(|most| **most == property["minimum"] && most.is_number());
        let value = value.map_or("…".to_owned(), ToString::to_string);
        format!("add `{key} = {value}`{about}")
    }
}

/// The value at a path, or the table itself, which stands at `at`.
fn locate<'a>(table: &'a Table, path: &[String], at: &'a Range<usize>) -> Found<'a> {
    let mut found = Found { node: None, key: None, at };
    for segment in path {
        let within = match found.node.map(|node| &node.value) {
            None => Some(table),
            Some(Value::Table(table)) => Some(table),
            Some(Value::Array(items)) => {
                let Some(item) = segment.parse().ok().and_then(|i: usize| items.get(i)) else { break };
                found = Found { node: Some(item), key: None, at: &item.span };
                continue;
            }
            Some(_) => None,
        };
        let Some(entry) = within.and_then(|table: &Table| table.get(segment)) else { break };
        let entry: &Entry = entry;
        found = Found { node: Some(&entry.node), key: Some(&entry.key), at: entry.underline() };
    }
    found
}

/// The table at a path, in brackets.
fn here(path: &[&str]) -> String {
    if path.is_empty() { "the experiment".to_owned() } else { format!("[{}]", path.join(".")) }
}

fn wanted(root: &Json, schema: &Json) -> String {
    let mut all: Vec<String> = Vec::new();
    let named = types(&schema["type"]).unwrap_or_default();
    let named = if named.is_empty() && schema["oneOf"].is_array() { vec!["object"] } else { named };
    for kind in named {
        let words = match kind {
            "string" => "a string",
            "integer" => "an integer",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "a list",
            "object" => "a table",
            _ => continue,
        };
        all.push(words.to_owned());
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        let words: Vec<&str> = choices(one).into_iter().filter_map(Json::as_str).collect();
        let one =
            if words.is_empty() { wanted(root, resolve(root, one)) } else { format!("\"{}\"", words.join("\" or \"")) };
        if !all.contains(&one) && one != "something else" {
            all.push(one);
        }
    }
    if all.is_empty() { "something else".to_owned() } else { all.join(" or ") }
}

fn noun(node: &Node) -> &'static str {
    match &node.value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
        Value::Other(text) if text.contains(['-', ':']) => "a date or time",
        Value::Other(_) => "a number of too many digits",
    }
}

//! Checks a document against a JSON Schema, and says everything that is wrong at once.
//!
//! Why not let serde say it: serde ends at the first fault, and knows neither what a key is for nor its neighbours. Why not a
//! library for JSON Schema: their words are for programmers, and none knows the line of a TOML.

use std::ops::Range;

use serde_json::Value as Json;

use logitfuse_pipeline::did_you_mean;

use super::{
    diagnostic::Diagnostic,
    document::{Entry, Node, Table, Value},
    place::SourceMap,
    schema::resolve,
};

/// A check in progress.
pub(crate) struct Check<'a> {
    root: &'a Json,
    texts: &'a SourceMap,
    path: Vec<String>,
    pub(crate) found: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    /// Against the definitions of this schema.
    pub(crate) fn new(root: &'a Json, texts: &'a SourceMap) -> Self {
        Self { root, texts, path: Vec::new(), found: Vec::new() }
    }

    /// Checks a table that stands at a path.
    pub(crate) fn table(&mut self, schema: &'a Json, path: &[&str], at: &Range<usize>, table: &Table) {
        self.path = path.iter().map(|&key| key.to_owned()).collect();
        self.inner(resolve(self.root, schema), at, table);
    }

    fn inner(&mut self, schema: &'a Json, at: &Range<usize>, table: &Table) {
        let properties = schema["properties"].as_object();
        for (key, entry) in table {
            let known = properties.and_then(|all| all.get(key));
            match known.or_else(|| Some(&schema["additionalProperties"]).filter(|other| other.is_object())) {
                Some(property) => {
                    self.path.push(key.clone());
                    self.entry(property, entry);
                    self.path.pop();
                }
                None if schema["additionalProperties"] == false => self.unknown(schema, key, entry),
                None => self.free(&entry.node),
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !table.contains_key(key) {
                let what = format!("`{key}` is missing in {}", self.here());
                let property = &schema["properties"][key];
                let about = description(self.root, property).map_or(String::new(), |about| format!(": {about}"));
                // What can be one thing only need not be looked up.
                let value = Some(&property["maximum"]).filter(|most| **most == property["minimum"] && most.is_number());
                let value = value.map_or("…".to_owned(), ToString::to_string);
                self.found.push(
                    Diagnostic::new(what, self.texts.place(at))
                        .label(format!("it has no `{key}`"))
                        .help(format!("add `{key} = {value}`{about}")),
                );
            }
        }
    }

    fn unknown(&mut self, schema: &Json, key: &str, entry: &Entry) {
        let known: Vec<&str> = schema["properties"].as_object().into_iter().flatten().map(|(key, _)| &**key).collect();
        let what = format!("unknown key `{key}` in {}", self.here());
        self.found.push(
            Diagnostic::new(what, self.texts.place(&entry.key))
                .label(did_you_mean(key, known.iter().copied()))
                .help(format!("{} takes {}", self.here(), known.join(", "))),
        );
    }

    fn entry(&mut self, property: &'a Json, entry: &Entry) {
        let before = self.found.len();
        self.value(resolve(self.root, property), &entry.node, entry.underline());
        // What a key is for helps wherever nothing more to the point does.
        let about = description(self.root, property).map(|about| format!("{}: {about}", self.path.join(".")));
        for one in &mut self.found[before..] {
            if one.help.is_none() {
                one.help.clone_from(&about);
            }
        }
    }

    fn value(&mut self, schema: &'a Json, node: &Node, at: &Range<usize>) {
        if schema.is_boolean() || schema.as_object().is_some_and(|keywords| !keywords.keys().any(|k| is_rule(k))) {
            return self.free(node);
        }
        let words = words(schema);
        if !words.is_empty() && schema["type"].as_str().is_none_or(|kind| kind == "string") {
            return self.word(&words, node, at);
        }
        if let Some(alternatives) = schema["oneOf"].as_array() {
            return self.tagged(schema, alternatives, node, at);
        }
        if let Some(alternatives) = schema["anyOf"].as_array() {
            return self.any_of(schema, alternatives, node, at);
        }
        if !fits(schema, node) {
            return self.mismatch(schema, node, at);
        }
        match &node.value {
            Value::Table(table) => self.inner(schema, at, table),
            Value::Array(items) => {
                let item = resolve(self.root, &schema["items"]);
                for (i, one) in items.iter().enumerate() {
                    self.path.push(i.to_string());
                    self.value(item, one, &one.span);
                    self.path.pop();
                }
            }
            Value::Integer(number) => self.range(schema, *number as f64, at),
            Value::Float(number) => self.range(schema, *number, at),
            _ => {}
        }
    }

    /// What the schema leaves to others, such as a strategy's parameters. It will be JSON there.
    fn free(&mut self, node: &Node) {
        match &node.value {
            Value::Table(table) => table.values().for_each(|entry| self.free(&entry.node)),
            Value::Array(items) => items.iter().for_each(|item| self.free(item)),
            Value::Other(text) => {
                let what = format!("`{text}` is {}, which no key takes", noun(node));
                self.found.push(
                    Diagnostic::new(what, self.texts.place(&node.span)).help("write it as text, in quotes, or shorter"),
                );
            }
            Value::Float(number) if !number.is_finite() => {
                let what = format!("{} must be finite", self.path.join("."));
                self.found.push(Diagnostic::new(what, self.texts.place(&node.span)).help("leave it out for no limit"));
            }
            _ => {}
        }
    }

    /// One of several words.
    fn word(&mut self, words: &[&str], node: &Node, at: &Range<usize>) {
        let all = words.join(", ");
        match node.as_str() {
            Some(word) if words.contains(&word) => {}
            Some(word) => {
                let what = format!("{} cannot be \"{word}\"", self.path.join("."));
                self.found.push(
                    Diagnostic::new(what, self.texts.place(at))
                        .label(did_you_mean(word, words.iter().copied()))
                        .help(format!("it is one of {all}")),
                );
            }
            None => {
                let what = format!("{} must be a word, and is {}", self.path.join("."), noun(node));
                self.found.push(Diagnostic::new(what, self.texts.place(at)).help(format!("it is one of {all}")));
            }
        }
    }

    /// Tables of several kinds, told apart by a key whose value is fixed in each.
    fn tagged(&mut self, schema: &'a Json, alternatives: &'a [Json], node: &Node, at: &Range<usize>) {
        let Some(table) = node.as_table() else { return self.mismatch(schema, node, at) };
        let tag_of = |one: &'a Json| {
            let properties = one["properties"].as_object()?;
            properties.iter().find_map(|(key, property)| Some((key.as_str(), property["const"].as_str()?)))
        };
        let tags: Vec<(&str, &str)> = alternatives.iter().filter_map(tag_of).collect();
        let Some(&(key, _)) = tags.first() else { return };
        let known: Vec<&str> = tags.iter().map(|(_, tag)| *tag).collect();
        let Some(entry) = table.get(key) else {
            let what = format!("`{key}` is missing in {}", self.here());
            self.found
                .push(Diagnostic::new(what, self.texts.place(at)).help(format!("it is one of {}", known.join(", "))));
            return;
        };
        let tagged =
            alternatives.iter().find(|one| tag_of(one).is_some_and(|(_, tag)| Some(tag) == entry.node.as_str()));
        if let Some(one) = tagged {
            return self.inner(one, at, table);
        }
        self.path.push(key.to_owned());
        self.word(&known, &entry.node, &entry.node.span);
        self.path.pop();
    }

    /// Values of several kinds: the first that fits, or else the first of the value's type, which says more.
    fn any_of(&mut self, schema: &'a Json, alternatives: &'a [Json], node: &Node, at: &Range<usize>) {
        let before = self.found.len();
        let mut closest = None;
        for one in alternatives.iter().map(|one| resolve(self.root, one)).filter(|one| fits(one, node)) {
            self.value(one, node, at);
            if self.found.len() == before {
                return;
            }
            let wrong = self.found.split_off(before);
            // A type that is free to be anything of its kind knows better than a list of words.
            if closest.is_none() || words(one).is_empty() {
                closest = Some(wrong);
            }
        }
        match closest {
            Some(wrong) => self.found.extend(wrong),
            None => self.mismatch(schema, node, at),
        }
    }

    fn mismatch(&mut self, schema: &Json, node: &Node, at: &Range<usize>) {
        let wanted = wanted(self.root, schema);
        let what = format!("{} must be {wanted}, and is {}", self.path.join("."), noun(node));
        self.found.push(Diagnostic::new(what, self.texts.place(at)).label(format!("expected {wanted}")));
    }

    fn range(&mut self, schema: &Json, number: f64, at: &Range<usize>) {
        let bound = |key: &str| schema[key].as_f64();
        // Written so that NaN fails every one.
        let low = bound("minimum").is_none_or(|least| number >= least)
            && bound("exclusiveMinimum").is_none_or(|below| number > below);
        let high = bound("maximum").is_none_or(|most| number <= most)
            && bound("exclusiveMaximum").is_none_or(|above| number < above);
        if low && high {
            return;
        }
        let mut limits = Vec::new();
        for (key, words) in [
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        ] {
            limits.extend(bound(key).map(|limit| format!("{words} {limit}")));
        }
        let what = format!("{} must be {}, and is {number}", self.path.join("."), limits.join(" and "));
        self.found.push(Diagnostic::new(what, self.texts.place(at)));
    }

    /// The table in which something is wrong, in brackets.
    fn here(&self) -> String {
        if self.path.is_empty() { "the experiment".to_owned() } else { format!("[{}]", self.path.join(".")) }
    }
}

/// Whether a keyword says something about values.
fn is_rule(keyword: &str) -> bool {
    !matches!(keyword, "title" | "description" | "default" | "examples" | "$schema" | "definitions")
}

/// The words that a schema of words allows, described one by one or not.
fn words(schema: &Json) -> Vec<&str> {
    let is_word = |one: &Json| one["const"].is_string() || one["enum"].is_array();
    let described = schema["oneOf"].as_array().filter(|all| all.iter().all(is_word));
    let mut words = Vec::new();
    for one in described.into_iter().flatten().chain([schema]) {
        words.extend(one["const"].as_str());
        words.extend(one["enum"].as_array().into_iter().flatten().filter_map(Json::as_str));
    }
    words
}

/// Whether a value is of a type that the schema names, or the schema names none.
fn fits(schema: &Json, node: &Node) -> bool {
    if matches!(node.value, Value::Other(_)) {
        return false;
    }
    let is = |kind: &str| match &node.value {
        Value::String(_) => kind == "string",
        Value::Integer(_) => matches!(kind, "integer" | "number"),
        Value::Float(_) => kind == "number",
        Value::Boolean(_) => kind == "boolean",
        Value::Array(_) => kind == "array",
        Value::Table(_) | Value::Other(_) => kind == "object",
    };
    match &schema["type"] {
        Json::String(kind) => is(kind),
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).any(is),
        _ if !words(schema).is_empty() => matches!(node.value, Value::String(_)),
        _ => true,
    }
}

fn wanted(root: &Json, schema: &Json) -> String {
    let mut all: Vec<String> = Vec::new();
    let named = match &schema["type"] {
        Json::String(kind) => vec![kind.as_str()],
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).collect(),
        _ if schema["oneOf"].is_array() => vec!["object"],
        _ => Vec::new(),
    };
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
        let words = words(one);
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

fn description(root: &Json, schema: &Json) -> Option<String> {
    let text = schema["description"].as_str().or_else(|| resolve(root, schema)["description"].as_str())?;
    Some(text.split_whitespace().collect::<Vec<&str>>().join(" ").trim_end_matches('.').to_owned())
}

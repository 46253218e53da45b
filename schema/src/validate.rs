//! The walk along a value and a schema.

use serde_json::{Map, Value as Json};

use crate::{
    Instance, View, choices, description,
    keywords::{follow, is_annotation, is_null},
    types,
};

/// Schemas within schemas, and values within values, end here.
const DEEPEST: usize = 64;
/// Schemas that refer to one another may multiply; no honest one needs this many looks at a value.
const MOST_LOOKS: u32 = 100_000;
/// So many faults are told with what their keys are for; the rest without.
const MOST_DESCRIBED: usize = 256;
/// Comparisons of list items with those before them that one look stands for.
const COMPARISONS: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Violation<'s> {
    /// Keys, and numbers of list items, from the value that was checked to the one that is wrong.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub problem: Problem<'s>,
    /// What the nearest described key on the way is for, and how much of the path leads to it.
    pub about: Option<(usize, String)>,
}

/// What is wrong with a value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Problem<'s> {
    /// It is of another type than this schema, or one of its alternatives, wants.
    Type(&'s Json),
    /// It is none of these.
    NotListed(Vec<&'s Json>),
    /// A number is out of the bounds of this schema.
    Range(&'s Map<String, Json>),
    /// A number is not a multiple of this one.
    MultipleOf(f64),
    /// The number of characters, items or entries is out of bounds.
    Length {
        /// How many there are.
        len: usize,
        /// At least this many.
        least: Option<u64>,
        /// At most this many.
        most: Option<u64>,
        /// `characters`, `items` or `entries`.
        what: &'static str,
    },
    /// A table of this schema lacks a key.
    Missing {
        /// The key.
        key: &'s str,
        /// What it may be, if it can be one of some words only.
        known: Vec<&'s str>,
        /// The schema of the table.
        schema: &'s Json,
    },
    /// The last key of the path is none of a table of this schema.
    Unknown(&'s Json),
    /// An item is there twice.
    Duplicate,
    /// It fits more than one of several exclusive forms.
    Ambiguous,
    /// It is what `not` excludes.
    Excluded,
    /// No value is allowed here.
    Forbidden,
    /// A number that is not finite, or a value of no type, where anything that JSON can hold is allowed.
    NotJson,
    /// Values or schemas are nested too deep, schemas refer to one another too often, or there is too much to compare.
    TooDeep,
}

/// Checks a value against a schema whose references lead into `root`; everything that is wrong, in the order of the value.
pub fn validate<'s, 'a>(root: &'s Json, schema: &'s Json, value: impl Instance<'a>) -> Vec<Violation<'s>> {
    let mut walk = Walk { root, path: Vec::new(), about: Vec::new(), depth: 0, looks: MOST_LOOKS, found: Vec::new() };
    walk.value(schema, value);
    walk.found
}

struct Walk<'s> {
    root: &'s Json,
    path: Vec<String>,
    /// The properties on the way, each with the length of its path.
    about: Vec<(usize, &'s Json)>,
    depth: usize,
    looks: u32,
    found: Vec<Violation<'s>>,
}

impl<'s> Walk<'s> {
    fn report(&mut self, problem: Problem<'s>) {
        let described = |(len, property): &(usize, &Json)| Some((*len, description(self.root, property)?));
        let told = self.found.len() < MOST_DESCRIBED;
        let about = if told { self.about.iter().rev().find_map(described) } else { None };
        self.found.push(Violation { path: self.path.clone(), problem, about });
    }

    fn value<'a>(&mut self, schema: &'s Json, value: impl Instance<'a>) {
        self.looks = self.looks.saturating_sub(1);
        if self.depth > DEEPEST || self.looks == 0 {
            // Whatever else is wrong, there is an end of it.
            self.looks = 0;
            return self.report(Problem::TooDeep);
        }
        self.depth += 1;
        match schema {
            Json::Bool(false) => self.report(Problem::Forbidden),
            Json::Object(rules) if rules.keys().any(|keyword| !is_annotation(keyword)) => {
                self.rules(schema, rules, value);
            }
            _ => self.free(value),
        }
        self.depth -= 1;
    }

    fn rules<'a>(&mut self, schema: &'s Json, rules: &'s Map<String, Json>, value: impl Instance<'a>) {
        if rules.contains_key("$ref") {
            match follow(self.root, schema) {
                Some(target) => self.value(target, value),
                None => return self.report(Problem::TooDeep),
            }
            if rules.keys().all(|keyword| keyword == "$ref" || is_annotation(keyword)) {
                return;
            }
        }
        let view = value.view();
        let listed = choices(schema);
        if !listed.is_empty() && !listed.iter().any(|one| view.equals(&one.view())) {
            return self.report(Problem::NotListed(listed));
        }
        let of_type = rules.get("type").and_then(types).is_none_or(|types| types.iter().any(|t| view.is_of_type(t)));
        if !of_type || matches!(view, View::Foreign) {
            return self.report(Problem::Type(schema));
        }
        self.choices(schema, rules, value);
        self.number(rules, &view);
        self.length(rules, &view);
        match view {
            View::Object(table) => self.table(schema, rules, &table),
            View::Array(list) => self.list(rules, &list),
            _ => {}
        }
    }

    /// What is wrong with a value by a schema, without reporting it.
    fn tried<'a>(&mut self, schema: &'s Json, value: impl Instance<'a>) -> Vec<Violation<'s>> {
        let before = self.found.len();
        self.value(schema, value);
        self.found.split_off(before)
    }

    fn choices<'a>(&mut self, schema: &'s Json, rules: &'s Map<String, Json>, value: impl Instance<'a>) {
        let list = |key: &str| rules.get(key).and_then(Json::as_array);
        for one in list("allOf").into_iter().flatten() {
            self.value(one, value);
        }
        for key in ["anyOf", "oneOf"] {
            let Some(forms) = list(key) else { continue };
            let exclusive = key == "oneOf";
            let mut accepted = 0;
            let mut refused = Vec::new();
            for form in forms {
                let wrong = self.tried(form, value);
                if wrong.is_empty() {
                    accepted += 1;
                    if !exclusive {
                        break;
                    }
                } else {
                    refused.push((form, wrong));
                }
            }
            if accepted == 0 {
                self.explain(schema, refused, exclusive, value);
            } else if exclusive && accepted > 1 {
                self.report(Problem::Ambiguous);
            }
        }
        if let Some(condition) = rules.get("if") {
            let holds = self.tried(condition, value).is_empty();
            if let Some(then) = rules.get(if holds { "then" } else { "else" }) {
                self.value(then, value);
            }
        }
        if let Some(excluded) = rules.get("not")
            && self.tried(excluded, value).is_empty()
        {
            self.report(Problem::Excluded);
        }
    }

    /// Reports of several forms, none of which fits, the faults of the one that was meant.
    fn explain<'a>(
        &mut self,
        schema: &'s Json,
        mut refused: Vec<(&'s Json, Vec<Violation<'s>>)>,
        exclusive: bool,
        value: impl Instance<'a>,
    ) {
        // Null is how a schema says that a value may be left out.
        refused.retain(|(form, _)| !is_null(form));
        if let [(_, wrong)] = &mut refused[..] {
            return self.found.append(wrong);
        }
        let root = self.root;
        let view = value.view();
        if let (true, View::Object(table)) = (exclusive, &view) {
            let tagged = refused.iter().filter_map(|(form, wrong)| {
                let form = follow(root, form)?;
                let tag = form.get("properties")?.as_object()?.iter();
                let mut tag = tag;
                let (key, word) = tag.find_map(|(key, p)| Some((key, p.get("const")?.as_str()?)))?;
                Some((key.as_str(), word, wrong))
            });
            let tagged: Vec<_> = tagged.collect();
            if let Some(&(key, ..)) = tagged.first().filter(|_| tagged.len() == refused.len()) {
                let tag = table.iter().find(|(name, _)| *name == key).map(|(_, value)| value.view());
                let chosen = match &tag {
                    None => {
                        let known = tagged.iter().map(|(_, word, _)| *word).collect();
                        return self.report(Problem::Missing { key, known, schema });
                    }
                    Some(View::String(tag)) => tagged.iter().find(|(_, word, _)| word == tag),
                    Some(_) => None,
                };
                if let Some((_, _, wrong)) = chosen {
                    return self.found.extend((*wrong).iter().cloned());
                }
                let consts = refused.iter().filter_map(|(form, _)| follow(root, form)?["properties"][key].get("const"));
                let listed = consts.collect();
                self.path.push(key.to_owned());
                self.report(Problem::NotListed(listed));
                self.path.pop();
                return;
            }
        }
        let mut closest: Option<Vec<Violation<'s>>> = None;
        for (form, wrong) in refused {
            let form = follow(root, form).unwrap_or(form);
            let listed = choices(form);
            let fits = match form.get("type").and_then(types) {
                Some(types) => types.iter().any(|t| view.is_of_type(t)),
                None if !listed.is_empty() => matches!(view, View::String(_)),
                None => !matches!(view, View::Foreign),
            };
            // A type that is free to be anything of its kind knows better than a list of words.
            if fits && (closest.is_none() || listed.is_empty()) {
                closest = Some(wrong);
            }
        }
        match closest {
            Some(wrong) => self.found.extend(wrong),
            None => self.report(Problem::Type(schema)),
        }
    }

    fn table<'a, I: Instance<'a>>(&mut self, schema: &'s Json, rules: &'s Map<String, Json>, table: &[(&'a str, I)]) {
        let properties = rules.get("properties").and_then(Json::as_object);
        for (key, value) in table {
            let known = properties.and_then(|all| all.get(*key));
            self.path.push((*key).to_owned());
            match known.or_else(|| rules.get("additionalProperties").filter(|other| !other.is_boolean())) {
                Some(property) => {
                    self.about.push((self.path.len(), property));
                    self.value(property, *value);
                    self.about.pop();
                }
                None if rules.get("additionalProperties") == Some(&Json::Bool(false)) => {
                    self.report(Problem::Unknown(schema));
                }
                // Beside alternatives, which may know the key, this schema has no say.
                None if ["oneOf", "anyOf", "allOf"].iter().any(|key| rules.contains_key(*key)) => {}
                None => self.free(*value),
            }
            self.path.pop();
        }
        for key in rules.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if !table.iter().any(|(name, _)| *name == key) {
                self.report(Problem::Missing { key, known: Vec::new(), schema });
            }
        }
    }

    fn list<'a, I: Instance<'a>>(&mut self, rules: &'s Map<String, Json>, list: &[I]) {
        let first = rules.get("prefixItems").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let unique = rules.get("uniqueItems") == Some(&Json::Bool(true));
        for (index, value) in list.iter().enumerate() {
            self.path.push(index.to_string());
            match first.get(index).or_else(|| rules.get("items")) {
                Some(schema) => self.value(schema, *value),
                None => self.free(*value),
            }
            if unique {
                let looks = u32::try_from(index / COMPARISONS).unwrap_or(u32::MAX);
                self.looks = self.looks.saturating_sub(looks);
                if self.looks == 0 {
                    self.report(Problem::TooDeep);
                    self.path.pop();
                    return;
                }
                if list[..index].iter().any(|other| other.view().equals(&value.view())) {
                    self.report(Problem::Duplicate);
                }
            }
            self.path.pop();
        }
    }

    fn number<'a, I: Instance<'a>>(&mut self, rules: &'s Map<String, Json>, view: &View<'a, I>) {
        let Some(x) = view.number() else { return };
        if failed_bound(rules, x).is_some() {
            self.report(Problem::Range(rules));
        }
        if let Some(step) = rules.get("multipleOf").and_then(Json::as_f64) {
            let times = x / step;
            if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
                self.report(Problem::MultipleOf(step));
            }
        }
    }

    fn length<'a, I: Instance<'a>>(&mut self, rules: &'s Map<String, Json>, view: &View<'a, I>) {
        let (len, least, most, what) = match view {
            View::String(text) => (text.chars().count(), "minLength", "maxLength", "characters"),
            View::Array(list) => (list.len(), "minItems", "maxItems", "items"),
            View::Object(table) => (table.len(), "minProperties", "maxProperties", "entries"),
            _ => return,
        };
        let bound = |key: &str| rules.get(key).and_then(Json::as_u64);
        let (least, most) = (bound(least), bound(most));
        if least.is_some_and(|least| (len as u64) < least) || most.is_some_and(|most| len as u64 > most) {
            self.report(Problem::Length { len, least, most, what });
        }
    }

    /// A value that no rule is about: it must be one that JSON can hold.
    fn free<'a>(&mut self, value: impl Instance<'a>) {
        match value.view() {
            View::Object(table) => {
                for (key, value) in table {
                    self.path.push(key.to_owned());
                    self.free(value);
                    self.path.pop();
                }
            }
            View::Array(list) => {
                for (index, value) in list.into_iter().enumerate() {
                    self.path.push(index.to_string());
                    self.free(value);
                    self.path.pop();
                }
            }
            View::Foreign => self.report(Problem::NotJson),
            View::Integer(x) | View::Number(x) if !x.is_finite() => self.report(Problem::NotJson),
            _ => {}
        }
    }
}

/// A keyword that bounds a number, what it says of the number, and whether a number keeps to it.
type Bound = (&'static str, &'static str, fn(f64, f64) -> bool);

/// NaN keeps to none of them.
const BOUNDS: [Bound; 4] = [
    ("minimum", "at least", |x, bound| x >= bound),
    ("exclusiveMinimum", "above", |x, bound| x > bound),
    ("maximum", "at most", |x, bound| x <= bound),
    ("exclusiveMaximum", "below", |x, bound| x < bound),
];

/// Every bound of a schema for numbers, such as `at least` and 0.
pub fn bounds(rules: &Map<String, Json>) -> impl Iterator<Item = (&'static str, f64)> {
    BOUNDS.iter().filter_map(|(key, words, _)| Some((*words, rules.get(*key)?.as_f64()?)))
}

/// The first bound that a number breaks: what it says, and the bound.
pub(crate) fn failed_bound(rules: &Map<String, Json>, x: f64) -> Option<(&'static str, f64)> {
    BOUNDS.iter().find_map(|(key, words, holds)| {
        let bound = rules.get(*key)?.as_f64()?;
        (!holds(x, bound)).then_some((*words, bound))
    })
}

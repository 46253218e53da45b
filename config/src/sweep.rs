//! `[sweep]`: from lists of values to points.

use std::{collections::BTreeSet, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{
    diagnostic::Diagnostic,
    document::{Entry, Node, Table, Value, get, merge, nested},
    paths,
    place::SourceMap,
    schema::FILE,
};

/// More variants than anybody reads a table of.
pub(crate) const MOST_POINTS: usize = 10_000;

/// A key that is swept.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) path: Vec<String>,
    pub(crate) key: Range<usize>,
    pub(crate) values: Vec<Node>,
}

/// A `[sweep]` table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) zip: bool,
    pub(crate) axes: Vec<Axis>,
}

/// One combination of values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    /// The indices of axes, and of the value on each.
    values: Vec<(Vec<String>, Range<usize>, Node)>,
}

impl Sweep {
    /// Reads a `[sweep]`; what is wrong with it is added to `found`.
    pub(crate) fn read(entry: Option<&Entry>, texts: &SourceMap, found: &mut Vec<Diagnostic>) -> Self {
        let mut sweep = Self::default();
        let Some((entry, table)) = entry.and_then(|entry| Some((entry, entry.node.as_table()?))) else { return sweep };
        sweep.zip = table.get("zip").is_some_and(|zip| zip.node.value == Value::Boolean(true));
        sweep.collect(table, &[], texts, found);
        let lengths: BTreeSet<usize> = sweep.axes.iter().map(|axis| axis.values.len()).collect();
        if sweep.zip && lengths.len() > 1 {
            let all: Vec<String> =
                sweep.axes.iter().map(|axis| format!("{} has {}", axis.path.join("."), axis.values.len())).collect();
            let what = format!("lists of different lengths cannot be zipped: {}", all.join(", "));
            found.push(
                Diagnostic::new(what, texts.place(&entry.key)).help("make them equally long, or leave `zip` out"),
            );
            sweep.axes.clear();
        }
        sweep
    }

    fn collect(&mut self, table: &Table, prefix: &[String], texts: &SourceMap, found: &mut Vec<Diagnostic>) {
        for (key, entry) in table.iter().filter(|(key, _)| !prefix.is_empty() || *key != "zip") {
            let Some(rest) = segments(key) else {
                let what = format!("`{key}` is no path of keys");
                let wrong = Diagnostic::new(what, texts.place(&entry.key));
                found.push(wrong.help("write keys with dots between them: \"strategy.params.alpha\""));
                continue;
            };
            let path = [prefix, &rest].concat();
            match &entry.node.value {
                Value::Table(inner) => self.collect(inner, &path, texts, found),
                Value::Array(values) => {
                    let mut labels = BTreeSet::new();
                    let twice = values.iter().find(|value| !labels.insert(label(value)));
                    if let Some(value) = twice {
                        let what = format!("the sweep of {} has {} twice", path.join("."), label(value));
                        found.push(
                            Diagnostic::new(what, texts.place(&value.span)).help("every value makes one variant"),
                        );
                    } else if values.is_empty() {
                        let what = format!("the sweep of {} has no values", path.join("."));
                        let wrong = Diagnostic::new(what, texts.place(&entry.node.span));
                        found.push(wrong.help("list at least one, or leave the key out"));
                    } else {
                        self.axes.push(Axis { path, key: entry.key.clone(), values: values.clone() });
                    }
                }
                _ => {
                    let what = format!("the sweep of {} is no list of values", path.join("."));
                    let wrong = Diagnostic::new(what, texts.place(&entry.node.span));
                    found.push(wrong.help("write a list: [0.5, 1.0]; one value belongs into its own table"));
                }
            }
        }
    }

    /// Takes away the axes that another sweep has too.
    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.axes.retain(|axis| other.axes.iter().all(|theirs| theirs.path != axis.path));
        self
    }

    /// How many points there are.
    pub(crate) fn len(&self) -> usize {
        if self.zip {
            return self.axes.first().map_or(1, |axis| axis.values.len());
        }
        self.axes.iter().fold(1, |product: usize, axis| product.saturating_mul(axis.values.len()))
    }

    /// The combinations, the last list changing fastest; a single empty one if nothing is swept.
    pub(crate) fn points(&self) -> Vec<Point> {
        let at = |axis: &Axis, i: usize| (axis.path.clone(), axis.key.clone(), axis.values[i].clone());
        (0..self.len())
            .map(|number| {
                let mut rest = number;
                let mut values: Vec<_> = self
                    .axes
                    .iter()
                    .rev()
                    .map(|axis| {
                        let i = if self.zip { number } else { rest % axis.values.len() };
                        rest /= axis.values.len();
                        at(axis, i)
                    })
                    .collect();
                values.reverse();
                Point { values }
            })
            .collect()
    }
}

impl Point {
    /// Both points together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self { values: [&self.values[..], &other.values].concat() }
    }

    /// The keys that it changes.
    pub(crate) fn layer(&self) -> Table {
        let mut layer = Table::new();
        for (path, key, value) in &self.values {
            merge(&mut layer, nested(path, key, value.clone()));
        }
        layer
    }

    /// Paths with their values.
    pub(crate) fn coordinates(&self) -> Vec<(String, serde_json::Value)> {
        let json = |node: &Node| serde_json::to_value(node.to_toml()).unwrap_or_default();
        self.values.iter().map(|(path, _, value)| (path.join("."), json(value))).collect()
    }

    /// `static[alpha=0.5]`; keys that end alike are written in full.
    pub(crate) fn name(&self, stem: &str) -> String {
        if self.values.is_empty() {
            return stem.to_owned();
        }
        let last = |path: &[String]| path.last().cloned().unwrap_or_default();
        let one = |(path, _, value): &(Vec<String>, Range<usize>, Node)| {
            let alike = self.values.iter().filter(|(other, _, _)| last(other) == last(path)).count();
            let key = if alike > 1 { path.join(".") } else { last(path) };
            format!("{key}={}", label(value))
        };
        format!("{stem}[{}]", self.values.iter().map(one).collect::<Vec<String>>().join(","))
    }
}

/// A value as it stands in the name of a variant. Names are parts of sample keys, which slashes separate.
fn label(value: &Node) -> String {
    let text = value.as_str().map_or_else(|| value.to_toml().to_string(), str::to_owned);
    text.replace('/', ":").replace(['\n', '\r', '\t'], " ")
}

/// The keys of a dotted path, by TOML's own rules for quotes.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    let text = format!("{path} = 0");
    let document = DeTable::parse(&text).ok()?.into_inner();
    let mut keys = Vec::new();
    let mut table = &document;
    loop {
        // More than one key is more than one line.
        let (key, value) = table.iter().next().filter(|_| table.len() == 1)?;
        keys.push(key.get_ref().clone().into_owned());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Integer(_) => return (value.span().end == text.len()).then_some(keys),
            _ => return None,
        }
    }
}

/// Rewrites the paths among the values of all sweeps of a file.
pub(crate) fn rewrite_paths(file: &mut Table, with: &dyn Fn(&str) -> String) {
    let mut sweeps: Vec<&mut Table> = Vec::new();
    for (key, entry) in file {
        match (key.as_str(), entry.node.as_table_mut()) {
            ("sweep", Some(sweep)) => sweeps.push(sweep),
            ("variants", Some(variants)) => {
                let tables = variants.values_mut().filter_map(|variant| variant.node.as_table_mut());
                sweeps.extend(tables.filter_map(|variant| variant.get_mut("sweep")?.node.as_table_mut()));
            }
            _ => {}
        }
    }
    for sweep in sweeps {
        rewrite_values(sweep, &[], with);
    }
}

fn rewrite_values(sweep: &mut Table, prefix: &[String], with: &dyn Fn(&str) -> String) {
    for (key, entry) in sweep {
        let Some(rest) = segments(key) else { continue };
        let path = [prefix, &rest].concat();
        match &mut entry.node.value {
            Value::Table(inner) => rewrite_values(inner, &path, with),
            Value::Array(values) => {
                for value in values {
                    let mut layer = nested(&path, &entry.key, value.clone());
                    paths::rewrite(&FILE, &mut layer, with);
                    if let Some(entry) = get(&layer, &path) {
                        *value = entry.node.clone();
                    }
                }
            }
            _ => {}
        }
    }
}

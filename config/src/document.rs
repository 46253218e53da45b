//! A TOML document whose every key and value remembers where it was written.

use std::{ops::Range, sync::Arc};

use indexmap::IndexMap;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostic::Diagnostic,
    place::{Place, SourceText},
};

/// Syntax errors beyond these are most often echoes of the first.
const MOST_SYNTAX_ERRORS: usize = 10;

/// A value with its span in the [`SourceMap`](super::place::SourceMap)'s address space.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Range<usize>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// What TOML has and no key takes: dates, and integers of more than 64 bits.
    Other(String),
}

/// Keys in the order of the file.
pub(crate) type Table = IndexMap<String, Entry>;

/// A key's value, and where the key was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Range<usize>,
    pub(crate) node: Node,
    /// Written for something that a later layer replaced; see [`merge`].
    pub(crate) inherited: bool,
}

impl Entry {
    pub(crate) fn new(key: Range<usize>, node: Node) -> Self {
        Self { key, node, inherited: false }
    }

    /// What to underline: the key of a table, which has no short form, and the value of anything else.
    pub(crate) fn underline(&self) -> &Range<usize> {
        if matches!(self.node.value, Value::Table(_)) { &self.key } else { &self.node.span }
    }
}

impl Node {
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    pub(crate) fn as_table_mut(&mut self) -> Option<&mut Table> {
        if let Value::Table(table) = &mut self.value { Some(table) } else { None }
    }

    /// The value without its places, for serde.
    pub(crate) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::String(text) | Value::Other(text) => text.clone().into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Boolean(flag) => (*flag).into(),
            Value::Array(items) => items.iter().map(Self::to_toml).collect::<Vec<_>>().into(),
            Value::Table(table) => to_toml(table).into(),
        }
    }
}

/// A table without its places, for serde.
pub(crate) fn to_toml(table: &Table) -> toml::Table {
    table.iter().map(|(key, entry)| (key.clone(), entry.node.to_toml())).collect()
}

/// Reads a text; the table is as much of it as could be understood.
pub(crate) fn parse(source: &Arc<SourceText>) -> (Table, Vec<Diagnostic>) {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let diagnose = |error: toml::de::Error| {
        let place = Place::new(source, error.span().unwrap_or_default());
        Diagnostic::new(format!("not TOML: {}", error.message()), Some(place))
            .help("strings need quotes, and every key a value: `key = \"value\"`")
    };
    let wrong = errors.into_iter().take(MOST_SYNTAX_ERRORS).map(diagnose).collect();
    (table(document.into_inner(), source.base), wrong)
}

fn table(table: DeTable<'_>, base: usize) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let span = shifted(&key.span(), base);
            (key.into_inner().into_owned(), Entry::new(span, node(value, base)))
        })
        .collect()
}

fn node(value: Spanned<DeValue<'_>>, base: usize) -> Node {
    let span = shifted(&value.span(), base);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other(digits.to_string()),
        },
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            // An overflow is not an infinity that was written.
            Ok(number) if number.is_finite() || digits.as_str().ends_with(['f', 'n']) => Value::Float(number),
            _ => Value::Other(digits.to_string()),
        },
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| node(item, base)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, base)),
    };
    Node { value, span }
}

fn shifted(span: &Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

/// Lays one table over another: tables merge, everything else is replaced.
///
/// Where both name a strategy (`use`) and it is not the same, the `params` below are those of the other strategy and go;
/// the `roles` below stay and are marked, because the new strategy need not have all of them.
pub(crate) fn merge(below: &mut Table, above: Table) {
    let used = |table: &Table| table.get("use").and_then(|entry| entry.node.as_str().map(str::to_owned));
    if let (Some(old), Some(new)) = (used(below), used(&above))
        && old != new
    {
        below.shift_remove("params");
        let roles = below.get_mut("roles").and_then(|roles| roles.node.as_table_mut());
        roles.into_iter().flatten().for_each(|(_, role)| role.inherited = true);
    }
    for (key, entry) in above {
        match below.get_mut(&key) {
            Some(Entry { node: Node { value: Value::Table(old), .. }, .. })
                if matches!(entry.node.value, Value::Table(_)) =>
            {
                if let Value::Table(new) = entry.node.value {
                    merge(old, new);
                }
            }
            Some(old) => *old = entry,
            None => {
                below.insert(key, entry);
            }
        }
    }
}

/// What stands at a path.
pub(crate) fn get<'t>(table: &'t Table, path: &[impl AsRef<str>]) -> Option<&'t Entry> {
    let (last, tables) = path.split_last()?;
    let mut inner = table;
    for key in tables {
        inner = inner.get(key.as_ref())?.node.as_table()?;
    }
    inner.get(last.as_ref())
}

/// Takes away what stands at a path.
pub(crate) fn remove(table: &mut Table, path: &[impl AsRef<str>]) -> Option<Entry> {
    match path {
        [] => None,
        [key] => table.shift_remove(key.as_ref()),
        [key, rest @ ..] => remove(table.get_mut(key.as_ref())?.node.as_table_mut()?, rest),
    }
}

/// A table with one value at a path; the tables on the way count as written where the key was.
pub(crate) fn nested(path: &[String], key: &Range<usize>, node: Node) -> Table {
    let Some((first, rest)) = path.split_first() else { return Table::new() };
    let node =
        if rest.is_empty() { node } else { Node { value: Value::Table(nested(rest, key, node)), span: key.clone() } };
    Table::from([(first.clone(), Entry::new(key.clone(), node))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::SourceMap;

    fn read(text: &str) -> Table {
        let (table, wrong) = parse(&SourceMap::default().add("t", text));
        assert_eq!(wrong, []);
        table
    }

    #[test]
    fn tables_merge_and_the_rest_is_replaced() {
        let mut below = read("a = 1\nlist = [1, 2]\n[t]\nx = 1\n[t.inner]\ny = 1\n");
        merge(&mut below, read("list = [3]\nb = 2\nt.inner.z = 2\nt.x = 'new'\n"));
        let merged = read("a = 1\nlist = [3]\nb = 2\n[t]\nx = 'new'\n[t.inner]\ny = 1\nz = 2\n");
        assert_eq!(to_toml(&below), to_toml(&merged));
    }

    #[test]
    fn another_strategy_leaves_the_parameters_behind() {
        let base = "[strategy]\nuse = 'a'\nparams = { x = 1 }\nroles = { base = 'L', expert = 'S' }\n[strategy.gate]\nmax_prob = 0.3\n";
        let mut other = read(base);
        merge(&mut other, read("strategy = { use = 'b', roles = { base = 'M' } }"));
        assert!(get(&other, &["strategy", "params"]).is_none() && get(&other, &["strategy", "gate"]).is_some());
        assert!(get(&other, &["strategy", "roles", "expert"]).expect("it stays").inherited);
        assert!(!get(&other, &["strategy", "roles", "base"]).expect("it is new").inherited);
        let mut same = read(base);
        merge(&mut same, read("strategy = { use = 'a', params = { y = 2 } }"));
        assert!(
            get(&same, &["strategy", "params", "x"]).is_some() && get(&same, &["strategy", "params", "y"]).is_some()
        );
    }

    #[test]
    fn what_no_key_takes_is_kept_as_text() {
        let table = read("date = 2026-01-31\nlong = 99999999999999999999\nhex = 0xff\ninf = -inf\n");
        let value = |key: &str| table[key].node.value.clone();
        assert_eq!(value("date"), Value::Other("2026-01-31".to_owned()));
        assert_eq!(value("long"), Value::Other("99999999999999999999".to_owned()));
        assert_eq!(value("hex"), Value::Integer(255));
        assert_eq!(value("inf"), Value::Float(f64::NEG_INFINITY));
    }
}

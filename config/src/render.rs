//! A document as TOML again.

use std::fmt::Write;

use super::{
    document::{Node, Table, Value},
    place::SourceMap,
};

/// The document as TOML; with texts, every value is followed by the place that it comes from.
pub(crate) fn toml(document: &Table, texts: Option<&SourceMap>) -> String {
    let mut lines = Vec::new();
    table(document, &mut Vec::new(), texts, &mut lines);
    // Origins stand in one column, as far as lines are short.
    let width = lines.iter().map(|line| line.0.chars().count()).filter(|&n| n <= 60).max().unwrap_or(0);
    let mut out = String::new();
    for (line, origin) in lines {
        let _ = match origin {
            Some(origin) => writeln!(out, "{line:<width$}  # {origin}"),
            None => writeln!(out, "{line}"),
        };
    }
    out
}

type Line = (String, Option<String>);

fn table(table: &Table, path: &mut Vec<String>, texts: Option<&SourceMap>, lines: &mut Vec<Line>) {
    let is_table = |node: &Node| matches!(node.value, Value::Table(_)) || tables(node).is_some();
    let origin = |node: &Node| {
        let place = texts?.place(&node.span)?;
        Some(if place.name().starts_with("--") {
            place.name().to_owned()
        } else {
            format!("{}:{}", place.name(), place.line())
        })
    };
    // TOML wants the values of a table before its tables.
    for (name, entry) in table.iter().filter(|(_, entry)| !is_table(&entry.node)) {
        lines.push((format!("{} = {}", key(name), entry.node.to_toml()), origin(&entry.node)));
    }
    for (name, entry) in table.iter().filter(|(_, entry)| is_table(&entry.node)) {
        path.push(key(name));
        if let Value::Table(inner) = &entry.node.value {
            let only_tables = !inner.is_empty() && inner.values().all(|entry| is_table(&entry.node));
            if !only_tables {
                header(&format!("[{}]", path.join(".")), lines);
            }
            self::table(inner, path, texts, lines);
        }
        for one in tables(&entry.node).into_iter().flatten() {
            header(&format!("[[{}]]", path.join(".")), lines);
            self::table(one, path, texts, lines);
        }
        path.pop();
    }
}

fn header(line: &str, lines: &mut Vec<Line>) {
    if !lines.is_empty() {
        lines.push((String::new(), None));
    }
    lines.push((line.to_owned(), None));
}

/// The items of a list of tables.
fn tables(node: &Node) -> Option<Vec<&Table>> {
    let Value::Array(items) = &node.value else { return None };
    let tables: Option<Vec<&Table>> = items.iter().map(Node::as_table).collect();
    tables.filter(|tables| !tables.is_empty())
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { name.to_owned() } else { toml::Value::from(name).to_string() }
}

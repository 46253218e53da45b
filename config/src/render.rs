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
    let inline = is_sweep(path);
    let is_table = |node: &Node| !inline && has_tables(node);
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
            let only_tables = !inner.is_empty() && inner.values().all(|entry| has_tables(&entry.node));
            if !only_tables || is_sweep(path) {
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

/// The order of a sweep's keys is that of the variants' names, so that what is a table there stays in its place, within a line.
fn is_sweep(path: &[String]) -> bool {
    path.last().is_some_and(|name| name == "sweep")
}

/// Whether it is written under a header of its own where order does not matter.
fn has_tables(node: &Node) -> bool {
    matches!(node.value, Value::Table(_)) || tables(node).is_some()
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
    if bare {
        return name.to_owned();
    }
    // As a value, a name with both kinds of quotes or a line end would take three quotes, which a key may not have.
    let line = toml::Table::from_iter([(name.to_owned(), 0.into())]).to_string();
    line.trim_end().trim_end_matches(" = 0").to_owned()
}

#[cfg(test)]
mod tests {
    use crate::{Experiment, Overrides};

    #[test]
    fn a_sweep_keeps_its_order_whatever_it_is_over() {
        for text in [
            "[sources]\n[sweep]\n'strategy.params.alpha' = [{}]\n'strategy.params.w' = [1, 2]\n",
            "[sources]\n[sweep]\n'strategy.params.alpha' = [{}]\n",
            "[sources]\n[variants.x.sweep]\n'strategy.params.a' = [{ b = 1 }, { b = 2 }]\n'strategy.params.w' = [1, 2]\n",
        ] {
            let experiment = Experiment::from_toml(&format!("schema = 1\n{text}"), &Overrides::default()).unwrap();
            let resolved = experiment.resolved_toml();
            let again = Experiment::from_toml(&resolved, &Overrides::default()).unwrap();
            assert_eq!(again.variants(), experiment.variants(), "{resolved}");
        }
    }

    #[test]
    fn names_of_every_kind_are_written_as_they_were_read() {
        for name in [
            "\"><img src=x onerror=document.title='x'>",
            "both \" and '",
            "three \"\"\" and '''",
            "a\nb\r\tc",
            "back\\slash",
            "a.b[c]#d = 0",
            " = 0",
            "bell\u{7}delete\u{7f}",
            "",
            "ä 😀",
        ] {
            let source = toml::Table::from_iter([("model".to_owned(), "m".into())]);
            let sources = toml::Table::from_iter([(name.to_owned(), source.into())]);
            let text = format!("schema = 1\n{}", toml::Table::from_iter([("sources".to_owned(), sources.into())]));
            let experiment = Experiment::from_toml(&text, &Overrides::default()).unwrap();
            let resolved = experiment.resolved_toml();
            let again = Experiment::from_toml(&resolved, &Overrides::default());
            let again = again.unwrap_or_else(|e| panic!("{name:?}: {e}\n{resolved}"));
            assert_eq!(again.config().unwrap().sources.keys().collect::<Vec<_>>(), [name], "{resolved}");
            assert_eq!(again.resolved_toml(), resolved);
        }
    }
}

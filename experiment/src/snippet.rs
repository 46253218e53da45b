//! The line of a TOML that an error is about.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::Error;
use toml::{Spanned, de::DeTable, de::DeValue};

use crate::Config;

/// Where a configuration was read from; empty for one that was made in memory.
#[derive(Clone, Debug, Default)]
pub struct ConfigOrigin {
    /// The folder of the TOML.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) text: Arc<str>,
}

impl ConfigOrigin {
    pub(crate) fn new(file: &Path, text: String) -> Self {
        let folder = file.parent().unwrap_or(Path::new(""));
        Self { folder: Some(folder.to_owned()), file: Some(file.to_owned()), text: text.into() }
    }
}

/// A line of a file with a part of it underlined. It is the [`source`](std::error::Error::source) of errors about
/// parameters, for a front end to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The file, its line and column, both from 1.
    pub place: String,
    line: usize,
    text: String,
    indent: usize,
    width: usize,
}

impl fmt::Display for Snippet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{margin}--> {}", self.place)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.text)?;
        write!(f, "{margin} | {}{}", " ".repeat(self.indent), "^".repeat(self.width))
    }
}

impl std::error::Error for Snippet {}

impl Config {
    /// The same error, with the line that it is about if it points at a parameter of the strategy.
    pub(crate) fn underline(&self, error: Error) -> Error {
        let Some(snippet) = self.snippet(&error.to_string()) else { return error };
        error.context(&snippet.place).with_source(snippet)
    }

    fn snippet(&self, message: &str) -> Option<Snippet> {
        let (table, rest) = if let Some(rest) = message.strip_prefix("strategy.params of `") {
            ("params", rest.split_once("`: ")?.1)
        } else if let Some(rest) = message.strip_prefix("strategy.schedule: ") {
            ("schedule", rest)
        } else {
            ("gate", message.strip_prefix("strategy.gate: ")?)
        };
        let pointer = rest.split_once(": ").map_or(rest, |(pointer, _)| pointer);
        let text: &str = &self.origin.text;
        let span = span(text, ["strategy", table].into_iter().chain(pointer.split('/').skip(1)))?;
        let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(start..)?.lines().next()?;
        let before = text.get(start..span.start)?;
        let marked = text.get(span.start..span.end.min(start + line.len()))?;
        let number = text.get(..start)?.matches('\n').count() + 1;
        let indent = before.chars().count();
        let file = self.origin.file.as_deref()?.display().to_string();
        Some(Snippet {
            place: format!("{file}:{number}:{}", indent + 1),
            line: number,
            text: line.replace('\t', " "),
            indent,
            width: marked.chars().count().max(1),
        })
    }
}

/// Where the value behind these keys stands, or its key if the value is a whole table.
fn span<'k>(text: &str, mut keys: impl Iterator<Item = &'k str>) -> Option<std::ops::Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let first = keys.next()?;
    let mut value: &Spanned<DeValue<'_>> = document.get_ref().get(first)?;
    for key in keys {
        let key = key.replace("~1", "/").replace("~0", "~");
        value = match value.get_ref() {
            DeValue::Table(table) => table.get(key.as_str())?,
            DeValue::Array(list) => list.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value.span())
}

#[cfg(test)]
mod tests {
    use logitfuse_core::ErrorKind;

    use super::*;

    #[test]
    fn a_parameter_is_underlined() {
        let text = "schema = 1\n[sources.base]\nmodel = \"x\"\n[strategy]\nuse = \"y\"\nparams = { a = 1, weights = [1.0, \"ä\"] }\n";
        let mut config = Config::from_toml(text).unwrap();
        config.origin = ConfigOrigin::new(Path::new("e.toml"), text.to_owned());
        let error = Error::new(ErrorKind::InvalidConfig, "strategy.params of `y`: /weights/1: must be a number");
        let error = config.underline(error);
        assert_eq!(error.to_string(), "e.toml:6:35: strategy.params of `y`: /weights/1: must be a number");
        let snippet = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            snippet,
            " --> e.toml:6:35\n  |\n6 | params = { a = 1, weights = [1.0, \"ä\"] }\n  |                                   ^^^"
        );
        let elsewhere = Error::new(ErrorKind::InvalidConfig, "strategy.params of `y`: /beta: must be there");
        assert!(std::error::Error::source(&config.underline(elsewhere)).is_none());
    }
}

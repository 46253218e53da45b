//! Where a configuration's values come from, for errors that are found after it was read.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::Error;

use super::{
    diagnostic::{Diagnostic, Diagnostics},
    document::{Node, Table, Value, get},
    place::SourceMap,
};

/// Where a configuration was read from; empty for one that was made in memory.
#[derive(Clone, Debug, Default)]
pub struct ConfigOrigin {
    /// The folder of the TOML.
    pub(crate) folder: Option<PathBuf>,
    document: Arc<Table>,
    texts: Arc<SourceMap>,
}

impl ConfigOrigin {
    pub(crate) fn new(folder: Option<&Path>, document: Table, texts: Arc<SourceMap>) -> Self {
        Self { folder: folder.map(Path::to_owned), document: Arc::new(document), texts }
    }

    pub(crate) fn document(&self) -> &Table {
        &self.document
    }

    /// Roles that were given for a strategy which a later layer replaced: the new one need not have them.
    pub(crate) fn inherited_roles(&self) -> BTreeSet<&str> {
        let roles = get(&self.document, &["strategy", "roles"]).and_then(|entry| entry.node.as_table());
        roles.into_iter().flatten().filter(|(_, role)| role.inherited).map(|(name, _)| name.as_str()).collect()
    }
}

impl ConfigOrigin {
    /// As [`Config::underline`](super::Config::underline), without the configuration.
    pub(crate) fn underline(&self, error: Error) -> Error {
        underline(&self.document, &self.texts, error)
    }
}

/// The same error, with the place of the value that its message begins with. Messages are put together from what callers
/// know, the table first: `tasks.qa: filters[0]: /filter/1/k: must be 1 or more`.
pub(crate) fn underline(document: &Table, texts: &SourceMap, error: Error) -> Error {
    let message = error.to_string();
    let placed = matches!(std::error::Error::source(&error), Some(source) if source.is::<Diagnostics>());
    let place = deepest(document, &message).filter(|_| !placed).and_then(|span| texts.place(&span));
    let Some(place) = place else { return error };
    let mut diagnostic = Diagnostic::new(message, Some(place.clone()));
    diagnostic.help = error.help().map(str::to_owned);
    error.context(place).with_source(Diagnostics(vec![diagnostic]))
}

/// What to underline for a message: the value that its parts lead to, or the last thing on the way that is there.
fn deepest(document: &Table, message: &str) -> Option<Range<usize>> {
    let keys = message
        .split(": ")
        // `strategy.params of `id``
        .map(|part| part.split_once(" of `").map_or(part, |(path, _)| path))
        .take_while(|part| !part.contains(char::is_whitespace))
        .flat_map(|part| match part.strip_prefix('/') {
            Some(pointer) => {
                pointer.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect::<Vec<_>>()
            }
            None => part.split(['.', '[']).map(|key| key.trim_end_matches(']').to_owned()).collect(),
        });
    let (mut table, mut items, mut found) = (Some(document), None, None);
    for key in keys {
        let entry = table.and_then(|table| table.get(&key));
        let item = items.and_then(|items: &Vec<Node>| items.get(key.parse::<usize>().ok()?));
        let (node, span) = match (entry, item) {
            (Some(entry), _) => (&entry.node, entry.underline()),
            (None, Some(item)) => (item, &item.span),
            (None, None) => break,
        };
        found = Some(span.clone());
        table = node.as_table();
        items = if let Value::Array(items) = &node.value { Some(items) } else { None };
    }
    found
}

#[cfg(test)]
mod tests {
    use logitfuse_core::ErrorKind;

    use super::*;
    use crate::Config;

    const TEXT: &str = "schema = 1\n[sources.base]\nmodel = \"x\"\n[strategy]\nuse = \"y\"\n\
                        params = { a = 1, weights = [1.0, \"ä\"] }\ngate = { max_prob = 2 }\n";

    #[track_caller]
    fn underlined(message: &str, expected: Option<&str>) {
        let config = Config::from_toml(TEXT).expect("it is sound");
        let error = config.underline(Error::new(ErrorKind::InvalidConfig, message).with_help("so"));
        let found = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<Diagnostics>());
        let place = found.and_then(|found| found.0[0].place.clone());
        assert_eq!(place.as_ref().map(|place| &TEXT[place.range()]), expected);
        assert_eq!(error.to_string(), place.map_or(message.to_owned(), |place| format!("{place}: {message}")));
        assert_eq!(error.help(), Some("so"));
    }

    #[test]
    fn what_a_message_begins_with_is_underlined() {
        underlined("strategy.params of `y`: /weights/1: must be a number", Some("\"ä\""));
        underlined("strategy.gate: /max_prob: must be at most 1", Some("2"));
        underlined("strategy.use: no strategy is called `y`", Some("\"y\""));
        underlined("sources.base.model: x: no such folder", Some("\"x\""));
        // What is not there is missing in the table around it.
        underlined("strategy.params of `y`: /beta: must be there", Some("params"));
        underlined("sources.base.user: line 1: undefined value", Some("base"));
        underlined("models/x: no such folder", None);
        underlined("run", None);
    }
}

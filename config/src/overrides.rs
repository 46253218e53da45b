//! `--set` and `--unset`: the last words on an experiment.

use std::path::Path;

use logitfuse_pipeline::did_you_mean;

use super::{
    check::Check,
    diagnostic::Diagnostic,
    document::{Entry, Node, Table, Value, get, merge, nested, parse, remove},
    paths,
    place::{Place, SourceMap},
    schema::{FILE, LAYERED},
    sweep::{self, segments},
};

/// What a command line changes in an experiment.
///
/// ```
/// use logitfuse_config::{Experiment, Overrides};
///
/// let overrides = Overrides { set: vec!["run.seed=7".to_owned()], unset: vec!["run.stop".to_owned()] };
/// let text = "schema = 1\n[run]\nstop = ['.']\n[sources.base]\nmodel = 'm'\n";
/// let config = Experiment::from_toml(text, &overrides)?.config()?;
/// assert_eq!((config.run.seed, config.run.stop.len()), (7, 0));
///
/// let typo = Overrides { set: vec!["run.sede=7".to_owned()], ..Overrides::default() };
/// let error = Experiment::from_toml(text, &typo).unwrap_err();
/// assert_eq!(error.to_string(), "--set #1:1:5: unknown key `sede` in [run]");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `path=value` each: keys with dots between them, and a value in TOML or a bare word. Tables are merged into the
    /// experiment's, everything else replaces what was there, and what variants and tasks say of the same key. Paths are
    /// relative to the working directory.
    pub set: Vec<String>,
    /// Paths of keys that are taken away, in variants and tasks as well. This comes before `set`.
    pub unset: Vec<String>,
}

/// Applies overrides to a document; gives back the paths that were set. `root` is the folder that paths are relative to.
pub(crate) fn apply(
    overrides: &Overrides,
    document: &mut Table,
    root: &Path,
    texts: &mut SourceMap,
    found: &mut Vec<Diagnostic>,
) -> Vec<Vec<String>> {
    for (i, path) in overrides.unset.iter().enumerate() {
        let source = texts.add(format!("--unset #{}", i + 1), path);
        if let Err(wrong) = unset(document, path) {
            found.push(Diagnostic { place: Some(Place::new(&source, 0..path.len())), ..wrong });
        }
    }
    let mut all = Table::new();
    for (i, text) in overrides.set.iter().enumerate() {
        if let Some(table) = read(text, &format!("--set #{}", i + 1), texts, found) {
            merge(&mut all, table);
        }
    }
    found.extend(strangers(&all, document, texts));
    paths::rewrite(&FILE, &mut all, &|path| paths::seen_from(root, path));
    sweep::rewrite_paths(&mut all, &|path| paths::seen_from(root, path));
    prune(document, &all);
    let set = leaves(&all);
    merge(document, all);
    set
}

/// The table that an override writes.
fn read(text: &str, name: &str, texts: &mut SourceMap, found: &mut Vec<Diagnostic>) -> Option<Table> {
    let source = texts.add(name, text);
    let whole = Place::new(&source, 0..text.len());
    let (mut table, wrong) = parse(&source);
    if !wrong.is_empty() {
        let word = text.split_once('=').filter(|(_, word)| is_bare_word(word.trim()));
        let Some((path, word)) = word.and_then(|(path, word)| Some((segments(path.trim())?, word.trim()))) else {
            let what = format!("`{text}` is neither PATH=VALUE with a value in TOML nor PATH=WORD");
            let wrong = Diagnostic::new(what, Some(whole));
            found
                .push(wrong.help("numbers, true and words are bare, other strings quoted: --set 'run.stop=[\"\\n\"]'"));
            return None;
        };
        let end = source.base + text.trim_end().len();
        let node = Node { value: Value::String(word.to_owned()), span: end - word.len()..end };
        table = nested(&path, &(source.base..source.base + text.find('=').unwrap_or(0)), node);
    }
    if table.len() != 1 || table.contains_key("extends") {
        let what = format!("`{text}` is not one PATH=VALUE");
        found.push(
            Diagnostic::new(what, Some(whole)).help("repeat --set for every key; `extends` belongs into the file"),
        );
        return None;
    }
    let mut check = Check::new(&FILE, texts);
    // The version is the file's.
    let mut schema = table.clone();
    schema
        .entry("schema".to_owned())
        .or_insert_with(|| Entry::new(0..0, Node { value: Value::Integer(1), span: 0..0 }));
    check.table(&FILE, &[], &(0..0), &schema);
    let sound = check.found.is_empty();
    found.extend(check.found);
    sound.then_some(table)
}

/// What is surely meant as a string.
fn is_bare_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c))
}

/// Names of sources and the like that a layer changes and the document does not have. A new one has to be given as a whole.
pub(crate) fn strangers(layer: &Table, document: &Table, texts: &SourceMap) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (kind, one) in [("sources", "source"), ("plugins", "plugin"), ("tasks", "task"), ("variants", "variant")] {
        let Some(names) = layer.get(kind).and_then(|entry| entry.node.as_table()) else { continue };
        let there = document.get(kind).and_then(|entry| entry.node.as_table());
        for (name, entry) in names {
            // A table that only dots imply begins and ends with its key.
            if there.is_some_and(|there| there.contains_key(name)) || entry.node.span != entry.key {
                continue;
            }
            let known: Vec<&str> = there.into_iter().flat_map(|there| there.keys().map(String::as_str)).collect();
            let there_are = if known.is_empty() {
                format!("there are no {kind}")
            } else {
                format!("the {kind} are {}", known.join(", "))
            };
            let help = format!("{there_are}; a new one is given as a whole: {kind}.{name} = {{ … }}");
            found.push(
                Diagnostic::new(format!("there is no {one} `{name}`"), texts.place(&entry.key))
                    .label(did_you_mean(name, known))
                    .help(help),
            );
        }
    }
    found
}

/// The tables that lie over the document's own: those of variants, and `with` of tasks.
fn layers(document: &mut Table) -> Vec<&mut Table> {
    let mut all = Vec::new();
    for (kind, entry) in document {
        let Some(table) = entry.node.as_table_mut() else { continue };
        let named = table.values_mut().filter_map(|entry| entry.node.as_table_mut());
        match kind.as_str() {
            "variants" => all.extend(named),
            "tasks" => all.extend(named.filter_map(|task| task.get_mut("with")?.node.as_table_mut())),
            _ => {}
        }
    }
    all
}

fn unset(document: &mut Table, path: &str) -> Result<(), Diagnostic> {
    let wrong = |what: String, help: String| Err(Diagnostic::new(what, None).help(help));
    let Some(keys) = segments(path) else {
        return wrong(format!("`{path}` is no path of keys"), "write keys with dots between them".to_owned());
    };
    let mut gone = remove(document, &keys).is_some();
    if LAYERED.contains(&keys[0].as_str()) {
        for layer in layers(document) {
            gone |= remove(layer, &keys).is_some();
        }
    }
    if gone {
        return Ok(());
    }
    // The deepest table that is there, and what is in it.
    let depth = (0..keys.len()).rev().find(|&depth| depth == 0 || get(document, &keys[..depth]).is_some()).unwrap_or(0);
    let table =
        if depth == 0 { Some(&*document) } else { get(document, &keys[..depth]).and_then(|e| e.node.as_table()) };
    let there: Vec<&str> = table.into_iter().flat_map(|table| table.keys().map(String::as_str)).collect();
    let place = if depth == 0 { "the experiment".to_owned() } else { format!("[{}]", keys[..depth].join(".")) };
    wrong(format!("`{path}` is not set, so it cannot be unset"), format!("{place} has {}", there.join(", ")))
}

/// Takes away what variants and tasks say of the keys that are set, so that setting them has the last word.
fn prune(document: &mut Table, set: &Table) {
    let used =
        |table: &Table| get(table, &["strategy", "use"]).and_then(|entry| entry.node.as_str().map(str::to_owned));
    let strategy = used(set);
    let below = used(document);
    let result = strategy.clone().or_else(|| below.clone());
    for layer in layers(document) {
        // Its parameters are for the strategy that it names, or for the one below it.
        let own = used(layer).or_else(|| below.clone());
        if strategy.is_some() && own != strategy {
            remove(layer, &["strategy", "use"]);
            remove(layer, &["strategy", "params"]);
        }
        // Parameters belong to the strategy of the table that they are set in.
        let other = used(layer).is_some_and(|own| Some(own) != result);
        for path in leaves(set).iter().filter(|path| LAYERED.contains(&path[0].as_str())) {
            if !(other && path.starts_with(&["strategy".to_owned(), "params".to_owned()])) {
                remove(layer, path);
            }
        }
    }
    // What a task says of these is a layer over [run], too.
    for key in ["max_new_tokens", "stop"] {
        if get(set, &["run", key]).is_some() {
            let tasks = document.get_mut("tasks").and_then(|tasks| tasks.node.as_table_mut());
            for task in tasks.into_iter().flat_map(|tasks| tasks.values_mut()) {
                task.node.as_table_mut().map(|task| task.shift_remove(key));
            }
        }
    }
}

/// The paths of all values that are no tables.
pub(crate) fn leaves(table: &Table) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (key, entry) in table {
        match entry.node.as_table() {
            Some(inner) => found.extend(leaves(inner).into_iter().map(|rest| [vec![key.clone()], rest].concat())),
            None => found.push(vec![key.clone()]),
        }
    }
    found
}

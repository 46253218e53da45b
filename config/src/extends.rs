//! A file and all that it extends, as one document.

use std::path::{Path, PathBuf};

use logitfuse_pipeline::read_text_file;

use super::{
    check::Check,
    diagnostic::Diagnostic,
    document::{Node, Table, Value, merge, parse},
    paths,
    place::SourceMap,
    schema::FILE,
    sweep,
};

/// More files than anybody writes; files that extend one another twice over would double at every level.
const MOST_FILES: usize = 256;

/// Bytes of the largest experiment file; files written by hand have some kilobytes.
pub(crate) const MOST_OF_FILE: u64 = 16 << 20;

/// Files being read.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) texts: SourceMap,
    pub(crate) found: Vec<Diagnostic>,
    /// From the experiment down to the file being read: what it really is, and its name.
    chain: Vec<(PathBuf, String)>,
    files: usize,
}

impl Reader {
    /// One text with everything below it. Its paths become relative to `root`, the folder of the experiment; `folder` is the
    /// file's own, seen from there.
    pub(crate) fn document(&mut self, name: &str, text: &str, root: &Path, folder: &Path) -> Table {
        let source = self.texts.add(name, text);
        let (mut table, wrong) = parse(&source);
        if !wrong.is_empty() {
            self.found.extend(wrong);
            return table;
        }
        let start = source.base..source.base;
        // A newer file would give nothing but misunderstandings.
        if let Some(entry) = table.get("schema")
            && let Value::Integer(version) = entry.node.value
            && version != 1
        {
            let what = format!("schema {version} is newer than this version, which reads schema 1");
            let wrong = Diagnostic::new(what, self.texts.place(&entry.node.span));
            self.found.push(wrong.help("use a newer logitfuse, or a file with `schema = 1`"));
            return table;
        }
        let mut check = Check::new(&FILE, &self.texts);
        check.table(&FILE, &[], &start, &table);
        let sound = check.found.is_empty();
        self.found.extend(check.found);

        if !folder.as_os_str().is_empty() {
            let with = |path: &str| folder.join(path).display().to_string();
            paths::rewrite(&FILE, &mut table, &with);
            sweep::rewrite_paths(&mut table, &with);
        }
        let Some(extends) = table.shift_remove("extends").filter(|_| sound) else { return table };
        let Value::Array(parents) = extends.node.value else { return table };
        let mut below = Table::new();
        for parent in &parents {
            merge(&mut below, self.parent(parent, root, folder));
        }
        merge(&mut below, table);
        below
    }

    /// The file that an item of `extends` names.
    fn parent(&mut self, item: &Node, root: &Path, folder: &Path) -> Table {
        let Some(named) = item.as_str() else { return Table::new() };
        let seen = folder.join(named);
        let path = root.join(&seen);
        let name = path.display().to_string();
        let place = self.texts.place(&item.span);
        let mut wrong = |what: String, help: &str| {
            self.found.push(Diagnostic::new(what, place.clone()).help(help));
            Table::new()
        };
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(from) = self.chain.iter().position(|(file, _)| *file == real) {
            let names: Vec<&str> = self.chain[from..].iter().map(|(_, name)| name.as_str()).chain([&*name]).collect();
            return wrong(
                format!("extends goes in a circle: {}", names.join(" extends ")),
                "what files share belongs into a file that extends none of them",
            );
        }
        if self.files >= MOST_FILES {
            return wrong(format!("more than {MOST_FILES} files are extended"), "write what they share into one file");
        }
        let text = match read_text_file(&path, MOST_OF_FILE) {
            Ok(text) => text,
            Err(e) => {
                let help = e.help().unwrap_or("paths are relative to the file that they stand in");
                return wrong(e.to_string(), help);
            }
        };
        self.enter(real, name.clone());
        let folder = seen.parent().unwrap_or(Path::new("")).to_owned();
        let table = self.document(&name, &text, root, &folder);
        self.chain.pop();
        table
    }

    /// Remembers a file as being read.
    pub(crate) fn enter(&mut self, real: PathBuf, name: String) {
        self.chain.push((real, name));
        self.files += 1;
    }
}

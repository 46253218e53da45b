//! The variants of an experiment, each point of a sweep by itself.

use super::{
    check::Check,
    diagnostic::Diagnostic,
    document::{Entry, Table, get, nested},
    overrides::strangers,
    place::SourceMap,
    schema::FILE,
    sweep::{MOST_POINTS, Point, Sweep},
};

/// A variant, or one point of its sweep.
pub(crate) struct Variant {
    /// `static[alpha=0.5]`.
    pub(crate) name: String,
    /// `static`.
    pub(crate) stem: String,
    pub(crate) point: Point,
    /// What it changes, without its sweep.
    pub(crate) layer: Table,
}

/// What is needed to read the sweeps of a document.
struct Sweeps<'a> {
    document: &'a Table,
    texts: &'a SourceMap,
    /// The paths of overrides.
    set: &'a [Vec<String>],
}

/// The variants in the order of the document; one called `default` if it has none.
pub(crate) fn expand(
    document: &Table,
    texts: &SourceMap,
    set: &[Vec<String>],
    found: &mut Vec<Diagnostic>,
) -> Vec<Variant> {
    let sweeps = Sweeps { document, texts, set };
    let everywhere = sweeps.read(document.get("sweep"), None, found);
    let named = document.get("variants").and_then(|entry| entry.node.as_table()).filter(|all| !all.is_empty());
    let named: Vec<(&str, Option<&Entry>)> = match named {
        Some(all) => all.iter().map(|(stem, entry)| (stem.as_str(), Some(entry))).collect(),
        None => vec![("default", None)],
    };
    let mut all = Vec::new();
    for (stem, entry) in named {
        let mut layer = entry.and_then(|entry| entry.node.as_table()).cloned().unwrap_or_default();
        let own = sweeps.read(layer.shift_remove("sweep").as_ref(), Some(stem), found);
        let rest = everywhere.clone().without(&own);
        if own.len().saturating_mul(rest.len()).saturating_add(all.len()) > MOST_POINTS {
            let key = entry.or(document.get("sweep")).and_then(|entry| texts.place(&entry.key));
            let wrong = Diagnostic::new(format!("the sweep makes more than {MOST_POINTS} variants"), key);
            found.push(wrong.help("sweep fewer keys or values, or set `zip = true`"));
            return all;
        }
        let rest = rest.points();
        for point in own.points() {
            for other in &rest {
                let point = point.and(other);
                all.push(Variant { name: point.name(stem), stem: stem.to_owned(), point, layer: layer.clone() });
            }
        }
    }
    all
}

impl Sweeps<'_> {
    /// Reads the sweep of the whole experiment, or of a variant, and checks where its lists lead.
    fn read(&self, entry: Option<&Entry>, variant: Option<&str>, found: &mut Vec<Diagnostic>) -> Sweep {
        let mut sweep = Sweep::read(entry, self.texts, found);
        sweep.axes.retain(|axis| {
            let before = found.len();
            let clash = self.set.iter().find(|path| {
                let path = within(path, variant);
                !path.is_empty() && (path.starts_with(&axis.path) || axis.path.starts_with(path))
            });
            if let Some(path) = clash {
                let place = get(self.document, path).and_then(|entry| self.texts.place(&entry.key));
                let wrong = Diagnostic::new(format!("{} is set, and a sweep varies it", path.join(".")), place);
                let wrong = wrong.also(self.texts.place(&axis.key), "here");
                let sweep = variant.map_or("sweep".to_owned(), |variant| format!("variants.{variant}.sweep"));
                found.push(wrong.help(format!("leave one out: `--unset {sweep}` takes the sweep away")));
            }
            for value in &axis.values {
                let layer = nested(&axis.path, &axis.key, value.clone());
                let mut check = Check::new(&FILE, self.texts);
                check.table(&FILE["definitions"]["Layer"], &[], &axis.key, &layer);
                found.append(&mut check.found);
                found.extend(strangers(&layer, self.document, self.texts));
            }
            found.len() == before
        });
        sweep
    }
}

/// An override's path as seen from a variant, or from all of them: what is set in a variant or a task lies below the sweep.
fn within<'p>(path: &'p [String], variant: Option<&str>) -> &'p [String] {
    match path {
        [kind, name, inner @ ..] if kind == "variants" && variant.is_none_or(|variant| variant == name) => inner,
        [kind, _, with, inner @ ..] if kind == "tasks" && with == "with" => inner,
        _ => path,
    }
}

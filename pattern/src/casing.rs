use std::{collections::BTreeMap, sync::LazyLock};

/// The sets of characters that Python's `re.IGNORECASE` takes for one another; singletons are left out.
///
/// Python compares lower-cased characters (the first one, where lower-casing gives several) and adds a table of
/// lower-case letters that share their upper case. Grouping by the upper case of the lower case gives the same sets.
pub(super) fn classes() -> &'static [Vec<char>] {
    static CLASSES: LazyLock<Vec<Vec<char>>> = LazyLock::new(|| {
        let mut by_key: BTreeMap<String, Vec<char>> = BTreeMap::new();
        for c in '\0'..=char::MAX {
            if c.to_lowercase().ne([c]) || c.to_uppercase().ne([c]) {
                by_key.entry(key(c)).or_default().push(c);
            }
        }
        by_key.into_values().filter(|class| class.len() > 1).collect()
    });
    &CLASSES
}

fn key(c: char) -> String {
    c.to_lowercase().next().unwrap_or(c).to_uppercase().collect()
}

/// What a range of characters also matches when case is ignored: every member of every class that the range touches.
pub(super) fn others(first: char, last: char, ascii: bool) -> Vec<char> {
    let inside = |c: &char| (first..=last).contains(c);
    if ascii {
        let letters = ('a'..='z').chain('A'..='Z').filter(inside);
        let swapped =
            letters.map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
        return swapped.filter(|c| !inside(c)).collect();
    }
    let touched = classes().iter().filter(|class| class.iter().any(inside));
    touched.flatten().copied().filter(|c| !inside(c)).collect()
}

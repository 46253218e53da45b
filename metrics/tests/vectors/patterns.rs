//! Python's regular expressions.

use std::collections::BTreeSet;

use logitfuse_metrics::pattern::Pattern;

use crate::{Comparison, digest, rows, strings};

#[test]
fn random_patterns_find_what_python_finds() {
    let rows = rows("patterns");
    let texts = strings(&rows[0]["texts"]);
    let (mut comparison, mut nullable) = (Comparison::default(), Comparison::default());
    for row in &rows[1..] {
        let source = row["pattern"].as_str().unwrap();
        let pattern = Pattern::new(source);
        if let Some(why) = row["refused"].as_str() {
            comparison.check(&(source, why), pattern.is_err(), true);
            continue;
        }
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(e) => {
                comparison.check(&(source, e), false, true);
                continue;
            }
        };
        for (text, theirs) in texts.iter().zip(row["found"].as_array().unwrap()) {
            let found = pattern.find_all(text).unwrap();
            let flat: String = found
                .iter()
                .map(|m| [&[m.whole], m.groups.as_slice()].concat().join("\u{1e}") + "\u{1e}\u{1f}")
                .collect();
            let comparison = if row["nullable"].is_null() { &mut comparison } else { &mut nullable };
            comparison.check(&(source, text, &found), digest(&flat), theirs.as_u64().unwrap());
        }
    }
    comparison.finish(2000);
    // A repeat of what may be empty is left in slightly different ways; see the documentation of `pattern`.
    assert!(
        nullable.compared >= 200 && 30 * nullable.differences.len() <= nullable.compared,
        "{:#?}",
        nullable.differences
    );
    println!("{} of {} differ where a repeated item may be empty", nullable.differences.len(), nullable.compared);
}

#[test]
fn case_is_ignored_for_every_character_as_in_python() {
    let rows = rows("casing");
    let classes = strings(&rows[0]["classes"]);
    // Unicode may have added to our classes what Python 3.11 does not know.
    let known = classes.concat();
    let mut comparison = Comparison::default();
    for class in classes {
        let theirs: BTreeSet<char> = class.chars().collect();
        for c in class.chars() {
            let pattern = Pattern::new(&format!("(?i){}", logitfuse_metrics::pattern::escape(&c.to_string()))).unwrap();
            let ours: BTreeSet<char> =
                pattern.find_all(&known).unwrap().iter().map(|m| m.whole.chars().next().unwrap()).collect();
            comparison.check(&c, ours, theirs.clone());
        }
    }
    comparison.finish(2700);
}

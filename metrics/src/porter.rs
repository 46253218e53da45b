//! Porter's stemmer, NLTK's variant.
//!
//! Why: ROUGE compares stems, and stemmers differ. Google's `rouge_score` takes NLTK's `PorterStemmer` in its default
//! mode, which is Porter's algorithm of 1980 with changes of its own (`enjoy` keeps its `y`, `dying` is `die`, …). It is
//! neither Snowball's "english" (Porter 2) nor its "porter".
//!
//! ```
//! use logitfuse_metrics::porter::stem;
//!
//! assert_eq!(["happiness", "enjoying", "dying", "theology"].map(stem), ["happi", "enjoy", "die", "theolog"]);
//! ```
//!
//! M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980), 130–137; the changes are those of NLTK 3.10.

/// Forms that no rule gets right.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// The stem of a word, in lower case.
pub fn stem(word: &str) -> String {
    let lower = word.to_lowercase();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == lower) {
        return (*stem).to_owned();
    }
    if word.chars().count() <= 2 {
        return lower;
    }
    let steps = [plural, past, final_y, suffix_2, suffix_3, suffix_4, final_e, final_ll];
    steps.iter().fold(lower, |word, step| step(word))
}

/// Step 1a.
fn plural(word: String) -> String {
    if word.ends_with("ies") && word.chars().count() == 4 {
        return replaced(&word, "ies", "ie");
    }
    first_rule(word, &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], |_, _| true)
}

/// Step 1b.
fn past(word: String) -> String {
    if word.ends_with("ied") {
        return replaced(&word, "ied", if word.chars().count() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word };
    }
    let stem = ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(|stem| has_vowel(stem)));
    let Some(stem) = stem else { return word };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    if ends_in_double_consonant(stem) {
        let single = if stem.ends_with(['l', 's', 'z']) { stem } else { without_last(stem) };
        return single.to_owned();
    }
    if measure(stem) == 1 && ends_in_cvc(stem) { format!("{stem}e") } else { stem.to_owned() }
}

/// Step 1c, which in NLTK asks for a consonant before the `y`.
fn final_y(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.chars().count() > 1 && consonants(stem).last() == Some(&true) => format!("{stem}i"),
        _ => word,
    }
}

/// Step 2.
fn suffix_2(mut word: String) -> String {
    const RULES: [(&str, &str); 22] = [
        ("ational", "ate"),
        ("tional", "tion"),
        ("enci", "ence"),
        ("anci", "ance"),
        ("izer", "ize"),
        ("bli", "ble"),
        ("alli", "al"),
        ("entli", "ent"),
        ("eli", "e"),
        ("ousli", "ous"),
        ("ization", "ize"),
        ("ation", "ate"),
        ("ator", "ate"),
        ("alism", "al"),
        ("iveness", "ive"),
        ("fulness", "ful"),
        ("ousness", "ous"),
        ("aliti", "al"),
        ("iviti", "ive"),
        ("biliti", "ble"),
        ("fulli", "ful"),
        ("logi", "log"),
    ];
    while word.strip_suffix("alli").is_some_and(|stem| measure(stem) > 0) {
        word = replaced(&word, "alli", "al");
    }
    first_rule(word, &RULES, |stem, suffix| {
        // The `l` counts with the stem, so that `geo` is enough of one.
        if suffix == "logi" { measure(&format!("{stem}l")) > 0 } else { measure(stem) > 0 }
    })
}

/// Step 3.
fn suffix_3(word: String) -> String {
    const RULES: [(&str, &str); 7] =
        [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];
    first_rule(word, &RULES, |stem, _| measure(stem) > 0)
}

/// Step 4.
fn suffix_4(word: String) -> String {
    const SUFFIXES: [&str; 19] = [
        "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate",
        "iti", "ous", "ive", "ize",
    ];
    first_rule(word, &SUFFIXES.map(|suffix| (suffix, "")), |stem, suffix| {
        measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't']))
    })
}

/// Step 5a.
fn final_e(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || measure(stem) == 1 && !ends_in_cvc(stem) => stem.to_owned(),
        _ => word,
    }
}

/// Step 5b.
fn final_ll(word: String) -> String {
    if word.ends_with("ll") && measure(without_last(&word)) > 1 { without_last(&word).to_owned() } else { word }
}

/// The first rule whose suffix fits decides, even if its condition then fails.
fn first_rule(word: String, rules: &[(&str, &str)], condition: impl Fn(&str, &str) -> bool) -> String {
    let fitting = rules.iter().find_map(|(suffix, new)| Some((word.strip_suffix(suffix)?, suffix, new)));
    match fitting {
        Some((stem, suffix, new)) if condition(stem, suffix) => format!("{stem}{new}"),
        _ => word,
    }
}

fn replaced(word: &str, suffix: &str, new: &str) -> String {
    format!("{}{new}", word.strip_suffix(suffix).unwrap_or(word))
}

fn without_last(word: &str) -> &str {
    word.char_indices().next_back().map_or("", |(at, _)| &word[..at])
}

/// For each letter, whether it is a consonant. A `y` is one at the beginning and after a vowel.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags = Vec::with_capacity(word.len());
    for c in word.chars() {
        flags.push(match c {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => flags.last().is_none_or(|before: &bool| !before),
            _ => true,
        });
    }
    flags
}

/// Porter's m: how often a vowel is followed by a consonant.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}

fn ends_in_double_consonant(word: &str) -> bool {
    let mut back = word.chars().rev();
    let (last, before) = (back.next(), back.next());
    last.is_some() && last == before && consonants(word).last() == Some(&true)
}

/// Porter's *o, and in NLTK also a word of a vowel and a consonant.
fn ends_in_cvc(word: &str) -> bool {
    match consonants(word).as_slice() {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        flags => flags == [false, true],
    }
}

//! The known name that a mistyped one most likely stands for.

/// The candidate that is the likeliest to have been meant; none if they are all too far off.
///
/// ```
/// use logitfuse_text::nearest;
///
/// assert_eq!(nearest("exact_macth", ["f1", "exact_match"]), Some("exact_match"));
/// assert_eq!(nearest("bleu", ["f1", "exact_match"]), None);
/// ```
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // A slip for every three letters, as compilers allow it; case does not count.
    let name = name.to_lowercase();
    let letters = name.chars().count();
    // Nobody types a name of that length, and comparing takes its square.
    if letters > 200 {
        return None;
    }
    let most = (letters / 3).max(1);
    let candidates = candidates.into_iter().filter(|one| one.len() <= 4 * (letters + most));
    let near = candidates.map(|one| (strsim::damerau_levenshtein(&name, &one.to_lowercase()), one));
    near.filter(|(slips, _)| *slips <= most).min_by_key(|(slips, _)| *slips).map(|(_, one)| one)
}

/// "did you mean `…`?", or nothing.
pub fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(name, candidates).map_or(String::new(), |one| format!("did you mean `{one}`?"))
}

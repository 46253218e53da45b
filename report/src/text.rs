//! Text that came from a model or a file, made fit to be shown.

/// Control characters as their pictures (␀, ␛, …), other characters that XML forbids as �. Applied to whole documents:
/// nothing that we write has any.
pub(crate) fn visible(document: &str) -> String {
    document
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\u{7f}' => '\u{2421}',
            '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A token as a reader can see it: line ends and tabs have a sign.
pub(crate) fn token(text: &str) -> String {
    text.replace('\n', "⏎").replace('\t', "⇥")
}

/// A JSON value as plain text: a string without its quotes.
pub(crate) fn json(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As long as a reader reads; the rest is in the files.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} […]", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(visible("a\u{0}\u{1b}[31m\u{7f}\u{ffff}\n"), "a␀␛[31m␡\u{fffd}\n");
        assert_eq!(token(" a\n\t"), " a⏎⇥");
        assert_eq!((shortened("äöü", 2), shortened("äö", 2)), ("äö […]".to_owned(), "äö".to_owned()));
    }
}

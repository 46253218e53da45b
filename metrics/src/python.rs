//! Python's ideas of text, where they differ from Rust's.
//!
//! Why: metrics are defined by Python programs, and a score changes if a no-break space, a file separator or a vowel
//! sign is counted as something else than Python counts it.
//!
//! ```
//! use logitfuse_metrics::python;
//!
//! // U+001C is white space to Python, and not to Rust.
//! assert_eq!(python::strip(" \u{1c}\u{a0}42\n"), "42");
//! assert_eq!("\u{1c}42".trim(), "\u{1c}42");
//! ```
//!
//! | Python | here | differs from Rust's |
//! |---|---|---|
//! | `str.isspace`, `\s` | [`is_space`] | `char::is_whitespace` lacks U+001C to U+001F |
//! | `str.strip()`, `str.rstrip()` | [`strip`], [`rstrip`] | `str::trim`: for the same reason |
//! | `str.split()` | [`split`] | `str::split_whitespace`: for the same reason |
//! | `\w`, `str.isalnum` and `_` | [`words`] | categories L and N and `_`; `char::is_alphanumeric` also takes marks such as Indic vowel signs |
//! | `str.lower`, `str.upper` | `str::to_lowercase`, `str::to_uppercase` | not at all: both are Unicode's full mappings with the final sigma |
//! | `string.punctuation` | [`is_punctuation`] | not: the 32 of `char::is_ascii_punctuation` |
//! | `len(str)` | `chars().count()` | `str::len` counts bytes |
//! | `str.split("\n")` | the same | `str::lines` also drops a final empty line and `\r` |
//!
//! The vectors come from Python 3.11 (Unicode 14); a character that Unicode added later is a letter here already.

use std::sync::LazyLock;

use regex::Regex;

/// Python's `str.isspace` for one character, which is also the `\s` of its regular expressions.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `str.rstrip()`.
pub fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Python's `str.split()`: the pieces between runs of white space, none of them empty.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|piece| !piece.is_empty())
}

/// Whether a character is in Python's `string.punctuation`.
pub fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
}

/// The maximal runs of Python's `\w`.
///
/// ```
/// let words: Vec<_> = logitfuse_metrics::python::words("naïve café_2, x").collect();
/// assert_eq!(words, ["naïve", "café_2", "x"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    WORD.find_iter(text).map(|found| found.as_str())
}

/// Replaces those maximal runs of `\w` that `replaced` says so by one space.
pub(crate) fn blank_words(text: &str, replaced: impl Fn(&str) -> bool) -> String {
    WORD.replace_all(
        text,
        |found: &regex::Captures<'_>| {
            if replaced(&found[0]) { " ".to_owned() } else { found[0].to_owned() }
        },
    )
    .into_owned()
}

/// The characters of Unicode's categories `P*` removed.
pub(crate) fn without_unicode_punctuation(text: &str) -> String {
    PUNCTUATION.replace_all(text, "").into_owned()
}

static WORD: LazyLock<Regex> = LazyLock::new(|| constant(r"[\p{L}\p{N}_]+"));
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| constant(r"\p{P}+"));

/// Compiles a pattern that is written in this crate.
pub(crate) fn constant(pattern: &str) -> Regex {
    Regex::new(pattern).expect("every caller passes a literal pattern, and the tests compile them all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_what_python_says() {
        let spaces: Vec<u32> = ('\0'..=char::MAX).filter(|c| is_space(*c)).map(u32::from).collect();
        let mut python = vec![0x9, 0xa, 0xb, 0xc, 0xd, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x85, 0xa0, 0x1680];
        python.extend(0x2000..=0x200a);
        python.extend([0x2028, 0x2029, 0x202f, 0x205f, 0x3000]);
        assert_eq!(spaces, python);
    }

    #[test]
    fn punctuation_is_pythons_string() {
        let python = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;
        assert_eq!(('\0'..=char::MAX).filter(|c| is_punctuation(*c)).collect::<String>(), python);
    }

    #[test]
    fn a_mark_ends_a_word() {
        // U+093F is a vowel sign (Mc): `\w` to the crate `regex`, not to Python.
        assert_eq!(words("कि_x٣½").collect::<Vec<_>>(), ["क", "_x٣½"]);
    }

    #[test]
    fn pieces_are_never_empty() {
        assert_eq!(split(" \u{1c}a\u{3000}b\n").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(split(" \n").count(), 0);
    }

    #[test]
    fn the_final_sigma_is_lower_cased_as_in_python() {
        assert_eq!("ΟΔΟΣ ΟΣΑ Σ".to_lowercase(), "οδος οσα σ");
        assert_eq!("İß".to_lowercase(), "i\u{307}ß");
        assert_eq!("ßŉﬁ".to_uppercase(), "SSʼNFI");
    }
}

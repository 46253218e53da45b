use std::fmt::Write;

use super::{casing, parser::Flags};

/// One member of a character class.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Range(char, char),
    Category(Category),
}

/// `\d`, `\s`, `\w` and their complements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Category {
    /// The lower-case letter.
    pub(super) letter: char,
    pub(super) negated: bool,
}

impl Category {
    pub(super) fn from_escape(c: char) -> Option<Self> {
        let letter = c.to_ascii_lowercase();
        matches!(letter, 'd' | 's' | 'w').then_some(Self { letter, negated: c.is_ascii_uppercase() })
    }

    /// What stands for it inside the brackets of a class.
    fn translated(self, ascii: bool) -> String {
        let members = match (self.letter, ascii) {
            ('d', true) => "0-9",
            ('d', false) => r"\p{Nd}",
            ('s', true) => r"\x{9}-\x{d}\x{20}",
            ('s', false) => r"\s\x{1c}-\x{1f}",
            (_, true) => "A-Za-z0-9_",
            (_, false) => WORD,
        };
        if self.negated { format!("[^{members}]") } else { members.to_owned() }
    }
}

/// Python's `\w`: what `str.isalnum` accepts, which is just the categories L and N, and the underscore.
const WORD: &str = r"\p{L}\p{N}_";

/// A class of the target's dialect.
pub(super) fn class(items: &[Item], negated: bool, flags: Flags) -> String {
    let mut out = String::from(if negated { "[^" } else { "[" });
    for item in items {
        match *item {
            Item::Range(first, last) => {
                push_range(&mut out, first, last);
                if flags.ignore_case {
                    for other in casing::others(first, last, flags.ascii) {
                        push_range(&mut out, other, other);
                    }
                }
            }
            Item::Category(category) => out.push_str(&category.translated(flags.ascii)),
        }
    }
    out.push(']');
    out
}

/// One character, with its other cases if they count.
pub(super) fn literal(c: char, flags: Flags) -> String {
    if flags.ignore_case && !casing::others(c, c, flags.ascii).is_empty() {
        return class(&[Item::Range(c, c)], false, flags);
    }
    let mut out = String::new();
    push_char(&mut out, c);
    out
}

/// `\b` and `\B`. Python's `\B` does not match in an empty text (before 3.14).
pub(super) fn boundary(negated: bool, flags: Flags) -> String {
    let word = format!("[{}]", Category { letter: 'w', negated: false }.translated(flags.ascii));
    if negated {
        format!(r"(?!\A\z)(?:(?<={word})(?={word})|(?<!{word})(?!{word}))")
    } else {
        format!(r"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))")
    }
}

fn push_range(out: &mut String, first: char, last: char) {
    push_char(out, first);
    if first != last {
        out.push('-');
        push_char(out, last);
    }
}

/// By number unless it is a letter, a digit or beyond ASCII: no character then has a meaning of its own.
fn push_char(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() {
        out.push(c);
    } else {
        write!(out, r"\x{{{:x}}}", u32::from(c)).expect("writing to a string does not fail");
    }
}

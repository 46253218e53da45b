//! Puts a watch before what writes values as text.
//!
//! Lists may share their items and repeat lazily, so a short template can hold a value that is longer than memory when it is
//! written. The engine counts what templates make, but not while it writes a value into a text: `a ~ b` and some filters do.

use super::source::{Kind, Token};

/// The function around the operands of `~`.
pub(super) const TEXT: &str = "__text";
/// The filter before filters that write what they are given.
pub(super) const SMALL: &str = "__small";

/// Filters of the engine that write a value that is no text.
const WRITERS: &[&str] = &[
    "join",
    "upper",
    "lower",
    "title",
    "capitalize",
    "trim",
    "replace",
    "indent",
    "escape",
    "e",
    "format",
    "pprint",
    "split",
    "lines",
    "safe",
    "unique",
    "sort",
    "groupby",
    "dictsort",
];

/// What is inserted into a tag, by position.
pub(super) fn insertions(source: &str, tokens: &[Token], is_block: bool) -> Vec<(usize, String)> {
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| &source[token.at.clone()]);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(at, _)| text(*at) == "|") {
        // `map('join')` applies a filter, `map(attribute='role')` does not.
        let applies = text(at + 1) == "map" && tokens.get(at + 3).is_some_and(|token| token.kind == Kind::Text);
        if applies || WRITERS.contains(&text(at + 1)) {
            found.push((token.at.start, format!("|{SMALL}")));
        }
    }
    // For each open bracket: where the operand begins, and whether `~` stands before it.
    let mut levels = vec![(usize::from(is_block), false)];
    for at in usize::from(is_block)..=tokens.len() {
        let kind = tokens.get(at).map(|token| token.kind);
        let (start, after_tilde) = levels.last().copied().unwrap_or_default();
        if kind == Some(Kind::Open) {
            levels.push((at + 1, false));
            continue;
        }
        let is_close = kind == Some(Kind::Close) && levels.len() > 1;
        if kind.is_some() && !is_close && !ends_operand(at, start, tokens, &text) {
            continue;
        }
        let is_tilde = text(at) == "~";
        if (after_tilde || is_tilde) && start < at {
            found.push((tokens[start].at.start, format!("{TEXT}(")));
            found.push((tokens[at - 1].at.end, ")".to_owned()));
        }
        if is_close {
            levels.pop();
        } else if let Some(level) = levels.last_mut() {
            *level = (at + 1, is_tilde);
        }
    }
    found.sort_by_key(|(position, _)| *position);
    found
}

/// Whether a token stands between operands of `~` or of what binds less.
fn ends_operand<'a>(at: usize, start: usize, tokens: &[Token], text: &impl Fn(usize) -> &'a str) -> bool {
    let before = |back: usize| at.checked_sub(back).filter(|at| *at >= start).map_or("", text);
    match (tokens[at].kind, text(at)) {
        (Kind::Comma, _) | (Kind::Operator, "~" | "+" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=" | ":") => true,
        (Kind::Operator, "-") => at > start && !matches!(before(1), "*" | "/" | "//" | "%" | "**" | "-"),
        // `is not none`, `is in list`.
        (Kind::Word, "not" | "in") if before(1) == "is" || (before(1) == "not" && before(2) == "is") => false,
        (Kind::Word, "and" | "or" | "not" | "in" | "if" | "else") => before(1) != ".",
        _ => false,
    }
}

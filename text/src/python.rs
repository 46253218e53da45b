//! What Python writes for a value.
//!
//! Why: tasks are defined by what a Python program compares, and that program says `str(gold)`: `True`, `1e-07`,
//! `{'a': 1}`. Templates of prompts were written for Jinja in Python, where `{{ x }}` is `str(x)`, too.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::jinja::print_float;

/// Python's `str` of what its `json` makes of a value. Keys of objects are in alphabetical order.
///
/// ```
/// use logitfuse_text::python_str;
/// use serde_json::json;
///
/// assert_eq!(python_str(&json!(true)), "True");
/// assert_eq!(python_str(&json!(1e-7)), "1e-07");
/// assert_eq!(python_str(&json!({ "a": [1, null, "it's"] })), r#"{'a': [1, None, "it's"]}"#);
/// assert_eq!(python_str(&json!("as it is")), "as it is");
/// ```
pub fn python_str(value: &Json) -> String {
    let mut out = String::new();
    match value {
        Json::String(text) => out.push_str(text),
        other => json_repr(other, &mut out),
    }
    out
}

fn json_repr(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&print_float(float)),
            None => out.push_str(&number.to_string()),
        },
        Json::String(text) => text_repr(text, out),
        Json::Array(items) => {
            enclosed(out, '[', ']', items, json_repr);
        }
        Json::Object(fields) => enclosed(out, '{', '}', fields, |(key, value), out| {
            text_repr(key, out);
            out.push_str(": ");
            json_repr(value, out);
        }),
    }
}

fn enclosed<T>(
    out: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (nth, item) in items.into_iter().enumerate() {
        if nth > 0 {
            out.push_str(", ");
        }
        write(item, out);
    }
    out.push(close);
}

/// Python's `repr` of a text.
fn text_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            // Writing to a string does not fail.
            c => {
                let code = u32::from(c);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` for one character. Rust escapes the same categories, and a combining mark only at the beginning of
/// a text.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{7f}' => false,
        c => ['a', c].iter().collect::<String>().escape_debug().nth(1) == Some(c),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_within_containers_are_quoted_as_in_python() {
        let value = json!(["it's", "\"it's\"", "a\\b\n\u{7}\u{a0}\u{200b}é\u{301}", "\u{e000}\u{1f600}"]);
        let expected = r#"["it's", '"it\'s"', 'a\\b\n\x07\xa0\u200bé"#.to_owned() + "\u{301}', '\\ue000\u{1f600}']";
        assert_eq!(python_str(&value), expected);
        assert_eq!(python_str(&json!({})), "{}");
        assert_eq!(
            python_str(&json!([18_446_744_073_709_551_615_u64, -3, null, false])),
            "[18446744073709551615, -3, None, False]"
        );
    }
}

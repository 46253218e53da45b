//! What Python writes for a value, and which JSON it reads.
//!
//! Why: tasks are defined by what a Python program compares, and that program says `str(gold)`: `True`, `1e-07`,
//! `{'a': 1}`. Templates of prompts were written for Jinja in Python, where `{{ x }}` is `str(x)`, too.

use std::{borrow::Cow, fmt::Write};

use minijinja::{Error, Output, State, Value, escape_formatter, value::ValueKind};
use serde_json::Value as Json;

/// Containers within containers whose numbers are looked through; what lies deeper is written as the template engine does.
const DEPTH: usize = 32;

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
            Some(float) => out.push_str(&float_repr(float)),
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

/// Python's `repr` of a float: the fewest digits that tell it from its neighbours, with an exponent below 1e-4 and from 1e16.
fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = x.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
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

/// The floats of a value as Python writes them; `None` where the template engine writes the same.
fn written(value: &Value) -> Option<String> {
    let mut out = String::new();
    if is_float(value) {
        out.push_str(&float_of(value));
        return Some(out);
    }
    let container = matches!(value.kind(), ValueKind::Seq | ValueKind::Map) && holds_float(value, DEPTH);
    container.then(|| {
        value_repr(value, DEPTH, &mut out);
        out
    })
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

fn float_of(value: &Value) -> String {
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float_repr)
}

fn holds_float(value: &Value, depth: usize) -> bool {
    if depth == 0 || value.is_tuple() {
        return false;
    }
    match value.kind() {
        ValueKind::Number => is_float(value),
        ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(|item| holds_float(&item, depth - 1))),
        ValueKind::Map => value
            .try_iter()
            .is_ok_and(|mut keys| keys.any(|key| value.get_item(&key).is_ok_and(|item| holds_float(&item, depth - 1)))),
        _ => false,
    }
}

fn value_repr(value: &Value, depth: usize, out: &mut String) {
    let items = value.try_iter().ok().filter(|_| depth > 0 && !value.is_tuple());
    match (value.kind(), items) {
        (ValueKind::Seq, Some(items)) => enclosed(out, '[', ']', items, |item, out| value_repr(&item, depth - 1, out)),
        (ValueKind::Map, Some(keys)) => enclosed(out, '{', '}', keys, |key, out| {
            value_repr(&key, depth - 1, out);
            out.push_str(": ");
            value_repr(&value.get_item(&key).unwrap_or_default(), depth - 1, out);
        }),
        (ValueKind::String, _) => text_repr(value.as_str().unwrap_or_default(), out),
        (ValueKind::Number, _) if is_float(value) => out.push_str(&float_of(value)),
        // Writing to a string does not fail.
        _ => {
            let _ = write!(out, "{value:?}");
        }
    }
}

/// Writes what stands between `{{` and `}}` as Jinja in Python does.
pub(crate) fn formatter(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match written(value) {
        Some(text) => Ok(out.write_str(&text)?),
        None => escape_formatter(out, state, value),
    }
}

/// Jinja's filter `string`, as Python's `str`.
pub(crate) fn string(value: &Value) -> Value {
    match value.kind() {
        ValueKind::String => value.clone(),
        _ => written(value).unwrap_or_else(|| value.to_string()).into(),
    }
}

/// JSON as Python writes and reads it, as JSON of the standard: `NaN`, `Infinity`, numbers beyond a float and whole numbers of
/// more than 64 bits become the text that Python's `str` gives. A byte order mark at the beginning is taken off.
///
/// ```
/// use logitfuse_text::python_json;
///
/// assert_eq!(python_json(r#"{"a": NaN, "b": [-Infinity, 12345678901234567890123], "c": "NaN"}"#),
///     r#"{"a": "nan", "b": ["-inf", "12345678901234567890123"], "c": "NaN"}"#);
/// assert_eq!(python_json("\u{feff}{}"), "{}");
/// ```
pub fn python_json(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                let ends = |b: &u8| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'));
                at += 1 + bytes[at + 1..].iter().position(ends).unwrap_or(bytes.len() - at - 1);
                if let Some(word) = as_text(&text[start..at]) {
                    out.push_str(&text[copied..start]);
                    out.push('"');
                    out.push_str(word);
                    out.push('"');
                    copied = at;
                }
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The text that stands for a number which JSON does not have, or which does not fit.
fn as_text(token: &str) -> Option<&str> {
    match token {
        "NaN" => return Some("nan"),
        "Infinity" => return Some("inf"),
        "-Infinity" => return Some("-inf"),
        _ => {}
    }
    let digits = token.strip_prefix('-').unwrap_or(token);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let fits = digits.len() < 19 || token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok();
        // More than one digit never begins with 0, or it is no JSON.
        return (!fits && !digits.starts_with('0')).then_some(token);
    }
    let float: f64 = token.parse().ok()?;
    float.is_infinite().then_some(if float > 0.0 { "inf" } else { "-inf" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Python 3.11 gives for `str(x)`.
    #[test]
    fn floats_are_pythons() {
        for (x, expected) in [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-3.0, "-3.0"),
            (0.0001, "0.0001"),
            (0.00005, "5e-05"),
            (1e-7, "1e-07"),
            (1.5e-10, "1.5e-10"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1e17, "1e+17"),
            (1.234_567_890_123_456_7e22, "1.2345678901234568e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-0.0, "-0.0"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float_repr(x), expected);
        }
    }

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

    #[test]
    fn json_of_the_standard_is_left_alone() {
        for text in
            [r#"{"a": [1, -2.5e3, 18446744073709551615, -9223372036854775808, "x\"1e999"]}"#, "nonsense 12N", ""]
        {
            assert!(matches!(python_json(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_texts() {
        let read = |text: &str| serde_json::from_str::<Json>(&python_json(text)).expect("it is JSON by then");
        assert_eq!(read("18446744073709551616"), json!("18446744073709551616"));
        assert_eq!(read("[-9223372036854775809,NaN]"), json!(["-9223372036854775809", "nan"]));
        assert_eq!(read(r#"{"a":-1e400,"b":1E999,"c":1e-999}"#), json!({ "a": "-inf", "b": "inf", "c": 0.0 }));
    }
}

use std::borrow::Cow;

/// JSON as Python writes and reads it, as JSON of the standard: `NaN`, `Infinity`, numbers beyond a float and whole numbers of
/// more than 64 bits become the text that Python's `str` gives. A byte order mark at the beginning is taken off.
///
/// ```
/// use logitfuse_core::python_json;
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
    use super::*;

    #[test]
    fn only_bare_words_are_replaced() {
        for (text, wanted) in [
            (r#"{"a": NaN, "b": -Infinity, "c": [Infinity,-1]}"#, r#"{"a": "nan", "b": "-inf", "c": ["inf",-1]}"#),
            (r#"["NaN", "\"NaN", "\\", NaN]"#, r#"["NaN", "\"NaN", "\\", "nan"]"#),
            (r#"["é NaN", Nil, -0, NaN"#, r#"["é NaN", Nil, -0, "nan""#),
            (r#"["NaN"#, r#"["NaN"#),
            (r#"["NaN\"#, r#"["NaN\"#),
            ("\u{feff}[NaN", "[\"nan\""),
        ] {
            assert_eq!(python_json(text), wanted);
        }
        assert!(matches!(python_json("{\"a\": -1.5}"), Cow::Borrowed("{\"a\": -1.5}")));
        assert!(matches!(python_json("\u{feff}1"), Cow::Borrowed("1")));
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
        let read =
            |text: &str| serde_json::from_str::<serde_json::Value>(&python_json(text)).expect("it is JSON by then");
        assert_eq!(read("18446744073709551616"), serde_json::json!("18446744073709551616"));
        assert_eq!(read("[-9223372036854775809,NaN]"), serde_json::json!(["-9223372036854775809", "nan"]));
        assert_eq!(
            read(r#"{"a":-1e400,"b":1E999,"c":1e-999}"#),
            serde_json::json!({ "a": "-inf", "b": "inf", "c": 0.0 })
        );
    }
}

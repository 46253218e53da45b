use std::borrow::Cow;

/// JSON as Python reads and writes it, as JSON: `NaN`, `Infinity` and `-Infinity`, which no other reader takes, become the
/// texts that Python prints for them (`"nan"`, `"inf"`, `"-inf"`), and a byte order mark at the beginning is left out.
///
/// Configurations of published models hold such numbers, and so does what Python's `json.dumps` writes of scores. A text that
/// has none comes back as it is.
///
/// ```
/// use logitfuse_core::python_json;
///
/// let read = |text| serde_json::from_str::<serde_json::Value>(&python_json(text)).unwrap();
/// assert_eq!(read(r#"{"limits": [0.0, Infinity], "NaN": "-Infinity"}"#), serde_json::json!({"limits": [0.0, "inf"], "NaN": "-Infinity"}));
/// assert_eq!(read("\u{feff}[NaN, -Infinity]"), serde_json::json!(["nan", "-inf"]));
/// ```
pub fn python_json(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let words = [("NaN", "\"nan\""), ("-Infinity", "\"-inf\""), ("Infinity", "\"inf\"")];
    if !words.iter().any(|(word, _)| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let length = if here.starts_with('"') {
            let end = string_end(here.as_bytes());
            out.push_str(&here[..end]);
            end
        } else if let Some((word, value)) = words.iter().find(|(word, _)| here.starts_with(word)) {
            out.push_str(value);
            word.len()
        } else {
            out.push_str(&here[..1]);
            1
        };
        rest = &here[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// One past a string's closing quote; the end of the text if it has none.
fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
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
}

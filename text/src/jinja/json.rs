//! `tojson`, as Python's `json.dumps` writes it.

use std::fmt::Write as _;

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind},
};

use super::{
    bounds::{STEPS, bytes_left, charge},
    print::{MAX_DEPTH, float, too_deep},
};

/// How JSON is laid out.
struct Layout {
    ensure_ascii: bool,
    /// What one level is indented by; everything is one line if absent.
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sort_keys: bool,
    /// As Jinja's own filter: what HTML would read is written as escapes.
    for_html: bool,
}

/// The filter of chat templates: `transformers` gives them `json.dumps` with these parameters, in this order.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    positional: Rest<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let option = |place: usize, name: &str| match positional.get(place) {
        Some(value) => Ok(value.clone()),
        None => options.get::<Option<Value>>(name).map(|value| value.unwrap_or_else(|| Value::from(()))),
    };
    let (ensure_ascii, indent) = (option(0, "ensure_ascii")?.is_true(), indentation(&option(1, "indent")?)?);
    let (separators, sort_keys) = (option(2, "separators")?, option(3, "sort_keys")?.is_true());
    options.assert_all_used()?;
    let [between_items, after_key] = if separators.is_none() {
        [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()]
    } else {
        pair(&separators)?
    };
    written(state, value, Layout { ensure_ascii, indent, between_items, after_key, sort_keys, for_html: false })
}

/// The filter of Jinja itself, for texts that are no chat templates.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
pub(super) fn jinja_tojson(
    state: &State<'_, '_>,
    value: &Value,
    positional: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let indent = match positional {
        Some(indent) => indent,
        None => options.get::<Option<Value>>("indent")?.unwrap_or_else(|| Value::from(())),
    };
    options.assert_all_used()?;
    let indent = indentation(&indent)?;
    let between_items = if indent.is_some() { "," } else { ", " }.to_owned();
    let after_key = ": ".to_owned();
    written(
        state,
        value,
        Layout { ensure_ascii: true, indent, between_items, after_key, sort_keys: true, for_html: true },
    )
}

/// A number of spaces, or a text.
fn indentation(indent: &Value) -> Result<Option<String>, Error> {
    if indent.is_none() {
        return Ok(None);
    }
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let spaces = i64::try_from(indent.clone())?.clamp(0, 1000);
    Ok(Some(" ".repeat(usize::try_from(spaces).unwrap_or(0))))
}

fn pair(separators: &Value) -> Result<[String; 2], Error> {
    let two: Vec<String> = separators.try_iter()?.filter_map(|text| text.as_str().map(str::to_owned)).collect();
    two.try_into().map_err(|_| Error::new(ErrorKind::InvalidOperation, "separators must be two strings"))
}

fn written(state: &State<'_, '_>, value: &Value, layout: Layout) -> Result<Value, Error> {
    let mut writer = Writer { layout, out: String::new(), most: bytes_left(state) };
    writer.value(value, 0)?;
    charge(state, writer.out.len().saturating_mul(16))?;
    Ok(writer.out.into())
}

/// A value as JSON.
pub(crate) fn to_json(value: &Value) -> Result<serde_json::Value, Error> {
    is_small(value, 0, &mut 0)?;
    serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// Refuses what is deeper than anything that was read could be, and what no rendering could write.
fn is_small(value: &Value, depth: usize, seen: &mut u64) -> Result<(), Error> {
    *seen += 1;
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    if *seen > STEPS {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.checked().try_for_each(|item| is_small(&item?, depth + 1, seen))
        }
        ValueKind::Map => {
            value.try_iter()?.checked().try_for_each(|key| is_small(&value.get_item(&key?)?, depth + 1, seen))
        }
        _ => Ok(()),
    }
}

struct Writer {
    layout: Layout,
    out: String,
    /// The bytes that may be written.
    most: usize,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        if self.out.len() > self.most {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&number(f64::try_from(value.clone())?)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked();
                self.container(['[', ']'], items, depth, |writer, item| writer.value(&item?, depth + 1))?;
            }
            ValueKind::Map => {
                let keys = value.try_iter()?.checked();
                let mut pairs = keys
                    .map(|key| {
                        let key = key?;
                        Ok((key_text(&key)?, value.get_item(&key)?))
                    })
                    .collect::<Result<Vec<(String, Value)>, Error>>()?;
                if self.layout.sort_keys {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.container(['{', '}'], pairs, depth, |writer, (key, value)| {
                    writer.text(&key);
                    writer.out.push_str(&writer.layout.after_key);
                    writer.value(&value, depth + 1)
                })?;
            }
            kind => {
                return Err(Error::new(ErrorKind::BadSerialization, format!("a value of type {kind} is no JSON")));
            }
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        [open, close]: [char; 2],
        items: impl IntoIterator<Item = T>,
        depth: usize,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut is_empty = true;
        for item in items {
            if !std::mem::take(&mut is_empty) {
                self.out.push_str(&self.layout.between_items);
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.layout.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '<' | '>' | '&' | '\'' if self.layout.for_html => self.escape(c),
                '\0'..='\x1f' => self.escape(c),
                '\x7f'.. if self.layout.ensure_ascii => self.escape(c),
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}

fn number(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => float(number),
    }
}

/// Keys become texts where Python makes texts of them.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number if key.is_integer() => Ok(key.to_string()),
        ValueKind::Number => Ok(number(f64::try_from(key.clone())?)),
        kind => Err(Error::new(ErrorKind::BadSerialization, format!("a key of type {kind} is no JSON"))),
    }
}

//! Filters, tests and functions of Python's Jinja that the engine lacks or has otherwise.

use logitfuse_pattern::Pattern;
use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind},
};
use minijinja_contrib::globals::{cycler, joiner};

use super::{
    bounds::charge,
    guard::{SMALL, TEXT},
    methods,
    print::{self, MAX_DEPTH},
    source::{HELD, PERCENT},
    strings::{self, Side},
};

type Result<T> = std::result::Result<T, Error>;

pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_function(PERCENT, |state: &mut State<'_, '_>, text: Value, value: Value| {
        methods::percent(state, &text, &value)
    });
    environment.add_function(HELD, held);
    environment.add_function(TEXT, as_text);
    environment.add_filter(SMALL, small);
    environment.add_function("joiner", joiner);
    environment.add_function("cycler", |items: Rest<Value>| cycler(items.0));
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("string", |state: &State<'_, '_>, value: Value| print::text(state, &value));
    environment.add_filter("center", center);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_test("callable", is_callable);
    environment.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: Value| {
        let iterable = [ValueKind::String, ValueKind::Seq, ValueKind::Map, ValueKind::Iterable, ValueKind::Undefined];
        iterable.contains(&value.kind())
    });
    environment.set_formatter(|out, state, value| match value.kind() {
        // What has no other form in Python.
        ValueKind::Number | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let text = print::text(state, value)?;
            out.write_str(&text).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
}

/// What a namespace is given, unless it is or holds a namespace: one that held itself could be neither printed nor freed.
fn held(state: &State<'_, '_>, value: Value) -> Result<Value> {
    look_into(state, &value, 0, &mut 0, false)?;
    Ok(value)
}

/// An operand of `~`: what the engine would write in its own way, or without a bound, as text.
fn as_text(state: &State<'_, '_>, value: Value) -> Result<Value> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            print::text(state, &value).map(Value::from)
        }
        _ => Ok(value),
    }
}

/// A value that may be written.
fn small(state: &State<'_, '_>, value: Value) -> Result<Value> {
    measure(state, &value)?;
    Ok(value)
}

/// Takes the steps that writing a value costs.
pub(super) fn measure(state: &State<'_, '_>, value: &Value) -> Result<()> {
    look_into(state, value, 0, &mut 0, true)
}

fn look_into(state: &State<'_, '_>, value: &Value, depth: usize, seen: &mut u64, namespaces: bool) -> Result<()> {
    *seen += 1;
    if (*seen).is_multiple_of(2) {
        state.consume_fuel(1)?;
    }
    let wrong = |what: String| Err(Error::new(ErrorKind::InvalidOperation, what));
    if !namespaces && print::is_namespace(value) {
        return wrong("a namespace cannot hold a namespace".to_owned());
    }
    if depth > MAX_DEPTH {
        return Err(print::too_deep());
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()?.checked() {
                look_into(state, &item?, depth + 1, seen, namespaces)?;
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()?.checked() {
                look_into(state, &value.get_item(&key?)?, depth + 1, seen, namespaces)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// `default(value, default_value, boolean)`.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn default(value: Value, other: Option<Value>, boolean: Option<bool>, options: Kwargs) -> Result<Value> {
    let other = other.map_or_else(|| options.get::<Option<Value>>("default_value"), |other| Ok(Some(other)))?;
    let boolean = boolean.map_or_else(|| options.get::<Option<bool>>("boolean"), |boolean| Ok(Some(boolean)))?;
    options.assert_all_used()?;
    let missing = value.is_undefined() || (boolean == Some(true) && !value.is_true());
    Ok(if missing { other.unwrap_or_else(|| Value::from("")) } else { value })
}

/// `int(value, default, base)`: what is no number is the default.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn int(value: Value, other: Option<Value>, base: Option<u32>, options: Kwargs) -> Result<Value> {
    let other = other.map_or_else(|| options.get::<Option<Value>>("default"), |other| Ok(Some(other)))?;
    let base = base.map_or_else(|| options.get::<Option<u32>>("base"), |base| Ok(Some(base)))?.unwrap_or(10);
    options.assert_all_used()?;
    let whole = |number: f64| {
        // A float of this size is a whole number, and an `i128` holds it.
        let fits = number.is_finite() && number.abs() < 1e37;
        #[expect(clippy::cast_possible_truncation, reason = "it fits")]
        fits.then(|| Value::from(number.trunc() as i128))
    };
    let number = match value.kind() {
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => whole(f64::try_from(value)?),
        ValueKind::String => {
            let text = strings::strip(value.as_str().unwrap_or_default(), None, Side::Both);
            let digits = text.replace('_', "");
            let integer = digits.strip_prefix('+').unwrap_or(&digits);
            let integer = prefixed(integer, base);
            i128::from_str_radix(&integer, base.clamp(2, 36))
                .ok()
                .map(Value::from)
                .or_else(|| parsed(text).and_then(whole))
        }
        _ => None,
    };
    Ok(number.or(other).unwrap_or_else(|| Value::from(0)))
}

/// Digits without the `0x`, `0o` or `0b` that their base allows.
fn prefixed(digits: &str, base: u32) -> String {
    let (sign, rest) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mark = match base {
        16 => ["0x", "0X"],
        8 => ["0o", "0O"],
        2 => ["0b", "0B"],
        _ => return digits.to_owned(),
    };
    let rest = mark.iter().find_map(|mark| rest.strip_prefix(mark)).unwrap_or(rest);
    format!("{sign}{rest}")
}

fn parsed(text: &str) -> Option<f64> {
    // Rust reads no more words than Python does.
    text.replace('_', "").parse().ok()
}

#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn float(value: Value, other: Option<Value>, options: Kwargs) -> Result<Value> {
    let other = other.map_or_else(|| options.get::<Option<Value>>("default"), |other| Ok(Some(other)))?;
    options.assert_all_used()?;
    let number = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => Some(f64::try_from(value)?),
        ValueKind::String => parsed(strings::strip(value.as_str().unwrap_or_default(), None, Side::Both)),
        _ => None,
    };
    Ok(number.map(Value::from).or(other).unwrap_or_else(|| Value::from(0.0)))
}

#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn center(state: &State<'_, '_>, value: Value, width: Option<usize>, options: Kwargs) -> Result<Value> {
    let width = width.map_or_else(|| options.get::<Option<usize>>("width"), |width| Ok(Some(width)))?.unwrap_or(80);
    options.assert_all_used()?;
    charge(state, width)?;
    Ok(strings::pad(&print::text(state, &value)?, width, ' ', Side::Both).into())
}

/// `truncate(value, length, killwords, end, leeway)`.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn truncate(state: &State<'_, '_>, value: Value, positional: Rest<Value>, options: Kwargs) -> Result<Value> {
    let option = |place: usize, name: &str| match positional.get(place) {
        Some(value) => Ok(Some(value.clone())),
        None => options.get::<Option<Value>>(name),
    };
    let count = |value: Option<Value>, default: usize| match value.filter(|value| !value.is_none()) {
        Some(value) => usize::try_from(value),
        None => Ok(default),
    };
    let length = count(option(0, "length")?, 255)?;
    let killwords = option(1, "killwords")?.is_some_and(|value| value.is_true());
    let end = option(2, "end")?.map_or_else(|| Ok("...".to_owned()), |end| print::text(state, &end))?;
    let leeway = count(option(3, "leeway")?, 5)?;
    options.assert_all_used()?;
    let text = print::text(state, &value)?;
    charge(state, text.len())?;
    strings::truncate(&text, length, !killwords, &end, leeway).map(Value::from).ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("the length {length} is less than that of {end:?}"))
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn wordcount(state: &State<'_, '_>, value: Value) -> Result<usize> {
    let text = print::text(state, &value)?;
    charge(state, text.len())?;
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    Ok(text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count())
}

/// lm-eval's filter: Python's `re.sub(pattern, repl, text, count=count)`.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn regex_replace(
    state: &State<'_, '_>,
    text: String,
    pattern: String,
    repl: String,
    count: Option<usize>,
) -> Result<String> {
    charge(state, text.len())?;
    let replaced = Pattern::new(&pattern).and_then(|pattern| pattern.replace(&text, &repl, count.unwrap_or(0)));
    let replaced = replaced.map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
    charge(state, replaced.len())?;
    Ok(replaced)
}

#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn is_callable(value: Value) -> bool {
    let callable = ["BoxedFunction", "Macro", "Joiner"];
    value.as_object().is_some_and(|object| callable.iter().any(|name| object.type_name().ends_with(name)))
}

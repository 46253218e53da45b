//! Methods of Python's strings, lists, dictionaries and numbers.

use minijinja::{
    Error, ErrorKind, State, Value,
    formatting::{FormatStyle, format},
    value::{DynObject, Kwargs, Rest, Tuple, ValueKind, from_args},
};

use super::{
    bounds::{charge, charge_items, items},
    filters::measure,
    print,
    strings::{self, Side},
};

type Result<T> = std::result::Result<T, Error>;

/// What a method was called with.
struct Arguments {
    positional: Vec<Value>,
    named: Kwargs,
}

impl Arguments {
    fn new(args: &[Value]) -> Result<Self> {
        let (Rest(positional), named): (Rest<Value>, Kwargs) = from_args(args)?;
        Ok(Self { positional, named })
    }

    /// The argument at a place, which Python also takes by its name.
    fn get(&self, place: usize, name: &str) -> Result<Option<Value>> {
        let value = match self.positional.get(place) {
            Some(value) => Some(value.clone()),
            None if self.named.has(name) => Some(self.named.get::<Value>(name)?),
            None => None,
        };
        Ok(value.filter(|value| !value.is_none()))
    }

    fn text(&self, place: usize, name: &str) -> Result<Option<String>> {
        let wrong = |value: &Value| invalid(format!("{name} must be a string, not {}", value.kind()));
        self.get(place, name)?.map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(&value))).transpose()
    }

    fn need_text(&self, place: usize, name: &str) -> Result<String> {
        self.text(place, name)?.ok_or_else(|| missing(name))
    }

    fn number(&self, place: usize, name: &str) -> Result<Option<i64>> {
        self.get(place, name)?.map(i64::try_from).transpose()
    }

    /// Refuses what is left over.
    fn end(&self, most: usize) -> Result<()> {
        if self.positional.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        self.named.assert_all_used()
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::MissingArgument, format!("missing argument {name}"))
}

/// Answers a method that the engine does not know.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value> {
    let arguments = Arguments::new(args)?;
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let of_arguments = arguments.positional.iter().filter_map(Value::as_str).map(str::len).sum::<usize>();
            charge(state, text.len() + of_arguments)?;
            string(state, text, name, &arguments)
        }
        ValueKind::Map => map(value, name, &arguments),
        ValueKind::Seq | ValueKind::Iterable => list(state, value, name, &arguments),
        ValueKind::Number => number(value, name, &arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string(state: &State<'_, '_>, text: &str, name: &str, args: &Arguments) -> Result<Value> {
    let of_text = |convert: fn(&str) -> String| args.end(0).map(|()| Value::from(convert(text)));
    match name {
        "upper" => of_text(str::to_uppercase),
        "lower" => of_text(str::to_lowercase),
        "casefold" => of_text(|text| text.to_uppercase().to_lowercase()),
        "swapcase" => of_text(strings::swapcase),
        "capitalize" => of_text(strings::capitalize),
        "title" => of_text(strings::title),
        _ if name.starts_with("is") => question(text, name, args),
        "strip" | "lstrip" | "rstrip" => {
            let chars = args.text(0, "chars")?;
            args.end(1)?;
            Ok(strings::strip(text, chars.as_deref(), Side::of(name)).into())
        }
        "removeprefix" | "removesuffix" => {
            let part = args.need_text(0, "prefix")?;
            args.end(1)?;
            let cut = if name == "removeprefix" { text.strip_prefix(&*part) } else { text.strip_suffix(&*part) };
            Ok(cut.unwrap_or(text).into())
        }
        "replace" => replace(state, text, args),
        "split" | "rsplit" => {
            let (separator, most) = (args.text(0, "sep")?, args.number(1, "maxsplit")?);
            args.end(2)?;
            if separator.as_deref() == Some("") {
                return Err(invalid("empty separator".to_owned()));
            }
            let most = most.and_then(|most| usize::try_from(most).ok());
            let parts = strings::split(text, separator.as_deref(), most, name == "rsplit");
            charge_items(state, parts.len())?;
            Ok(parts.into_iter().map(Value::from).collect())
        }
        "splitlines" => {
            let keep = args.get(0, "keepends")?.is_some_and(|keep| keep.is_true());
            args.end(1)?;
            let lines = strings::lines(text, keep);
            charge_items(state, lines.len())?;
            Ok(lines.into_iter().map(Value::from).collect())
        }
        "partition" | "rpartition" => {
            let separator = args.need_text(0, "sep")?;
            args.end(1)?;
            let cut = if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
            let parts = match cut {
                Some((before, after)) => [before, &*separator, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(Tuple::from(parts.map(Value::from)).into())
        }
        "join" => join(state, text, args),
        "count" | "find" | "rfind" | "index" | "rindex" => search(text, name, args),
        "startswith" | "endswith" => begins_or_ends(state, text, name == "startswith", args),
        "center" | "ljust" | "rjust" => {
            let width = args.number(0, "width")?.ok_or_else(|| missing("width"))?;
            let fill = args.text(1, "fillchar")?.unwrap_or_else(|| " ".to_owned());
            args.end(2)?;
            let mut chars = fill.chars();
            let (Some(fill), None) = (chars.next(), chars.next()) else {
                return Err(invalid("the fill character must be exactly one character long".to_owned()));
            };
            pad(state, text, width, fill, Side::of(name))
        }
        "zfill" => {
            let width = args.number(0, "width")?.ok_or_else(|| missing("width"))?;
            args.end(1)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let padded = pad(state, digits, width - i64::from(!sign.is_empty()), '0', Side::Start)?;
            Ok(format!("{sign}{padded}").into())
        }
        "expandtabs" => {
            let size = args.number(0, "tabsize")?.unwrap_or(8);
            args.end(1)?;
            let size = usize::try_from(size).unwrap_or(0);
            charge(state, text.matches('\t').count().saturating_mul(size))?;
            Ok(strings::expandtabs(text, size).into())
        }
        "format" | "format_map" => {
            bounded_widths(text)?;
            let mut values = args.positional.clone();
            for value in &values {
                measure(state, value)?;
            }
            if name == "format_map" {
                let named = values.pop().ok_or_else(|| missing("mapping"))?;
                values = vec![named_arguments(&named)?];
            } else if args.named.args().next().is_some() {
                let named = args.named.args().map(|name| {
                    let value = args.named.get::<Value>(name)?;
                    measure(state, &value)?;
                    Ok((name.to_owned(), value))
                });
                values.push(named.collect::<Result<Kwargs>>()?.into());
            }
            format(FormatStyle::StrFormat, text, &values).map(Value::from)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// What a text is made of.
fn question(text: &str, name: &str, args: &Arguments) -> Result<Value> {
    let of_chars = |all: fn(&str) -> bool| args.end(0).map(|()| Value::from(all(text)));
    match name {
        "isalnum" => of_chars(|text| every(text, char::is_alphanumeric)),
        "isalpha" => of_chars(|text| every(text, char::is_alphabetic)),
        "isascii" => of_chars(str::is_ascii),
        "isdecimal" => of_chars(|text| every(text, |c| c.is_numeric() && (c.is_ascii_digit() || !c.is_ascii()))),
        "isdigit" | "isnumeric" => of_chars(|text| every(text, char::is_numeric)),
        "isspace" => of_chars(|text| every(text, strings::is_space)),
        "islower" => of_chars(|text| text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
        "isupper" => of_chars(|text| text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)),
        "istitle" => of_chars(strings::is_title),
        "isidentifier" => of_chars(|text| {
            let first = text.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic());
            first && text.chars().all(|c| c == '_' || c.is_alphanumeric())
        }),
        "isprintable" => of_chars(|text| text.chars().all(|c| c == ' ' || !(c.is_control() || strings::is_space(c)))),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// As Python's: no character is not every character.
fn every(text: &str, is: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(is)
}

fn replace(state: &State<'_, '_>, text: &str, args: &Arguments) -> Result<Value> {
    let (old, new) = (args.need_text(0, "old")?, args.need_text(1, "new")?);
    let most = args.number(2, "count")?.and_then(|count| usize::try_from(count).ok());
    args.end(3)?;
    let found = text.matches(&*old).count().min(most.unwrap_or(usize::MAX));
    charge(state, found.saturating_mul(new.len()))?;
    Ok(text.replacen(&*old, &new, most.unwrap_or(usize::MAX)).into())
}

fn join(state: &State<'_, '_>, separator: &str, args: &Arguments) -> Result<Value> {
    let values = args.get(0, "iterable")?.ok_or_else(|| missing("iterable"))?;
    args.end(1)?;
    let mut joined = String::new();
    for (index, value) in items(state, &values)?.enumerate() {
        let value = value?;
        if index > 0 {
            joined.push_str(separator);
        }
        let before = joined.len();
        match value.as_str() {
            Some(text) => joined.push_str(text),
            None => joined.push_str(&print::text(state, &value)?),
        }
        charge(state, separator.len() + joined.len() - before)?;
    }
    Ok(joined.into())
}

/// The part of a text that two indices cut out, which may count from the end, and where it begins.
fn part<'t>(text: &'t str, args: &Arguments, first: usize) -> Result<(&'t str, i64)> {
    let (start, end) = (args.number(first, "start")?, args.number(first + 1, "end")?);
    args.end(first + 2)?;
    if start.is_none() && end.is_none() {
        return Ok((text, 0));
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let clamp = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index.min(length) };
    let start = clamp(start.unwrap_or(0));
    let end = clamp(end.unwrap_or(length)).max(start);
    let byte = |index: i64| {
        let index = usize::try_from(index).unwrap_or(0);
        text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
    };
    Ok((&text[byte(start)..byte(end)], start))
}

fn search(text: &str, name: &str, args: &Arguments) -> Result<Value> {
    let wanted = args.need_text(0, "sub")?;
    let (text, start) = part(text, args, 1)?;
    if name == "count" {
        return Ok(text.matches(&*wanted).count().into());
    }
    let at = if name.starts_with('r') { text.rfind(&*wanted) } else { text.find(&*wanted) };
    let index = at.map(|at| i64::try_from(text[..at].chars().count()).unwrap_or(i64::MAX).saturating_add(start));
    match index {
        None if name.ends_with("index") => Err(invalid("substring not found".to_owned())),
        index => Ok(index.unwrap_or(-1).into()),
    }
}

fn begins_or_ends(state: &State<'_, '_>, text: &str, at_start: bool, args: &Arguments) -> Result<Value> {
    let wanted = args.get(0, "prefix")?.ok_or_else(|| missing("prefix"))?;
    let (text, _) = part(text, args, 1)?;
    let is_one = |wanted: &Value| {
        let wanted = wanted.as_str().ok_or_else(|| {
            invalid(format!("the first argument must be a string or a tuple of strings, not {}", wanted.kind()))
        })?;
        Ok::<_, Error>(if at_start { text.starts_with(wanted) } else { text.ends_with(wanted) })
    };
    if !matches!(wanted.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return is_one(&wanted).map(Value::from);
    }
    for wanted in items(state, &wanted)? {
        if is_one(&wanted?)? {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn pad(state: &State<'_, '_>, text: &str, width: i64, fill: char, side: Side) -> Result<Value> {
    let width = usize::try_from(width).unwrap_or(0);
    charge(state, width.saturating_mul(fill.len_utf8()))?;
    Ok(strings::pad(text, width, fill, side).into())
}

/// Refuses a format of which one place alone would be longer than a template may be.
fn bounded_widths(format: &str) -> Result<()> {
    let long = |digits: &str| digits.trim_start_matches('0').len() > 6;
    if format.split(|c: char| !c.is_ascii_digit()).any(long) {
        return Err(invalid("a width or precision of more than 999999".to_owned()));
    }
    Ok(())
}

fn named_arguments(mapping: &Value) -> Result<Value> {
    let mut named = Vec::new();
    for key in mapping.try_iter()?.checked() {
        let key = key?;
        if let Some(name) = key.as_str() {
            named.push((name.to_owned(), mapping.get_item(&key)?));
        }
    }
    Ok(named.into_iter().collect::<Kwargs>().into())
}

/// `'%s' % value`: a tuple is several values, a dictionary is named ones, anything else is one.
pub(super) fn percent(state: &mut State<'_, '_>, text: &Value, value: &Value) -> Result<Value> {
    let mut args = vec![text.clone()];
    match value.kind() {
        ValueKind::Seq if value.is_tuple() => args.extend(value.try_iter()?),
        ValueKind::Map => args.push(named_arguments(value)?),
        _ => args.push(value.clone()),
    }
    for value in &args {
        measure(state, value)?;
    }
    state.apply_filter("format", &args)
}

fn list(state: &State<'_, '_>, value: &Value, name: &str, args: &Arguments) -> Result<Value> {
    match name {
        "index" | "count" => {
            let wanted = args.positional.first().ok_or_else(|| missing("value"))?;
            let items = items(state, value)?.collect::<Result<Vec<Value>>>()?;
            if name == "count" {
                args.end(1)?;
                return Ok(items.iter().filter(|item| *item == wanted).count().into());
            }
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let bound = |place: usize, name: &str, default: i64| {
                let index = args.number(place, name)?.unwrap_or(default);
                let index = if index < 0 { index.saturating_add(length).max(0) } else { index.min(length) };
                Ok::<_, Error>(usize::try_from(index).unwrap_or(0))
            };
            let (start, end) = (bound(1, "start", 0)?, bound(2, "stop", length)?);
            args.end(3)?;
            let found = (start..end).find(|&index| items[index] == *wanted);
            match found {
                Some(index) => Ok(index.into()),
                None => Err(invalid(format!("{} is not in list", print::repr(state, wanted)?))),
            }
        }
        "copy" => args.end(0).map(|()| value.clone()),
        "append" | "clear" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort" => Err(unsafe_change(name)),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn map(value: &Value, name: &str, args: &Arguments) -> Result<Value> {
    match name {
        // Views, so that nothing is copied; the engine iterates them again and again.
        "keys" | "values" | "items" => {
            args.end(0)?;
            let view = name.to_owned();
            Ok(Value::make_object_iterable(value.clone(), move |map| {
                let pairs = map.as_object().and_then(DynObject::try_iter_pairs).into_iter().flatten();
                match &*view {
                    "keys" => Box::new(pairs.map(|(key, _)| key)),
                    "values" => Box::new(pairs.map(|(_, value)| value)),
                    _ => Box::new(pairs.map(|(key, value)| Tuple::from([key, value]).into())),
                }
            }))
        }
        "get" => {
            let key = args.positional.first().ok_or_else(|| missing("key"))?;
            let default = args.positional.get(1).cloned().unwrap_or_else(|| Value::from(()));
            args.end(2)?;
            Ok(value.as_object().and_then(|map| map.get_value(key)).unwrap_or(default))
        }
        "copy" => args.end(0).map(|()| value.clone()),
        "clear" | "pop" | "popitem" | "setdefault" | "update" => Err(unsafe_change(name)),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// The environment of `transformers` forbids what changes a value, too.
fn unsafe_change(name: &str) -> Error {
    invalid(format!("{name}() would change a value, which a template may not"))
}

fn number(value: &Value, name: &str, args: &Arguments) -> Result<Value> {
    match name {
        "bit_length" if value.is_integer() => {
            args.end(0)?;
            let number = i128::try_from(value.clone())?.unsigned_abs();
            Ok((u128::BITS - number.leading_zeros()).into())
        }
        "is_integer" => {
            args.end(0)?;
            Ok(f64::try_from(value.clone()).is_ok_and(|x| x.fract() == 0.0).into())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

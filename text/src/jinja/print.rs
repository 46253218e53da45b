//! Values as Python writes them.

use std::fmt::Write as _;

use minijinja::{Error, ErrorKind, State, Value, value::ValueKind};

use super::bounds::bytes_left;

/// Lists and dictionaries that may lie inside each other in what is printed. Python gives up at some hundred, too.
pub(super) const MAX_DEPTH: usize = 200;

/// `str(value)`; nothing for a value that is not defined.
pub(super) fn text(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() => Ok(String::new()),
        None => repr(state, value),
    }
}

/// `repr(value)`.
pub(super) fn repr(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut printer = Printer { out: String::new(), most: bytes_left(state) };
    printer.value(value, 0)?;
    Ok(printer.out)
}

/// A float as Python writes it: the shortest digits that give it back, with an exponent of two digits at least.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// Values that are not data nest too deep.
pub(super) fn too_deep() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a value of more than {MAX_DEPTH} levels cannot be written"))
}

/// Whether a value is a namespace, which the engine does not say of it.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

struct Printer {
    out: String,
    /// The bytes that may be written.
    most: usize,
}

impl Printer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        if self.out.len() > self.most {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        match value.kind() {
            ValueKind::Number if !value.is_integer() => {
                self.out.push_str(&float(f64::try_from(value.clone())?));
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let brackets = if value.is_tuple() { ["(", ")"] } else { ["[", "]"] };
                self.out.push_str(brackets[0]);
                let mut count = 0;
                for item in value.try_iter()?.checked() {
                    self.out.push_str(if count > 0 { ", " } else { "" });
                    self.value(&item?, depth + 1)?;
                    count += 1;
                }
                self.out.push_str(if value.is_tuple() && count == 1 { "," } else { "" });
                self.out.push_str(brackets[1]);
            }
            ValueKind::Map => {
                let brackets = if is_namespace(value) { ["<Namespace {", "}>"] } else { ["{", "}"] };
                self.out.push_str(brackets[0]);
                for (index, key) in value.try_iter()?.checked().enumerate() {
                    let key = key?;
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    self.value(&key, depth + 1)?;
                    self.out.push_str(": ");
                    self.value(&value.get_item(&key)?, depth + 1)?;
                }
                self.out.push_str(brackets[1]);
            }
            ValueKind::Undefined => self.out.push_str("Undefined"),
            // Strings with Python's quotes, and what has one form only.
            _ => write!(self.out, "{value:?}").map_err(Error::from)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::float;

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
            assert_eq!(float(x), expected);
        }
    }
}

//! Jinja as chat templates expect it: the environment that Python's `transformers` renders them in.

use logitfuse_core::{Error, ErrorKind, Result};
use minijinja::{
    Environment, ErrorKind as JinjaKind, Value,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest},
};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

/// Instructions that one rendering may take. A long conversation through a large template takes some ten thousand; a
/// hostile template that loops is stopped after about a second.
const FUEL: u64 = 20_000_000;

/// The name under which the only template of an environment is stored.
const NAME: &str = "chat";

/// An environment that holds `template`. Errors are about the template's syntax.
pub(crate) fn environment(template: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", tojson);
    environment.add_template_owned(NAME, without_generation_tags(template))?;
    Ok(environment)
}

/// Renders the environment's template.
pub(crate) fn render(environment: &Environment<'_>, context: Value) -> Result<String, minijinja::Error> {
    environment.get_template(NAME)?.render(context)
}

/// Makes `strftime_now` answer with this date and time.
pub(crate) fn set_now(environment: &mut Environment<'_>, now: jiff::civil::DateTime) {
    environment.add_function("strftime_now", move |format: &str| {
        jiff::fmt::strtime::format(format, now)
            .map_err(|e| minijinja::Error::new(JinjaKind::InvalidOperation, e.to_string()))
    });
}

/// A template's error as an error of logitfuse, with the line that failed.
pub(crate) fn error(origin: &str, e: minijinja::Error) -> Error {
    // An exception that the template raises on purpose lies below the call that raised it.
    let line = e.line().map_or_else(String::new, |line| format!("line {line}: "));
    let raised = e.detail().and_then(|detail| detail.strip_prefix(RAISED));
    let (kind, message, help) = match (raised, e.kind()) {
        (Some(message), _) => (
            ErrorKind::InvalidConfig,
            format!("the chat template refuses the messages: {message}"),
            "change the messages so that the template accepts them, or set a template of your own".to_owned(),
        ),
        (_, JinjaKind::OutOfFuel) => (
            ErrorKind::InvalidData,
            "the chat template does not come to an end".to_owned(),
            "the template loops, or it is not meant for chats; set a template of your own".to_owned(),
        ),
        (_, JinjaKind::UnknownFunction) if e.detail().is_some_and(|detail| detail.contains("strftime_now")) => (
            ErrorKind::InvalidConfig,
            "the chat template asks for the current date".to_owned(),
            "set a date, such as 2025-01-31: a prompt that changes from day to day cannot be reproduced".to_owned(),
        ),
        (_, kind) => (
            if kind == JinjaKind::SyntaxError { ErrorKind::InvalidData } else { ErrorKind::InvalidConfig },
            format!(
                "the chat template failed: {}",
                e.detail().map_or_else(|| kind.to_string(), |d| format!("{kind}: {d}"))
            ),
            "repair the template at that line, or set a template of your own".to_owned(),
        ),
    };
    Error::new(kind, format!("{origin}: {line}{message}")).with_help(help).with_source(e)
}

/// Marks the message of `raise_exception` among the details of other errors.
const RAISED: &str = "raised: ";

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(minijinja::Error::new(JinjaKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`. Jinja's own filter escapes for HTML instead.
#[expect(clippy::needless_pass_by_value, reason = "the template engine calls filters with owned arguments")]
fn tojson(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<Value, minijinja::Error> {
    let failed = |e: serde_json::Error| minijinja::Error::new(JinjaKind::BadSerialization, e.to_string());
    let indent: Option<usize> = match positional.first() {
        Some(indent) if !indent.is_none() => Some(usize::try_from(indent.clone())?),
        _ => options.get("indent")?,
    };
    // Python's default; the other value would only change how characters are written.
    let _ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(64));
            let layout = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, layout)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, PythonSpacing)).map_err(failed)?;
        }
    }
    let text =
        String::from_utf8(json).map_err(|e| minijinja::Error::new(JinjaKind::BadSerialization, e.to_string()))?;
    Ok(Value::from_safe_string(text))
}

/// `{"a": 1, "b": [2, 3]}`
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

/// Turns `{% generation %} … {% endgeneration %}`, which `transformers` adds to Jinja to mark the assistant's turns,
/// into a block that does nothing. The marks that trim white space stay in force.
fn without_generation_tags(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let name_at = tag.len() - tag.trim_start_matches(['-', '+']).trim_start().len();
        let (mark, name) = tag.split_at(name_at);
        let word = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            other => other,
        };
        out.push_str(mark);
        out.push_str(replacement);
        rest = &name[word.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        render(&environment(template).unwrap(), Value::UNDEFINED).unwrap()
    }

    #[test]
    fn json_is_spaced_and_ordered_as_in_python() {
        assert_eq!(
            rendered(r#"{{ {"z": 1, "a": [true, none, 2.5, "<é'&>\n"], "m": {}} | tojson }}"#),
            r#"{"z": 1, "a": [true, null, 2.5, "<é'&>\n"], "m": {}}"#
        );
        assert_eq!(
            rendered("{{ {'z': [1], 'e': []} | tojson(indent=2) }}"),
            "{\n  \"z\": [\n    1\n  ],\n  \"e\": []\n}"
        );
        assert_eq!(rendered("{{ [1, 2] | tojson(ensure_ascii=false) }}"), "[1, 2]");
    }

    #[test]
    fn generation_tags_leave_their_content() {
        let template = "{% for x in [1, 2] %}a {%- generation -%} {{ x }} {%- endgeneration -%} b{% endfor %}";
        assert_eq!(rendered(template), "a1ba2b");
        assert_eq!(without_generation_tags("{% set generations = 1 %}{%"), "{% set generations = 1 %}{%");
    }

    #[test]
    fn loops_without_end_are_stopped() {
        let environment = environment(
            "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = b %}{% endfor %}{% endfor %}",
        )
        .unwrap();
        let e = error("x", render(&environment, Value::UNDEFINED).unwrap_err());
        assert_eq!(e.kind(), ErrorKind::InvalidData);
        assert!(e.to_string().contains("does not come to an end"), "{e}");
    }

    #[test]
    fn dates_are_written_as_python_writes_them() {
        let mut environment =
            environment("{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%A, %B %-d, %H:%M') }}").unwrap();
        set_now(&mut environment, jiff::civil::date(2024, 7, 6).at(9, 5, 0, 0));
        assert_eq!(render(&environment, Value::UNDEFINED).unwrap(), "06 Jul 2024|Saturday, July 6, 09:05");
    }
}

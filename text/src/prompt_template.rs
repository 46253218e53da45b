use logitfuse_core::{Error, ErrorKind, Result};
use minijinja::{
    ErrorKind as JinjaKind, Value,
    value::{Serde, ValueKind},
};

use crate::{
    jinja::{STEPS, Template, to_json},
    nearest,
};

/// A prompt template with placeholders for a sample's fields: `"{{ passage }}\n\n{{ question }}"`.
///
/// Jinja as everywhere in this field, with the methods of Python's strings, lists and dictionaries that templates written
/// for Python use, numbers as Python writes them, lm-eval's filter `regex_replace`, and strict: a field that the sample lacks is
/// an error, not an empty string. Line ends are `\n` whatever they were written as, as in Jinja.
///
/// ```
/// use logitfuse_text::PromptTemplate;
/// use serde_json::json;
///
/// let template = PromptTemplate::new("user", "Q: {{ question }}")?;
/// assert_eq!(template.render(&json!({ "question": "Why?" }))?, "Q: Why?");
/// let error = template.render(&json!({ "prompt": "Why?" })).unwrap_err();
/// assert_eq!(error.to_string(), "user: line 1: undefined value: there is no field `question`");
/// assert_eq!(error.help(), Some("there is `prompt`"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PromptTemplate {
    origin: String,
    template: Template,
    /// The expression between the braces, if the whole text is one.
    expression: Option<String>,
}

/// Names that a message lists at most.
const LISTED: usize = 20;

impl PromptTemplate {
    /// A template from its text; `origin` says in messages which key of which file it was written under.
    pub fn new(origin: &str, text: &str) -> Result<Self> {
        let template = Template::prompt(origin, text, error)?;
        let expression = expression(template.source());
        Ok(Self { origin: origin.to_owned(), template, expression })
    }

    /// The text with the sample's fields in their places. `fields` is a JSON object.
    pub fn render(&self, fields: &serde_json::Value) -> Result<String> {
        self.template.render(Value::from(Serde(fields)), 0).map_err(|e| self.failed(fields, e))
    }

    /// The value that the sample's fields give: of a text that is one expression the expression's own, so that a list stays
    /// a list, and of any other the text.
    ///
    /// ```
    /// use logitfuse_text::PromptTemplate;
    /// use serde_json::json;
    ///
    /// let fields = json!({ "labels": ["A", "B"], "answer": "B" });
    /// let value = |text| PromptTemplate::new("target", text)?.value(&fields);
    /// assert_eq!(value("{{ labels }}")?, json!(["A", "B"]));
    /// assert_eq!(value("{{ labels.index(answer) }}")?, json!(1));
    /// assert_eq!(value("{{ labels.index(answer) }}.")?, json!("1."));
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn value(&self, fields: &serde_json::Value) -> Result<serde_json::Value> {
        let Some(expression) = &self.expression else { return self.render(fields).map(serde_json::Value::String) };
        let value = self.template.run(|environment| {
            let value = environment.compile_expression(expression)?.eval(Value::from(Serde(fields)))?;
            match value.kind() {
                // Strict as a text is: a missing field must not become null.
                ValueKind::Undefined => Err(minijinja::Error::from(JinjaKind::UndefinedError)),
                _ => to_json(&value),
            }
        });
        value.map_err(|e| self.failed(fields, e))
    }

    /// The error of a rendering; of an undefined value it says which names these fields lack, and which they have.
    fn failed(&self, fields: &serde_json::Value, e: minijinja::Error) -> Error {
        let there: Vec<&str> = fields.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let lacking = self.lacking(&there);
        if e.kind() != JinjaKind::UndefinedError || lacking.is_empty() {
            return error(&self.origin, e);
        }
        let line = e.line().map_or_else(String::new, |line| format!("line {line}: "));
        let names = lacking.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let what = format!("{}: {line}{}: there is no field {names}", self.origin, e.kind());
        let near: Vec<&str> = lacking.iter().filter_map(|name| nearest(name, there.iter().copied())).collect();
        let near = near.first().map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        Error::new(ErrorKind::InvalidConfig, what).with_help(near + &listed(&there)).with_source(e)
    }

    /// The names that the template looks up and that are neither fields nor known to every template, in alphabetical order.
    fn lacking(&self, there: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = self.template.variables().into_iter().collect();
        names.retain(|name| !there.contains(&name.as_str()));
        names.truncate(LISTED);
        names
    }
}

fn expression(text: &str) -> Option<String> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inside = inside.strip_prefix('-').unwrap_or(inside);
    let inside = inside.strip_suffix('-').unwrap_or(inside);
    let alone = ["{{", "}}", "{%", "{#"].iter().all(|mark| !inside.contains(mark));
    alone.then(|| inside.to_owned())
}

/// "there are `a`, `b`": the fields that a template may use.
fn listed(there: &[&str]) -> String {
    let names = there.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match there.len() {
        0 => "there are no fields".to_owned(),
        1 => format!("there is {names}"),
        2..=LISTED => format!("there are {names}"),
        more => format!("there are {names}, and {} more", more - LISTED),
    }
}

fn error(origin: &str, e: minijinja::Error) -> Error {
    let line = e.line().map_or_else(String::new, |line| format!("line {line}: "));
    if e.kind() == JinjaKind::OutOfFuel {
        let message = format!("{origin}: {line}the text does not come to an end within {STEPS} steps");
        return Error::new(ErrorKind::InvalidConfig, message)
            .with_help("it loops or makes too much text; docs/running.md lists the bounds")
            .with_source(e);
    }
    let detail = e.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    Error::new(ErrorKind::InvalidConfig, format!("{origin}: {line}{}{detail}", e.kind()))
        .with_help("a prompt may use the fields of its sample, as in {{ prompt }}")
        .with_source(e)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn written(template: &str, fields: &serde_json::Value, expected: &str) {
        let template = PromptTemplate::new("t", template).expect("a sound template");
        assert_eq!(template.render(fields).expect("sound fields"), expected);
    }

    /// What Jinja in Python writes.
    #[test]
    fn values_are_written_as_python_writes_them() {
        written("{{ x }}", &json!({ "x": 0.00005 }), "5e-05");
        written("{{ x }}", &json!({ "x": 1e17 }), "1e+17");
        written("{{ x | string }}|{{ x }}", &json!({ "x": 1e-7 }), "1e-07|1e-07");
        written("{{ x }}", &json!({ "x": 0.1 }), "0.1");
        written("{{ x }}", &json!({ "x": ["a", null, true] }), "['a', None, True]");
        written("{{ x }}", &json!({ "x": { "it's": [1e-5, 2] } }), r#"{"it's": [1e-05, 2]}"#);
        written("{{ x + 1 }} {{ (1, x) }}", &json!({ "x": 1.5 }), "2.5 (1, 1.5)");
    }

    #[test]
    fn patterns_are_pythons() {
        let fields = json!({ "x": "What's up?" });
        written("{{ x | regex_replace('[^a-z]', '_') }}", &fields, "_hat_s_up_");
        written(r"{{ x | regex_replace('(\\w+)', '<\\1>', 1) }}", &fields, "<What>'s up?");
        let broken = PromptTemplate::new("t", "{{ x | regex_replace('(', '') }}").expect("its syntax is sound");
        let e = broken.render(&fields).expect_err("no pattern");
        assert!(e.to_string().contains("(: at character 0: the group does not end"), "{e}");
    }

    #[test]
    fn what_is_undefined_is_named() {
        let lacking = |text: &str, fields: serde_json::Value| {
            let template = PromptTemplate::new("prompt", text).expect("a sound template");
            let e = template.render(&fields).expect_err("it is undefined");
            (e.to_string(), e.help().unwrap_or_default().to_owned())
        };
        let (what, help) = lacking("A\n{{ qestion }}", json!({ "question": "?", "answer": 1 }));
        assert_eq!(what, "prompt: line 2: undefined value: there is no field `qestion`");
        assert_eq!(help, "did you mean `question`? there are `answer`, `question`");
        // What is guarded is no fault, and what a template sets itself is no field.
        let (what, _) = lacking(
            "{% set y = 1 %}{% if z is defined %}{{ z }}{% endif %}{{ y }}{{ x.b }}",
            json!({ "x": {}, "z": 1 }),
        );
        assert!(what.starts_with("prompt: line 1: undefined value"), "{what}");
        assert!(!what.contains("there is no field"), "{what}");
    }
}

use logitfuse_core::{Error, ErrorKind, Result};
use minijinja::{
    ErrorKind as JinjaKind, Value,
    value::{Serde, ValueKind},
};

use crate::jinja::{STEPS, Template, to_json};

/// A prompt template with placeholders for a sample's fields: `"{{ passage }}\n\n{{ question }}"`.
///
/// Jinja as everywhere in this field, with the methods of Python's strings, lists and dictionaries that templates written
/// for Python use, and strict: a field that the sample lacks is an error, not an empty string. Line ends are `\n` whatever
/// they were written as, as in Jinja.
///
/// ```
/// use logitfuse_text::PromptTemplate;
/// use serde_json::json;
///
/// let template = PromptTemplate::new("user", "Q: {{ question }}")?;
/// assert_eq!(template.render(&json!({ "question": "Why?" }))?, "Q: Why?");
/// let error = template.render(&json!({ "prompt": "Why?" })).unwrap_err();
/// assert!(error.to_string().starts_with("user: line 1: undefined value"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PromptTemplate {
    origin: String,
    template: Template,
    /// The expression between the braces, if the whole text is one.
    expression: Option<String>,
}

impl PromptTemplate {
    /// A template from its text; `origin` says in messages which key of which file it was written under.
    pub fn new(origin: &str, text: &str) -> Result<Self> {
        let template = Template::prompt(origin, text, error)?;
        let expression = expression(template.source());
        Ok(Self { origin: origin.to_owned(), template, expression })
    }

    /// The text with the sample's fields in their places. `fields` is a JSON object.
    pub fn render(&self, fields: &serde_json::Value) -> Result<String> {
        self.template.render(Value::from(Serde(fields)), 0).map_err(|e| error(&self.origin, e))
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
        value.map_err(|e| error(&self.origin, e))
    }
}

fn expression(text: &str) -> Option<String> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inside = inside.strip_prefix('-').unwrap_or(inside);
    let inside = inside.strip_suffix('-').unwrap_or(inside);
    let alone = ["{{", "}}", "{%", "{#"].iter().all(|mark| !inside.contains(mark));
    alone.then(|| inside.to_owned())
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

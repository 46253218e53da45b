use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use minijinja::{
    Environment, ErrorKind as JinjaKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Serde, ValueKind},
};
use minijinja_contrib::pycompat::unknown_method_callback;

/// A prompt template with placeholders for a sample's fields: `"{{ passage }}\n\n{{ question }}"`.
///
/// Jinja as everywhere in this field, with the methods of Python's strings, lists and dictionaries that templates written
/// for Python use, and strict: a field that the sample lacks is an error, not an empty string.
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
    environment: Environment<'static>,
    /// The expression between the braces, if the whole text is one.
    expression: Option<String>,
}

const NAME: &str = "prompt";

impl PromptTemplate {
    /// A template from its text; `origin` says in messages which key of which file it was written under.
    pub fn new(origin: &str, text: &str) -> Result<Self> {
        let environment = environment(text).map_err(|e| error(origin, e))?;
        Ok(Self { origin: origin.to_owned(), environment, expression: expression(text) })
    }

    /// The text with the sample's fields in their places. `fields` is a JSON object.
    pub fn render(&self, fields: &serde_json::Value) -> Result<String> {
        let context = Value::from(Serde(fields));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| error(&self.origin, e))
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
        let compiled = self.environment.compile_expression(expression);
        let value = compiled.and_then(|compiled| compiled.eval(Value::from(Serde(fields))));
        let value = value.and_then(|value| match value.kind() {
            // Strict as a text is: a missing field must not become null.
            ValueKind::Undefined => Err(minijinja::Error::from(JinjaKind::UndefinedError)),
            _ => Ok(value),
        });
        let value = value.map_err(|e| error(&self.origin, e))?;
        serde_json::to_value(&value).or_err(ErrorKind::InvalidData, &self.origin)
    }
}

fn expression(text: &str) -> Option<String> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inside = inside.strip_prefix('-').unwrap_or(inside);
    let inside = inside.strip_suffix('-').unwrap_or(inside);
    let alone = ["{{", "}}", "{%", "{#"].iter().all(|mark| !inside.contains(mark));
    alone.then(|| inside.to_owned())
}

/// Python's methods; of lists, `index` too, by which task files find the right choice.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, minijinja::Error> {
    if value.kind() == ValueKind::Seq && name == "index" && args.len() == 1 {
        let found = value.try_iter()?.position(|item| item == args[0]);
        let missing = || minijinja::Error::new(JinjaKind::InvalidOperation, format!("{} is not in list", args[0]));
        return found.map(Value::from).ok_or_else(missing);
    }
    unknown_method_callback(state, value, name, args)
}

fn environment(text: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    // A prompt's last newline is the user's, not the file's.
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_unknown_method_callback(method);
    environment.set_fuel(Some(1_000_000));
    environment.add_template_owned(NAME, text.to_owned())?;
    Ok(environment)
}

fn error(origin: &str, e: minijinja::Error) -> Error {
    let line = e.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = e.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    Error::new(ErrorKind::InvalidConfig, format!("{origin}: {line}{}{detail}", e.kind()))
        .with_help("a prompt may use the fields of its sample, as in {{ prompt }}")
        .with_source(e)
}

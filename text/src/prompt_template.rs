use logitfuse_core::{Error, ErrorKind, Result};
use minijinja::{Environment, UndefinedBehavior, Value, syntax::SyntaxConfig, value::Serde};

/// A piece of a prompt with places for a sample's fields: `"{{ passage }}\n\n{{ question }}"`.
///
/// Jinja as everywhere in this field, and strict: a field that the sample lacks is an error, not an empty string.
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
}

const NAME: &str = "prompt";

impl PromptTemplate {
    /// A template from its text; `origin` says in messages which key of which file it was written under.
    pub fn new(origin: &str, text: &str) -> Result<Self> {
        let environment = environment(text).map_err(|e| error(origin, e))?;
        Ok(Self { origin: origin.to_owned(), environment })
    }

    /// The text with the sample's fields in their places. `fields` is a JSON object.
    pub fn render(&self, fields: &serde_json::Value) -> Result<String> {
        let context = Value::from(Serde(fields));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| error(&self.origin, e))
    }
}

fn environment(text: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    // A prompt's last newline is the user's, not the file's.
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
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

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use minijinja::{Value, value::Serde};
use serde::{Deserialize, Serialize};

use crate::{
    SpecialTokens,
    files::{read_if_there, read_json},
    jinja::{self, MAX_BYTES, Template},
};

/// One turn of a conversation.
///
/// ```
/// let message = logitfuse_text::Message::new("user", "Is it raining?");
/// assert_eq!(message.role, "user");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user`, `assistant`; the template decides which others are allowed.
    pub role: String,
    /// The text of the message.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A chat template: renders a conversation into the prompt format that a model was trained on.
///
/// An instruction-tuned model that gets its prompt in another form, or without one, answers worse and nothing says why;
/// in fusion, each role may need a different form. Model folders carry theirs as a Jinja template, which is rendered here
/// as Python's `transformers` renders it.
///
/// ```
/// use logitfuse_text::{ChatTemplate, Message};
///
/// let template = ChatTemplate::from_text(
///     "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'].strip() }}\n{% endfor %}\
///      {% if add_generation_prompt %}<|assistant|>{% endif %}",
/// )?;
/// let prompt = template.render(&[Message::new("user", " Is it raining? ")], true)?;
/// assert_eq!(prompt, "<|user|>Is it raining?\n<|assistant|>");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
///
/// # What a template may use
///
/// `messages`, `add_generation_prompt`, `tools` and `documents` (none unless they are set), the folder's special tokens by
/// name (`bos_token`, `eos_token`, …), whatever [`with_variable`](Self::with_variable) adds, Python's methods of strings,
/// lists and dictionaries, `'%s' % value`, `namespace`, `raise_exception`, `tojson` with the parameters of Python's
/// `json.dumps`, `{% break %}`, `{% generation %}`. Line ends are `\n` whatever they were written as.
///
/// A template comes with the model, from a third party, so what it may take is bounded: its length, the operators in one
/// expression, the steps and bytes of one rendering. What exceeds a bound is an error.
///
/// `strftime_now` exists only once a date is set ([`with_date`](Self::with_date)): the clock is never read, because the
/// same experiment would then have another prompt tomorrow. Most templates that print a date fall back to one of their
/// own; of the others, [`render`](Self::render) says that they need one.
#[derive(Clone)]
pub struct ChatTemplate {
    /// For messages: the file it came from.
    origin: String,
    template: Arc<Template>,
    variables: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// The template of a model folder, or `None` if the folder has none, as is common for models that are no chat models.
    ///
    /// Looked for in `chat_template.jinja`, `chat_template.json` and the `chat_template` of `tokenizer_config.json`, in
    /// this order. Some folders have several under names, such as `tool_use`: the one named `default` is taken, unless
    /// `name` says otherwise.
    pub fn load(folder: &Path, name: Option<&str>) -> Result<Option<Self>> {
        let Some((file, templates)) = find(folder, name)? else { return Ok(None) };
        let wanted = name.unwrap_or("default");
        let Some(text) = templates.get(wanted) else {
            let known: Vec<_> = templates.keys().map(String::as_str).collect();
            let message = format!("{}: no chat template is named {wanted:?}", file.display());
            return Err(Error::new(ErrorKind::InvalidConfig, message)
                .with_help(format!("name one of those that it has: {}", known.join(", "))));
        };
        let template = Self::build(text, file.display().to_string())?;
        Ok(Some(template.with_special_tokens(&SpecialTokens::load(folder)?)))
    }

    /// A template from its text. Special tokens have no names in it unless
    /// [`with_special_tokens`](Self::with_special_tokens) gives them some.
    pub fn from_text(text: &str) -> Result<Self> {
        Self::build(text, "chat template".to_owned())
    }

    /// A template from a file of its own. Special tokens have no names in it unless
    /// [`with_special_tokens`](Self::with_special_tokens) gives them some.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = read_if_there(path, MAX_BYTES as u64)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{}: no such file", path.display()))
                .with_help("check the path of the chat template")
        })?;
        Self::build(&text, path.display().to_string())
    }

    fn build(text: &str, origin: String) -> Result<Self> {
        let template = Template::chat(&origin, text)?;
        // `transformers` passes these two whether there are any or not.
        let variables = ["tools", "documents"].map(|name| (name.to_owned(), Value::from(()))).into();
        Ok(Self { origin, template: Arc::new(template), variables })
    }

    /// Gives special tokens the names that a model folder gives them: `bos_token`, `eos_token`, …
    #[must_use]
    pub fn with_special_tokens(mut self, special: &SpecialTokens) -> Self {
        self.variables.extend(special.iter().map(|(name, token)| (name.to_owned(), token.into())));
        self
    }

    /// The variables that the template reads: those that [`with_variable`](Self::with_variable) may set, and its own names
    /// for what every template is given.
    pub fn variables(&self) -> BTreeSet<String> {
        self.template.variables()
    }

    /// Sets a variable that the template may use, such as `enable_thinking`, `tools` or `bos_token`. One that the folder
    /// set is replaced.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Serialize) -> Self {
        self.variables.insert(name.to_owned(), Value::from(Serde(value)));
        self
    }

    /// Sets what `strftime_now` answers: a date such as `2025-01-31`, or a date and time such as `2025-01-31T12:00`.
    pub fn with_date(mut self, date: &str) -> Result<Self> {
        let now = date.parse::<jiff::civil::DateTime>().map_err(|e| {
            Error::new(ErrorKind::InvalidConfig, format!("{date:?}: not a date"))
                .with_help("write the year, month and day, as in 2025-01-31")
                .with_source(e)
        })?;
        Arc::make_mut(&mut self.template).set_now(now);
        Ok(self)
    }

    /// The prompt. `add_generation_prompt` ends it where the assistant is to speak, rather than after the last message.
    ///
    /// Encode it without adding special tokens: the template has written those that are needed.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut context = self.variables.clone();
        context.insert("messages".to_owned(), Value::from(Serde(messages)));
        context.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        // Templates look at every message some times and at every character some times more.
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let more = messages.len() * 400 + bytes / 4;
        let rendered = self.template.render(Value::from_pairs(context), more as u64);
        rendered.map_err(|e| jinja::error(&self.origin, e))
    }

    /// Where the template comes from: a file, or that it was given as text.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("origin", &self.origin)
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

type Templates = BTreeMap<String, String>;

/// The file that the folder's templates are in, and the templates by name.
fn find(folder: &Path, name: Option<&str>) -> Result<Option<(PathBuf, Templates)>> {
    if let Some(name) = name.filter(|name| *name != "default") {
        let path = folder.join("additional_chat_templates").join(format!("{name}.jinja"));
        if let Some(text) = read_if_there(&path, MAX_BYTES as u64)? {
            return Ok(Some((path, Templates::from([(name.to_owned(), text)]))));
        }
    }
    let path = folder.join("chat_template.jinja");
    if let Some(text) = read_if_there(&path, MAX_BYTES as u64)? {
        return Ok(Some((path, Templates::from([("default".to_owned(), text)]))));
    }
    for file in ["chat_template.json", "tokenizer_config.json"] {
        let Some((path, json)) = read_json(folder, file)? else { continue };
        let Some(field) = json.get("chat_template").filter(|field| !field.is_null()) else { continue };
        let templates = match TemplateField::deserialize(field) {
            Ok(TemplateField::One(text)) => Templates::from([("default".to_owned(), text)]),
            Ok(TemplateField::Named(list)) => list.into_iter().map(|named| (named.name, named.template)).collect(),
            Ok(TemplateField::Map(map)) => map,
            Err(_) => {
                let message =
                    format!("{}: `chat_template` is neither a text nor a list of named texts", path.display());
                return Err(Error::new(ErrorKind::InvalidData, message)
                    .with_help("download the file again, or set a template of your own"));
            }
        };
        return Ok(Some((path, templates)));
    }
    Ok(None)
}

/// The three ways in which `chat_template` is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateField {
    One(String),
    Named(Vec<Named>),
    Map(Templates),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[cfg(test)]
mod tests;

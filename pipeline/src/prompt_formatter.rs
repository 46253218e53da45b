//! From a sample to the tokens that one source reads.

use std::{collections::BTreeSet, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, TokenId};
use logitfuse_text::{ChatTemplate, Message, PromptTemplate, Tokenizer};
use serde_json::{Map, Value};

use crate::{SourceConfig, demonstrations::Demonstrations, did_you_mean};

/// One source's way of writing a prompt.
#[derive(Clone, Debug)]
pub struct PromptFormatter {
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    system: Option<PromptTemplate>,
    user: PromptTemplate,
    assistant: PromptTemplate,
    demonstrations: Demonstrations,
}

/// The chat template with the variables that the source gives it.
fn with_variables(name: &str, config: &SourceConfig, chat: Option<ChatTemplate>) -> Result<Option<ChatTemplate>> {
    let given = &config.chat_template_kwargs;
    let wrong = |key: &str, what: String, help: String| {
        let message = format!("sources.{name}.chat_template_kwargs{key}: {what}");
        Err(Error::new(ErrorKind::InvalidConfig, message).with_help(help))
    };
    let Some(mut chat) = chat else {
        if given.is_empty() {
            return Ok(None);
        }
        let help = "name a template file in `chat_template`, or take the variables away".to_owned();
        return wrong("", "the source has no chat template that could read them".to_owned(), help);
    };
    let known = chat.variables();
    for (key, value) in given {
        if OWN_VARIABLES.contains(&key.as_str()) {
            let help = "it is made of `system`, `user` and the demonstrations".to_owned();
            return wrong(&format!(".{key}"), "every prompt has its own".to_owned(), help);
        }
        if !known.contains(key) {
            let what = format!("{} reads no such variable", chat.origin());
            return wrong(&format!(".{key}"), what, known_variables(key, &known));
        }
        chat = chat.with_variable(key, value);
    }
    Ok(Some(chat))
}

/// What every prompt has of its own.
const OWN_VARIABLES: [&str; 2] = ["messages", "add_generation_prompt"];

/// What a template reads instead of a variable that it does not know.
fn known_variables(key: &str, known: &BTreeSet<String>) -> String {
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let help = format!("{} it reads {}", did_you_mean(key, names.iter().copied()), names.join(", "));
    help.trim_start().to_owned()
}

impl PromptFormatter {
    /// Reads the templates of a source; the model's own chat template lies in `tokenizer_dir`.
    pub fn new(name: &str, config: &SourceConfig, tokenizer_dir: Option<&Path>, tokenizer: &Tokenizer) -> Result<Self> {
        let chat = match config.chat_template.as_str() {
            "none" => None,
            "model" => tokenizer_dir.map(|folder| ChatTemplate::load(folder, None)).transpose()?.flatten(),
            file => Some(ChatTemplate::from_file(Path::new(file))?.with_special_tokens(tokenizer.special_tokens())),
        };
        let chat = with_variables(name, config, chat)?;
        let chat = match (chat, &config.date) {
            (Some(chat), Some(date)) => {
                Some(chat.with_date(date).map_err(|e| e.context(format!("sources.{name}.date")))?)
            }
            (chat, _) => chat,
        };
        if chat.is_none() && config.system.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("sources.{name}.system: the source has no chat template that could say it"),
            )
            .with_help("write the text into `user`, or name a template file in `chat_template`"));
        }
        let template = |key: &str, text: &str| PromptTemplate::new(&format!("sources.{name}.{key}"), text);
        let user = template("user", &config.user)?;
        let assistant = template("assistant", &config.assistant)?;
        Ok(Self {
            tokenizer: tokenizer.clone(),
            chat,
            system: config.system.as_deref().map(|text| template("system", text)).transpose()?,
            demonstrations: Demonstrations::load(name, config, &user, &assistant)?,
            user,
            assistant,
        })
    }

    /// The prompt as text: what the model reads.
    pub fn text(&self, fields: &Value) -> Result<String> {
        let user = self.user.render(fields)?;
        let mut text = match &self.chat {
            None => self.demonstrations.as_text() + &user,
            Some(chat) => {
                let mut messages = Vec::new();
                if let Some(system) = &self.system {
                    messages.push(Message::new("system", system.render(fields)?));
                }
                for shot in self.demonstrations.shots() {
                    messages.push(Message::new("user", shot.user.clone()));
                    messages.push(Message::new("assistant", shot.assistant.clone()));
                }
                messages.push(Message::new("user", user));
                chat.render(&messages, true)?
            }
        };
        text.push_str(&self.assistant.render(fields)?);
        Ok(text)
    }

    /// A conversation as the source's chat template writes it; `None` if it has none. The source's system message begins one
    /// that has none of its own. `variables` are the template's, over those of the source.
    ///
    /// # Errors
    /// Where the template fails, or reads no such variable.
    pub fn conversation(
        &self,
        messages: &[Message],
        variables: &Map<String, Value>,
        fields: &Value,
    ) -> Result<Option<String>> {
        let Some(chat) = &self.chat else { return Ok(None) };
        let known = if variables.is_empty() { BTreeSet::new() } else { chat.variables() };
        let mut chat = chat.clone();
        for (key, value) in variables {
            let own = OWN_VARIABLES.contains(&key.as_str());
            if own || !known.contains(key) {
                let why = if own { "every prompt has its own" } else { "the chat template reads no such variable" };
                return Err(Error::new(ErrorKind::InvalidConfig, format!("chat_template_kwargs.{key}: {why}"))
                    .with_help(known_variables(key, &known)));
            }
            chat = chat.with_variable(key, value);
        }
        match &self.system {
            Some(system) if messages.first().is_none_or(|first| first.role != "system") => {
                let system = Message::new("system", system.render(fields)?);
                let messages: Vec<Message> = std::iter::once(system).chain(messages.iter().cloned()).collect();
                chat.render(&messages, true).map(Some)
            }
            _ => chat.render(messages, true).map(Some),
        }
    }

    /// The prompt as tokens. A chat template writes its own special tokens; plain text gets the tokenizer's.
    pub fn tokens(&self, fields: &Value) -> Result<Vec<TokenId>> {
        self.encode(&self.text(fields)?)
    }

    /// Whether a chat template writes the prompt.
    pub fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// Whether the prompt ends where an answer begins: with what a chat template writes before it, or with white space after it
    /// was begun.
    ///
    /// # Errors
    /// Where a template fails on these fields.
    pub fn awaits_answer(&self, fields: &Value) -> Result<bool> {
        let begun = self.assistant.render(fields)?;
        Ok(self.chat.is_some() && (begun.is_empty() || begun.ends_with(char::is_whitespace)))
    }

    /// A text that this source's templates wrote, or the beginning of one, as tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        self.tokenizer.encode(text, self.chat.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A folder with a tokenizer whose special tokens have names, and a template in a file of its own.
    fn folder(template: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("the test's folder is writable");
        };
        write("tokenizer.json", r#"{"model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0}}}"#);
        write("tokenizer_config.json", r#"{"bos_token": "<s>", "eos_token": "</s>"}"#);
        write("own.jinja", template);
        folder
    }

    fn formatter(template: &str, change: impl FnOnce(&mut SourceConfig)) -> Result<PromptFormatter> {
        let folder = folder(template);
        let mut config = SourceConfig::new("m");
        config.chat_template = folder.path().join("own.jinja").display().to_string();
        change(&mut config);
        let tokenizer = Tokenizer::load(folder.path())?;
        PromptFormatter::new("x", &config, Some(folder.path()), &tokenizer)
    }

    fn prompt(template: &str, change: impl FnOnce(&mut SourceConfig)) -> String {
        let formatter = formatter(template, change).expect("a sound source");
        formatter.text(&json!({ "prompt": "Hi" })).expect("a sound prompt")
    }

    const THINKING: &str =
        "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}{{ messages[0].content }}";

    #[test]
    fn a_template_of_its_own_knows_the_names_of_special_tokens() {
        assert_eq!(prompt("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", |_| {}), "<s>Hi</s>");
        assert_eq!(prompt("{{ bos_token }}", |config| config.chat_template = "none".to_owned()), "Hi");
    }

    #[test]
    fn variables_reach_the_template() {
        assert_eq!(prompt(THINKING, |_| {}), "Hi");
        let with = |value: Value| {
            move |config: &mut SourceConfig| {
                config.chat_template_kwargs.insert("enable_thinking".to_owned(), value);
            }
        };
        assert_eq!(prompt(THINKING, with(json!(false))), "<no>Hi");
        assert_eq!(prompt(THINKING, with(json!(true))), "Hi");
        assert_eq!(prompt("{{ enable_thinking | tojson }}", with(json!({"a": [1, "b"]}))), r#"{"a": [1, "b"]}"#);
    }

    #[test]
    fn a_variable_without_effect_is_an_error() {
        let refused = |template: &str, name: &str, chat: Option<&str>| {
            let e = formatter(template, |config| {
                config.chat_template_kwargs.insert(name.to_owned(), json!(1));
                if let Some(chat) = chat {
                    config.chat_template = chat.to_owned();
                }
            });
            let e = e.expect_err("it is wrong");
            (e.to_string(), e.help().unwrap_or_default().to_owned())
        };
        let (message, help) = refused(THINKING, "enable_thinkin", None);
        assert!(message.starts_with("sources.x.chat_template_kwargs.enable_thinkin: "), "{message}");
        assert!(message.ends_with("own.jinja reads no such variable"), "{message}");
        assert_eq!(help, "did you mean `enable_thinking`? it reads enable_thinking, messages");
        let (message, _) = refused(THINKING, "messages", None);
        assert_eq!(message, "sources.x.chat_template_kwargs.messages: every prompt has its own");
        let (message, _) = refused(THINKING, "enable_thinking", Some("none"));
        assert_eq!(message, "sources.x.chat_template_kwargs: the source has no chat template that could read them");
    }

    #[test]
    fn line_ends_of_the_texts_are_one_kind() {
        let text = prompt("{{ messages[0].content }}", |config| {
            config.user = "a\r\nb\rc {{ prompt }}".to_owned();
            config.assistant = "\r\nA:".to_owned();
        });
        assert_eq!(text, "a\nb\nc Hi\nA:");
    }
}

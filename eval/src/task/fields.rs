//! From an item's fields to what is asked and what is right.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_text::PromptTemplate;
use serde_json::{Map, Value};

use logitfuse_config::{Choices, OutputType, TaskConfig};

/// The templates of a task.
#[derive(Clone, Debug)]
pub(crate) struct Templates {
    description: Option<PromptTemplate>,
    prompt: Option<PromptTemplate>,
    target: Option<Written>,
    choices: Option<ChoiceTemplates>,
}

/// The name of a field, or a template.
#[derive(Clone, Debug)]
struct Written {
    text: String,
    template: PromptTemplate,
}

#[derive(Clone, Debug)]
enum ChoiceTemplates {
    Each(Vec<PromptTemplate>),
    List(Box<Written>),
}

/// What is right about an item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Texts, of which one is enough.
    Texts(Vec<String>),
    /// Choices by index, of which one is enough.
    Choices(Vec<usize>),
}

impl Templates {
    pub(crate) fn compile(config: &TaskConfig) -> Result<Self> {
        let written = |key: &str, text: &String| {
            Ok::<_, Error>(Written { text: text.clone(), template: PromptTemplate::new(key, text)? })
        };
        let choices = match &config.choices {
            None => None,
            Some(Choices::Field(text)) => Some(ChoiceTemplates::List(Box::new(written("choices", text)?))),
            Some(Choices::Templates(texts)) => {
                let each =
                    texts.iter().enumerate().map(|(i, text)| PromptTemplate::new(&format!("choices[{i}]"), text));
                Some(ChoiceTemplates::Each(each.collect::<Result<_>>()?))
            }
        };
        let missing = |key: &str, what: &str| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("{key}: missing")).with_help(what.to_owned()))
        };
        if config.target.is_none() {
            return missing("target", "say what is right: a field's name, or a template such as \"{{ answer }}\"");
        }
        if config.output_type == OutputType::MultipleChoice && choices.is_none() {
            return missing("choices", "list them as templates, or name the field that holds the list");
        }
        Ok(Self {
            description: config
                .description
                .as_ref()
                .map(|text| PromptTemplate::new("description", text))
                .transpose()?,
            prompt: config.prompt.as_ref().map(|text| PromptTemplate::new("prompt", text)).transpose()?,
            target: config.target.as_ref().map(|text| written("target", text)).transpose()?,
            choices,
        })
    }

    /// What stands before everything else.
    pub(crate) fn description(&self, fields: &Map<String, Value>) -> Result<String> {
        let render = |template: &PromptTemplate| template.render(&Value::Object(fields.clone()));
        Ok(self.description.as_ref().map(render).transpose()?.unwrap_or_default())
    }

    /// The question: the template's text, else the item's field `prompt`, if it has one.
    pub(crate) fn question(&self, fields: &Map<String, Value>) -> Result<Option<String>> {
        match &self.prompt {
            Some(template) => template.render(&Value::Object(fields.clone())).map(Some),
            None => Ok(fields.get("prompt").map(text_of)),
        }
    }

    /// The choices, if the task has any.
    pub(crate) fn choices(&self, fields: &Map<String, Value>) -> Result<Vec<String>> {
        let list = match &self.choices {
            None => return Ok(Vec::new()),
            Some(ChoiceTemplates::Each(each)) => {
                let fields = Value::Object(fields.clone());
                return each.iter().map(|template| template.render(&fields)).collect();
            }
            Some(ChoiceTemplates::List(written)) => written.value(fields)?,
        };
        let list = match list {
            Value::Array(list) => list,
            Value::Object(map) => map.into_iter().map(|(_, choice)| choice).collect(),
            other => {
                return Err(wrong(format!("choices: {other} is no list"), "name a field that holds a list of texts"));
            }
        };
        Ok(list.iter().map(text_of).collect())
    }

    /// What is right. With choices a number, or a text of digits, is the index of one.
    pub(crate) fn target(&self, fields: &Map<String, Value>, choices: &[String]) -> Result<Target> {
        let Some(written) = &self.target else { return Ok(Target::Texts(Vec::new())) };
        let several = match written.value(fields)? {
            Value::Array(several) => several,
            // A template around a list gives a text; lm-eval reads it as a list again.
            Value::String(text) if text.starts_with('[') && text.ends_with(']') => match serde_json::from_str(&text) {
                Ok(Value::Array(several)) => several,
                _ => vec![Value::String(text)],
            },
            one => vec![one],
        };
        if choices.is_empty() {
            return Ok(Target::Texts(several.iter().map(text_of).collect()));
        }
        let by_text = written.is_field(fields);
        several.iter().map(|one| index_of(one, choices, by_text)).collect::<Result<_>>().map(Target::Choices)
    }
}

impl Written {
    fn is_field(&self, fields: &Map<String, Value>) -> bool {
        fields.contains_key(self.text.trim())
    }

    fn value(&self, fields: &Map<String, Value>) -> Result<Value> {
        match fields.get(self.text.trim()) {
            Some(value) => Ok(value.clone()),
            None => self.template.value(&Value::Object(fields.clone())),
        }
    }
}

/// Which choice is meant: by its index, or by its text. As in lm-eval, a text of digits is an index if a template wrote it,
/// and a choice's text if a field holds it (`by_text`).
fn index_of(value: &Value, choices: &[String], by_text: bool) -> Result<usize> {
    let index = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if by_text && choices.contains(text) => {
            return Ok(choices.iter().position(|choice| choice == text).unwrap_or_default());
        }
        Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Value::String(text) => {
            return choices.iter().position(|choice| choice == text).ok_or_else(|| {
                wrong(
                    format!("target: {text:?} is not one of the choices {choices:?}"),
                    "a target is an index or a choice's text",
                )
            });
        }
        _ => None,
    };
    let index = index.and_then(|index| usize::try_from(index).ok()).filter(|&index| index < choices.len());
    index.ok_or_else(|| {
        let last = choices.len().saturating_sub(1);
        wrong(format!("target: {value} is not the index of a choice"), &format!("indices are 0 to {last}"))
    })
}

fn wrong(what: String, help: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what).with_help(help)
}

/// A field as text: texts as they are, anything else as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Target {
    /// The texts that a generation is compared with: with choices, theirs.
    pub(crate) fn texts(&self, choices: &[String]) -> Vec<String> {
        match self {
            Self::Texts(texts) => texts.clone(),
            Self::Choices(indices) => indices.iter().map(|&i| choices[i].clone()).collect(),
        }
    }

    /// The choices that are right.
    pub(crate) fn indices(&self) -> &[usize] {
        match self {
            Self::Texts(_) => &[],
            Self::Choices(indices) => indices,
        }
    }
}

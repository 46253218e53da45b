//! From an item's fields to what is asked and what is right.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_text::{PromptTemplate, nearest, python_str};
use serde_json::{Map, Value};

use logitfuse_config::{Choices, OutputType, TaskConfig};

/// Fields that a message lists at most.
const LISTED: usize = 20;

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
enum Written {
    Field { key: &'static str, name: String },
    Template(Box<PromptTemplate>),
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
    /// `items` are those that will be asked, and what they are shown.
    pub(crate) fn compile(config: &TaskConfig, items: &[&Map<String, Value>]) -> Result<Self> {
        let choices = match &config.choices {
            None => None,
            Some(Choices::Field(text)) => {
                Some(ChoiceTemplates::List(Box::new(Written::new("choices", text, items, |_| false)?)))
            }
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
        if let Some(name) =
            config.prompt.as_deref().map(str::trim).filter(|name| items.iter().any(|i| i.contains_key(*name)))
        {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("prompt: `{name}` is the name of a field, and would be shown as this word"),
            )
            .with_help(format!("write `{{{{ {name} }}}}` for what the field holds")));
        }
        let mut templates = Self {
            description: config
                .description
                .as_ref()
                .map(|text| PromptTemplate::new("description", text))
                .transpose()?,
            prompt: config.prompt.as_ref().map(|text| PromptTemplate::new("prompt", text)).transpose()?,
            target: None,
            choices,
        };
        // A word may be the text of a choice that every item has.
        let first = items.first().map(|fields| templates.choices(fields)).transpose()?;
        let is_choice = |text: &str| {
            let first = first.as_deref().unwrap_or_default();
            !first.is_empty() && (is_index(text) || text.starts_with('[') || first.iter().any(|choice| choice == text))
        };
        templates.target =
            config.target.as_ref().map(|text| Written::new("target", text, items, is_choice)).transpose()?;
        Ok(templates)
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
            None => Ok(fields.get("prompt").map(python_str)),
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
        Ok(list.iter().map(python_str).collect())
    }

    /// What is right. With choices a number, or a text of digits, is the index of one.
    pub(crate) fn target(&self, fields: &Map<String, Value>, choices: &[String]) -> Result<Target> {
        let Some(written) = &self.target else { return Ok(Target::Texts(Vec::new())) };
        let by_text = matches!(written, Written::Field { .. });
        let several = match written.value(fields)? {
            Value::Array(several) => several,
            one if by_text => vec![one],
            // A template around a list gives a text; lm-eval reads it as a list again.
            Value::String(text) if text.starts_with('[') && text.ends_with(']') => match serde_json::from_str(&text) {
                Ok(Value::Array(several)) => several,
                _ => vec![Value::String(text)],
            },
            // What a template gives is a text to lm-eval, and one of digits alone is an index.
            one @ Value::Number(_) if one.is_u64() => vec![one],
            one => vec![Value::String(python_str(&one))],
        };
        if choices.is_empty() {
            return Ok(Target::Texts(several.iter().map(python_str).collect()));
        }
        several.iter().map(|one| index_of(one, choices, by_text)).collect::<Result<_>>().map(Target::Choices)
    }
}

impl Written {
    /// A text with templates in it, or the name of a field that all of `items` have. Anything else is a mistake, unless it is
    /// `known` to be none: a mistyped name must not become a text that no answer is equal to.
    fn new(
        key: &'static str,
        text: &str,
        items: &[&Map<String, Value>],
        known: impl FnOnce(&str) -> bool,
    ) -> Result<Self> {
        let name = text.trim();
        if items.iter().any(|item| item.contains_key(name)) {
            let lacking = items.iter().position(|item| !item.contains_key(name));
            return match lacking {
                None => Ok(Self::Field { key, name: name.to_owned() }),
                Some(place) => Err(no_field(key, name, items[place], &format!("item {} has", place + 1))),
            };
        }
        if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) || known(name) {
            return PromptTemplate::new(key, text).map(Box::new).map(Self::Template);
        }
        let none = Map::new();
        let mut e = no_field(key, name, items.first().copied().unwrap_or(&none), "there are");
        if let (true, Some(help)) = (key == "target", e.help()) {
            let literal =
                format!("{help}; a text that is the same for all items is written `{{{{ {} }}}}`", quoted(text));
            e = e.with_help(literal);
        }
        Err(e)
    }

    fn value(&self, fields: &Map<String, Value>) -> Result<Value> {
        match self {
            Self::Field { key, name } => {
                fields.get(name).cloned().ok_or_else(|| no_field(key, name, fields, "this item has"))
            }
            Self::Template(template) => template.value(&Value::Object(fields.clone())),
        }
    }
}

/// A text as a template writes it.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\r', "\\r");
    format!("'{escaped}'")
}

fn no_field(key: &str, name: &str, fields: &Map<String, Value>, there_are: &str) -> Error {
    let near = nearest(name, fields.keys().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let names: Vec<String> = fields.keys().take(LISTED).map(|name| format!("`{name}`")).collect();
    let more = if fields.len() > LISTED { ", …" } else { "" };
    let kind = if there_are == "there are" { ErrorKind::InvalidConfig } else { ErrorKind::InvalidData };
    Error::new(kind, format!("{key}: there is no field `{name}`"))
        .with_help(format!("{near}{there_are} {}{more}", names.join(", ")))
}

fn is_index(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Which choice is meant: by its index, or by its text. As in lm-eval, a text of digits is an index if a template wrote it,
/// and a choice's text if a field holds it (`by_text`).
fn index_of(value: &Value, choices: &[String], by_text: bool) -> Result<usize> {
    let index = match value {
        // To Python, `True` is 1, and 1.0 is equal to it.
        Value::Bool(right) => Some(u64::from(*right)),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number from 0 on")]
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.as_f64().filter(|x| x.fract() == 0.0 && (0.0..1e9).contains(x)).map(|x| x as u64)),
        Value::String(text) if by_text && choices.contains(text) => {
            return Ok(choices.iter().position(|choice| choice == text).unwrap_or_default());
        }
        Value::String(text) if is_index(text) => text.parse().ok(),
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

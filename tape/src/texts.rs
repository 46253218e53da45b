//! Which texts a tape is made along.

use std::{fmt, str::FromStr};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_text::PromptTemplate;
use serde_json::Value;

use logitfuse_pipeline::Sample;

/// Where the texts come from that sources are fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A field of every sample that has it.
    Field(String),
    /// A Jinja text over a sample's fields; `choice` is the choice where there are choices.
    Template(String),
    /// What the experiment's own strategy generates.
    Generated,
}

impl Reference {
    /// A template; the name of a field; or the word `generated`.
    fn parse(text: &str) -> Self {
        match text {
            "generated" => Self::Generated,
            _ if text.contains("{{") || text.contains("{%") => Self::Template(text.to_owned()),
            field => Self::Field(field.to_owned()),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(text) | Self::Template(text) => f.write_str(text),
            Self::Generated => f.write_str("generated"),
        }
    }
}

/// A text that sources will be fed after their prompts.
pub(super) struct Text {
    /// Which choice it is, where there are choices, and whether it is the right one.
    pub(super) choice: Option<(usize, bool)>,
    pub(super) written: String,
    /// Characters that `acc_norm` divides by: those of a choice without what the template put around it.
    pub(super) characters: usize,
}

/// How the texts of samples are found.
pub(super) struct Texts {
    template: Option<PromptTemplate>,
    field: Option<String>,
    choices: Option<String>,
    gold: Option<String>,
}

impl Texts {
    pub(super) fn new(reference: &Reference, choices: Option<&str>, gold: Option<&str>) -> Result<Self> {
        let (template, field) = match reference {
            Reference::Template(text) => (Some(PromptTemplate::new("--reference", text)?), None),
            Reference::Field(field) => (None, Some(field.clone())),
            Reference::Generated if choices.is_some() => {
                return Err(Error::new(ErrorKind::InvalidConfig, "--choices: generated texts have no choices")
                    .with_help("leave --choices out, or write the choices' text into --reference"));
            }
            Reference::Generated => (None, None),
        };
        Ok(Self { template, field, choices: choices.map(str::to_owned), gold: gold.map(str::to_owned) })
    }

    /// The texts of a sample; none if it lacks the field that they come from.
    pub(super) fn of(&self, sample: &Sample) -> Result<Vec<Text>> {
        let wrong = |what: String, help: &str| {
            Err(Error::new(ErrorKind::InvalidData, format!("sample `{}`: {what}", sample.id)).with_help(help))
        };
        let Some(field) = &self.choices else {
            let text = match (&self.template, &self.field) {
                (Some(template), _) => template.render(&sample.fields)?,
                (None, Some(field)) => match &sample.fields[field.as_str()] {
                    Value::Null => return Ok(Vec::new()),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
                (None, None) => return Ok(Vec::new()),
            };
            return Ok(vec![Text { choice: None, characters: text.chars().count(), written: text }]);
        };
        let choices = match &sample.fields[field.as_str()] {
            Value::Array(choices) if !choices.is_empty() => choices,
            Value::Null | Value::Array(_) => return Ok(Vec::new()),
            _ => return wrong(format!("field `{field}` is no list of choices"), "--choices names a field with a list"),
        };
        let choices: Vec<String> = choices.iter().map(plain).collect();
        let gold = match &self.gold {
            None => None,
            Some(gold) => {
                let value = &sample.fields[gold.as_str()];
                let place = value.as_u64().and_then(|index| usize::try_from(index).ok());
                let place = place.or_else(|| choices.iter().position(|choice| *choice == plain(value)));
                if place.is_none_or(|place| place >= choices.len()) {
                    return wrong(
                        format!("field `{gold}` is none of its {} choices", choices.len()),
                        "--gold names a field that holds the right choice, or its number from 0",
                    );
                }
                place
            }
        };
        let text = |(number, choice): (usize, &String)| {
            let text = match &self.template {
                None => format!(" {choice}"),
                Some(template) => {
                    let mut fields = sample.fields.clone();
                    fields["choice"] = Value::String(choice.clone());
                    template.render(&fields)?
                }
            };
            Ok(Text { choice: Some((number, gold == Some(number))), written: text, characters: choice.chars().count() })
        };
        choices.iter().enumerate().map(text).collect()
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

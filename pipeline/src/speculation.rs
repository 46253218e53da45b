//! `[speculation]`: who drafts, how much, and what that costs on this machine.

use std::{borrow::Cow, fmt};

use logitfuse_core::{Error, ErrorKind, Result, RoundCosts};
use logitfuse_engine::{Draft, DraftCosts, DraftLength, Speculation};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    ThreadPlan,
    costs::{LONGEST, by_size},
};

/// `[speculation]`: whether tokens are drafted. What is generated does not depend on it, except that a sampled text is
/// another draw of the same distribution.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeculationConfig {
    /// Who drafts: a role, a source that plays none, or `prompt_lookup`.
    #[serde(default = "default_draft")]
    pub draft: String,
    /// Tokens per draft: a number, or `auto` for as many as pay on this machine, none if none do.
    #[serde(default)]
    pub tokens: DraftTokens,
}

fn default_draft() -> String {
    "expert".to_owned()
}

impl Default for SpeculationConfig {
    fn default() -> Self {
        Self { draft: default_draft(), tokens: DraftTokens::Auto }
    }
}

/// A number, or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DraftTokens {
    /// As many as pay.
    #[default]
    Auto,
    /// Always this many.
    Fixed(usize),
}

impl fmt::Display for DraftTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(tokens) => write!(f, "{tokens}"),
        }
    }
}

impl Serialize for DraftTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Fixed(tokens) => serializer.serialize_u64(*tokens as u64),
        }
    }
}

impl<'de> Deserialize<'de> for DraftTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would lose the position of what is wrong.
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = DraftTokens;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"auto\" or a number from 1 to 64")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DraftTokens, E> {
                if text == "auto" {
                    Ok(DraftTokens::Auto)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<DraftTokens, E> {
                match usize::try_from(tokens) {
                    Ok(tokens @ 1..=64) => Ok(DraftTokens::Fixed(tokens)),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(tokens), &self)),
                }
            }
            fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<DraftTokens, E> {
                self.visit_i64(i64::try_from(tokens).unwrap_or(i64::MAX))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for DraftTokens {
    fn schema_name() -> Cow<'static, str> {
        "DraftTokens".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or `auto`.",
            "anyOf": [{ "enum": ["auto"] }, { "type": "integer", "minimum": 1, "maximum": 64 }],
        })
    }
}

/// A fusion's settings. Greedy decoding chooses the same tokens whatever is drafted, so `auto` may go by `timed` rounds;
/// sampling would draw other numbers, so there it goes by `weights`, the bytes that each model reads per step.
pub(crate) fn settings(
    config: &SpeculationConfig,
    drafter: Drafter,
    timed: Option<&RoundCosts>,
    plan: &ThreadPlan,
    weights: &[u64],
) -> Speculation {
    let length = match config.tokens {
        DraftTokens::Fixed(tokens) => DraftLength::Fixed(tokens),
        DraftTokens::Auto => DraftLength::Adaptive(match timed {
            // What a token costs by itself is the same for every length.
            Some(timed) => DraftCosts { draft: 0.0, verify: timed.round_seconds.clone() },
            None => by_size(plan, weights).drafts(drafter.model()),
        }),
    };
    Speculation { draft: drafter.draft(), length }
}

impl SpeculationConfig {
    /// Whether a clock decides how much is drafted.
    pub(crate) fn is_timed(&self, temperature: f64) -> bool {
        self.tokens == DraftTokens::Auto && temperature == 0.0
    }

    /// The longest draft.
    pub(crate) fn longest(&self) -> usize {
        match self.tokens {
            DraftTokens::Auto => LONGEST,
            DraftTokens::Fixed(tokens) => tokens,
        }
    }
}

/// Who drafts, in terms of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drafter {
    Binding { binding: usize, model: usize },
    Extra { model: usize },
    Lookup,
}

impl Drafter {
    /// The model that runs for a draft.
    pub(crate) fn model(self) -> Option<usize> {
        match self {
            Self::Binding { model, .. } | Self::Extra { model } => Some(model),
            Self::Lookup => None,
        }
    }

    pub(crate) fn draft(self) -> Draft {
        match self {
            Self::Binding { binding, .. } => Draft::Binding(binding),
            Self::Extra { model } => Draft::Source(model),
            Self::Lookup => Draft::PromptLookup { longest: 4 },
        }
    }
}

/// Finds who drafts: a role's first source, `prompt_lookup`, or a source without role.
pub(crate) fn drafter(
    config: &SpeculationConfig,
    roles: &[(String, String)],
    sources: &[String],
    model_of: impl Fn(&str) -> Option<usize>,
) -> Result<Drafter> {
    if config.draft == "prompt_lookup" {
        return Ok(Drafter::Lookup);
    }
    if let Some((binding, (_, source))) = roles.iter().enumerate().find(|(_, (role, _))| *role == config.draft)
        && let Some(model) = model_of(source)
    {
        return Ok(Drafter::Binding { binding, model });
    }
    if let Some(model) = sources.contains(&config.draft).then(|| model_of(&config.draft)).flatten() {
        return Ok(Drafter::Extra { model });
    }
    let mut known: Vec<&str> = roles.iter().map(|(role, _)| role.as_str()).collect();
    known.extend(sources.iter().map(String::as_str));
    known.push("prompt_lookup");
    known.dedup();
    Err(Error::new(
        ErrorKind::InvalidConfig,
        format!("speculation.draft: there is no role or source `{}`", config.draft),
    )
    .with_help(format!("a role or a source drafts, or prompt_lookup; there are {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drafter_is_a_role_or_a_source_or_a_lookup() {
        let roles = [("base".to_owned(), "large".to_owned()), ("expert".to_owned(), "small".to_owned())];
        let sources = ["large", "small", "tiny"].map(str::to_owned);
        let find = |draft: &str| {
            let config = SpeculationConfig { draft: draft.to_owned(), ..SpeculationConfig::default() };
            drafter(&config, &roles, &sources, |name| sources.iter().position(|source| source == name))
        };
        assert_eq!(find("expert").unwrap(), Drafter::Binding { binding: 1, model: 1 });
        assert_eq!(find("tiny").unwrap(), Drafter::Extra { model: 2 });
        assert_eq!(find("prompt_lookup").unwrap(), Drafter::Lookup);
        assert_eq!(find("exprt").unwrap_err().to_string(), "speculation.draft: there is no role or source `exprt`");
    }

    #[test]
    fn tokens_are_auto_or_a_number() {
        let parse = |text: &str| toml::from_str::<SpeculationConfig>(text);
        assert_eq!(parse("").unwrap(), SpeculationConfig::default());
        assert_eq!(parse("tokens = 3").unwrap().tokens, DraftTokens::Fixed(3));
        assert!(parse("tokens = 0").unwrap_err().to_string().contains("\"auto\" or a number from 1 to 64"));
        assert!(parse("tokens = \"many\"").is_err());
    }
}

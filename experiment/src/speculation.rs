//! `[speculation]`: who drafts, how much, and what that costs on this machine.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, Instant},
};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, Step, TokenId};
use logitfuse_engine::{Draft, DraftCosts, DraftLength, Speculation};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Plan;

/// The longest draft that is considered.
const LONGEST: usize = 8;
/// Tokens in the cache while a source is timed.
const CONTEXT: usize = 64;
/// The best of so many timings counts: whatever else the machine does only adds.
const TRIES: usize = 3;

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

/// What each model's `forward` takes on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    /// `of[model][rows - 1]`: appending `rows` tokens to a context of 64 and yielding all their rows.
    pub(crate) of: Vec<Vec<Duration>>,
    /// How the models share the cores.
    pub(crate) plan: Plan,
}

impl Costs {
    /// What drafting costs if `drafter` drafts (`None`: nobody has to run for it), in seconds.
    fn drafts(&self, drafter: Option<usize>) -> DraftCosts {
        let seconds = |model: usize, rows: usize| self.of[model][rows - 1].as_secs_f64();
        let round = |tokens: usize| {
            let in_wave = |wave: &Vec<usize>| {
                // What the drafter did not draft from is the last token alone.
                let rows = |model: usize| if drafter == Some(model) && tokens > 0 { 1 } else { tokens + 1 };
                wave.iter().map(|&model| seconds(model, rows(model))).fold(0.0, f64::max)
            };
            self.plan.waves.iter().map(in_wave).sum()
        };
        let longest = self.of.iter().map(Vec::len).min().unwrap_or(1) - 1;
        DraftCosts { draft: drafter.map_or(0.0, |model| seconds(model, 1)), verify: (0..=longest).map(round).collect() }
    }
}

/// Times one model: one token to nine at once, the best of a few tries each.
pub(crate) fn time(source: &mut dyn LogitSource) -> Result<Vec<Duration>> {
    let sequence = source.open()?;
    let timed = time_sequence(source, sequence);
    source.close(sequence);
    timed
}

fn time_sequence(source: &mut dyn LogitSource, sequence: logitfuse_core::SequenceId) -> Result<Vec<Duration>> {
    let tokens: Vec<TokenId> = vec![0; CONTEXT + LONGEST + 1];
    let mut rows = Rows::new();
    source.reserve(sequence, tokens.len())?;
    source.forward(&[Step { sequence, tokens: &tokens[..CONTEXT], rows: 0 }], &mut rows)?;
    let mut times = Vec::new();
    for count in 1..=LONGEST + 1 {
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            let start = Instant::now();
            source.forward(&[Step { sequence, tokens: &tokens[..count], rows: count }], &mut rows)?;
            best = best.min(start.elapsed());
            source.truncate(sequence, CONTEXT)?;
        }
        times.push(best);
    }
    Ok(times)
}

/// The engine's settings. Greedy decoding chooses the same tokens whatever is drafted, so `auto` may ask the clock; sampling would draw other
/// numbers, so there it goes by `weights`, the bytes that each model reads per step.
pub(crate) fn settings(
    config: &SpeculationConfig,
    drafter: Drafter,
    costs: Option<&Costs>,
    plan: &Plan,
    weights: &[u64],
) -> Speculation {
    let (draft, model) = match drafter {
        Drafter::Binding { binding, model } => (Draft::Binding(binding), Some(model)),
        Drafter::Extra { model } => (Draft::Source(model), Some(model)),
        Drafter::Lookup => (Draft::PromptLookup { longest: 4 }, None),
    };
    let length = match config.tokens {
        DraftTokens::Fixed(tokens) => DraftLength::Fixed(tokens),
        DraftTokens::Auto => DraftLength::Adaptive(match costs {
            Some(costs) => costs.drafts(model),
            None => by_size(plan, weights).drafts(model),
        }),
    };
    Speculation { draft, length }
}

/// Who drafts, in terms of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drafter {
    Binding { binding: usize, model: usize },
    Extra { model: usize },
    Lookup,
}

/// A guess from the weights alone: a step reads them once, and each further row adds a little.
fn by_size(plan: &Plan, weights: &[u64]) -> Costs {
    let step = |&bytes: &u64| {
        (0..=LONGEST).map(|extra| Duration::from_nanos(bytes.max(1)).mul_f64(1.0 + 0.15 * extra as f64)).collect()
    };
    Costs { of: weights.iter().map(step).collect(), plan: plan.clone() }
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
    Err(Error::new(ErrorKind::InvalidConfig, format!("speculation.draft: nobody is called `{}`", config.draft))
        .with_help(format!("a role or a source drafts, or prompt_lookup; there are {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use logitfuse_replay::SyntheticSource;

    use super::*;

    fn costs() -> Costs {
        let of = |ms: [u64; 3]| ms.map(Duration::from_millis).to_vec();
        Costs {
            of: vec![of([100, 110, 120]), of([10, 11, 12]), of([10, 12, 14])],
            plan: Plan { threads: vec![2, 1, 1], waves: vec![vec![0], vec![1, 2]] },
        }
    }

    #[test]
    fn a_round_is_its_waves() {
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        let drafts = costs().drafts(Some(1));
        assert!(close(&[drafts.draft], &[0.010]) && close(&drafts.verify, &[0.110, 0.122, 0.134]), "{drafts:?}");
        let lookup = costs().drafts(None);
        assert!(close(&[lookup.draft], &[0.0]) && close(&lookup.verify, &[0.110, 0.122, 0.134]), "{lookup:?}");
    }

    #[test]
    fn a_source_is_as_it_was_after_it_was_timed() {
        let mut source = SyntheticSource::new("toy", 32, 1);
        assert_eq!(time(&mut source).unwrap().len(), LONGEST + 1);
        let fresh = source.open().unwrap();
        assert_eq!(source.len(fresh), Some(0));
    }

    #[test]
    fn a_drafter_is_a_role_or_a_source_or_nobody() {
        let roles = [("base".to_owned(), "large".to_owned()), ("expert".to_owned(), "small".to_owned())];
        let sources = ["large", "small", "tiny"].map(str::to_owned);
        let find = |draft: &str| {
            let config = SpeculationConfig { draft: draft.to_owned(), ..SpeculationConfig::default() };
            drafter(&config, &roles, &sources, |name| sources.iter().position(|source| source == name))
        };
        assert_eq!(find("expert").unwrap(), Drafter::Binding { binding: 1, model: 1 });
        assert_eq!(find("tiny").unwrap(), Drafter::Extra { model: 2 });
        assert_eq!(find("prompt_lookup").unwrap(), Drafter::Lookup);
        assert_eq!(find("exprt").unwrap_err().to_string(), "speculation.draft: nobody is called `exprt`");
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

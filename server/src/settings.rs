//! How a request wants its tokens chosen, and what else the routes that generate have in common.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use logitfuse::{Fusion, RunConfig, Sampling};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::{error::ApiError, models::ServedModel, options::Limits, prompt::Texts};

/// What may be asked of the fusion itself: an extension of OpenAI's requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FusionRequest {
    /// Parameters of the strategy that differ from the model's, checked by the strategy's schema, which `/v1/models` shows.
    pub(crate) parameters: Map<String, Value>,
    /// Whether every token comes with what the strategy reports of it: α, divergences.
    pub(crate) trace: bool,
    /// So many of the most probable tokens of every source come with every token.
    pub(crate) top_choices: usize,
    /// Fields of the sources' own prompt templates, such as the passage that one of them reads: each source's prompt is then
    /// written by its template, with the request's prompt as the field `prompt`.
    pub(crate) fields: Map<String, Value>,
}

/// What comes with a stream.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StreamOptions {
    /// Whether the last event tells how many tokens there were.
    pub(crate) include_usage: bool,
    /// Accepted, without effect: nothing here is padded.
    #[serde(rename = "include_obfuscation")]
    pub(crate) _include_obfuscation: Option<bool>,
}

/// How tokens are chosen, as requests of all routes say it. What is absent is as the experiment has it.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u64>,
    pub(crate) min_p: Option<f64>,
    pub(crate) repetition_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) logit_bias: Option<Biases>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<Texts>,
    pub(crate) ignore_eos: Option<bool>,
    pub(crate) n: Option<u64>,
    /// Most probable tokens to list for every position.
    pub(crate) top_logprobs: u64,
    pub(crate) fusion: FusionRequest,
}

/// Numbers that are added to logits, by token id; a token that is there twice is refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Biases(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Biases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Biases;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers by token id")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Biases, A::Error> {
                let mut biases = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    biases.push(entry);
                }
                Ok(Biases(biases))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl JsonSchema for Biases {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LogitBias".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BTreeMap::<String, f64>::json_schema(generator)
    }
}

/// What every sequence of a request has in common.
pub(crate) struct Plan {
    pub(crate) fusion: Fusion,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
    pub(crate) stop: Vec<String>,
    pub(crate) ignore_eos: bool,
    pub(crate) n: usize,
    pub(crate) top_logprobs: usize,
    pub(crate) trace: bool,
    pub(crate) top_choices: usize,
}

impl Plan {
    /// How many of the most probable tokens the engine lists.
    pub(crate) fn listed(&self) -> usize {
        self.top_logprobs.max(self.top_choices)
    }

    /// How choice `i` of a prompt is sampled: with the request's seed plus `i`, as sample `i` of an experiment is.
    pub(crate) fn sampling_of(&self, choice: usize) -> Sampling {
        Sampling { seed: self.sampling.seed.wrapping_add(choice as u64), ..self.sampling.clone() }
    }
}

impl Settings {
    /// Checks everything against the limits and the strategy's schema, and fills in what the experiment says.
    pub(crate) fn plan(&self, model: &ServedModel, limits: &Limits) -> Result<Plan, ApiError> {
        let run = model.pipeline.run();
        let max_tokens = bounded("max_tokens", self.max_tokens, limits.max_tokens)?
            .unwrap_or(run.max_new_tokens.min(limits.max_tokens));
        let n = bounded("n", self.n, limits.choices)?.unwrap_or(1);
        if n == 0 {
            return Err(ApiError::invalid("n", "n: there is nothing to answer; ask for 1 choice or more"));
        }
        let top_logprobs = bounded("top_logprobs", Some(self.top_logprobs), limits.top_logprobs)?.unwrap_or(0);
        let top_choices =
            bounded("fusion.top_choices", Some(self.fusion.top_choices as u64), limits.top_logprobs)?.unwrap_or(0);
        let stop = self.stops(run, limits)?;
        let sampling = self.sampling(model, run, limits)?;
        let changed = model.pipeline.fusion_with_parameters(&self.fusion.parameters);
        let fusion = changed.map_err(|error| parameter_error(&error))?;
        Ok(Plan {
            fusion,
            sampling,
            max_tokens,
            stop,
            ignore_eos: self.ignore_eos.unwrap_or(run.ignore_end_of_sequence),
            n,
            top_logprobs,
            trace: self.fusion.trace,
            top_choices,
        })
    }

    fn stops(&self, run: &RunConfig, limits: &Limits) -> Result<Vec<String>, ApiError> {
        const LONGEST: usize = 1024;
        let Some(Texts(stop)) = &self.stop else { return Ok(run.stop.clone()) };
        if stop.len() > limits.stops {
            let message = format!("stop: {} strings; give {} at most", stop.len(), limits.stops);
            return Err(ApiError::invalid("stop", message));
        }
        if stop.iter().any(|text| text.is_empty() || text.len() > LONGEST) {
            let message = format!("stop: a string has 1 to {LONGEST} bytes");
            return Err(ApiError::invalid("stop", message));
        }
        Ok(stop.clone())
    }

    fn sampling(&self, model: &ServedModel, run: &RunConfig, limits: &Limits) -> Result<Sampling, ApiError> {
        let of_run = logitfuse::pipeline::sampling(run, 0)?;
        let size = |value: Option<u64>, default: usize| {
            value.map_or(default, |value| usize::try_from(value).unwrap_or(usize::MAX))
        };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(run.temperature),
            top_k: size(self.top_k, run.top_k),
            top_p: self.top_p.unwrap_or(run.top_p),
            min_p: self.min_p.unwrap_or(run.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(run.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(run.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(run.frequency_penalty),
            logit_bias: match &self.logit_bias {
                Some(given) => biases(given, limits)?,
                None => of_run.logit_bias,
            },
            // The same bits, so that every number that a client may write is a seed.
            seed: self.seed.map_or_else(fresh_seed, i64::cast_unsigned),
        };
        let named = |error: logitfuse::Error| {
            let message = error.to_string();
            let end = message.find([' ', ':']).unwrap_or(message.len());
            ApiError::of(&error).about(&message[..end])
        };
        sampling.validate().map_err(named)?;
        sampling.check_vocabulary(&model.pipeline.session().vocabulary).map_err(named)?;
        Ok(sampling)
    }
}

/// A number that may not exceed a limit of the server.
pub(crate) fn bounded(name: &str, value: Option<u64>, limit: usize) -> Result<Option<usize>, ApiError> {
    match value {
        None => Ok(None),
        Some(value) => match usize::try_from(value) {
            Ok(value) if value <= limit => Ok(Some(value)),
            _ => Err(ApiError::invalid(
                name,
                format!("{name}: {value} is more than the {limit} that this server allows"),
            )),
        },
    }
}

fn biases(given: &Biases, limits: &Limits) -> Result<Vec<(logitfuse::TokenId, f32)>, ApiError> {
    if given.0.len() > limits.biases {
        let message = format!("logit_bias: {} tokens; give {} at most", given.0.len(), limits.biases);
        return Err(ApiError::invalid("logit_bias", message));
    }
    let one = |(id, bias): &(String, f64)| {
        let shown: String = id.chars().take(40).collect();
        let id = id.parse().map_err(|_| {
            ApiError::invalid(
                "logit_bias",
                format!("logit_bias: {shown:?} is not a token id; /tokenize shows a text's"),
            )
        })?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "logits are f32; what is too large for one is refused as infinite"
        )]
        let bias = *bias as f32;
        Ok((id, bias))
    };
    given.0.iter().map(one).collect()
}

/// The error of a parameter. What to do about it may name a file of the server, and is not told.
fn parameter_error(error: &logitfuse::Error) -> ApiError {
    let message = error.to_string();
    let pointer = message.split(": ").find(|part| part.starts_with('/')).unwrap_or_default();
    let (param, message) = (format!("fusion.parameters{pointer}"), format!("fusion.parameters: {message}"));
    ApiError::invalid(param, message)
}

/// A seed for a request that brings none: no two are alike in one process, nor likely in two.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

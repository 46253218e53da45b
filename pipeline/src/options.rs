//! What a pipeline is made of, as plain values: what a configuration file states and what a builder collects.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use logitfuse_engine::Sampling;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::SpeculationConfig;

/// Everything that a [`Pipeline`](crate::Pipeline) is opened from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PipelineOptions {
    /// The models with their prompts, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// How they are fused.
    pub strategy: StrategyConfig,
    /// What is generated and how tokens are chosen.
    pub run: RunConfig,
    /// Whether tokens are drafted; they are not if absent.
    pub speculation: Option<SpeculationConfig>,
    /// Libraries with strategies, by names of the caller's choice.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// The folder in which `logitfuse.lock` lies, if there is one.
    pub folder: Option<PathBuf>,
    /// Roles in [`StrategyConfig::roles`] that were given for another strategy: this one need not have them.
    pub inherited_roles: BTreeSet<String>,
}

impl PipelineOptions {
    /// These sources and this strategy, and defaults for everything else.
    pub fn new(sources: BTreeMap<String, SourceConfig>, strategy: StrategyConfig) -> Self {
        Self { sources, strategy, ..Self::default() }
    }
}

/// `[run]`: what to generate and how tokens are chosen.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Prompts written in the file itself; each is a sample with the one field `prompt`.
    pub prompts: Vec<String>,
    /// A JSONL file of samples, one object a line; relative to the TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub data: Option<PathBuf>,
    /// At most this many tokens per sample.
    pub max_new_tokens: usize,
    /// Strings that end a text where they first appear.
    pub stop: Vec<String>,
    /// Go on past end-of-sequence tokens.
    pub ignore_end_of_sequence: bool,
    /// Seed of the first sample; sample `i` has `seed + i`.
    pub seed: u64,
    /// 0 is greedy.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most probable tokens that hold this much mass; 1 keeps all.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub top_p: f64,
    /// Keep tokens at least this fraction as probable as the best; 0 keeps all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: f64,
    /// 1 is off.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub repetition_penalty: f64,
    /// 0 is off.
    pub presence_penalty: f64,
    /// 0 is off.
    pub frequency_penalty: f64,
    /// Added to the fused logits of tokens by id: `{ "523" = -5.0 }`.
    pub logit_bias: BTreeMap<String, f32>,
    /// So many samples of each variant and task are kept with what every source thought of every token.
    pub traced_samples: usize,
    /// Sequences that are decoded at once; changes no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub batch: Option<usize>,
}

impl Default for RunConfig {
    fn default() -> Self {
        let s = Sampling::default();
        Self {
            prompts: Vec::new(),
            data: None,
            max_new_tokens: 128,
            stop: Vec::new(),
            ignore_end_of_sequence: false,
            seed: s.seed,
            temperature: s.temperature,
            top_k: s.top_k,
            top_p: s.top_p,
            min_p: s.min_p,
            repetition_penalty: s.repetition_penalty,
            presence_penalty: s.presence_penalty,
            frequency_penalty: s.frequency_penalty,
            logit_bias: BTreeMap::new(),
            traced_samples: 16,
            batch: None,
        }
    }
}

/// `[sources.NAME]`: one model together with its prompt. Two sources that name the same model in the same way share one
/// session, and their prompts decode as rows of one batch.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The model folder (or ONNX file), relative to the TOML.
    #[schemars(extend("format" = "path"))]
    pub model: PathBuf,
    /// Which of several ONNX files: `q4`, `fp16`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Execution providers in order of preference: `["cuda:device_id=0", "cpu"]`. Empty is the CPU.
    #[serde(default)]
    pub providers: Vec<String>,
    /// Overrides the context length that the model states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// `model` uses the model's own chat template where it has one, `none` feeds the text as it is, anything else is a
    /// template file, relative to the TOML.
    #[serde(default = "default_chat_template")]
    #[schemars(schema_with = "chat_template_schema")]
    pub chat_template: String,
    /// Variables of the chat template, under the name that `transformers` gives them: `{ enable_thinking = false }`. One that
    /// the template does not read is an error.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub chat_template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// What `strftime_now` of a chat template answers: `2025-01-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The system message, a Jinja text over the sample's fields; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The user's message, a Jinja text over the sample's fields.
    #[serde(default = "default_user")]
    pub user: String,
    /// How the answer begins, a Jinja text over the sample's fields; it is fed, not generated.
    #[serde(default)]
    pub assistant: String,
    /// A JSONL file of demonstrations, one object a line; relative to the TOML. They are shown before the sample, written
    /// with the same `user` and `assistant`, and answered by `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub demonstrations: Option<PathBuf>,
    /// How many demonstrations, from the first on; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
    /// The rest of a demonstration's answer, a Jinja text over its fields.
    #[serde(default = "default_answer")]
    pub answer: String,
    /// What stands between demonstrations where no chat template separates them.
    #[serde(default = "default_separator")]
    pub separator: String,
    /// A JSONL file of unlabelled prompts of the kind that the source is for, one object of sample fields a line; relative to
    /// the TOML. Strategies that choose among sources get to know them by these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub calibration: Option<PathBuf>,
}

fn default_chat_template() -> String {
    "model".to_owned()
}

fn chat_template_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "enum": ["model", "none"] }, { "type": "string", "format": "path" }] })
}

fn default_user() -> String {
    "{{ prompt }}".to_owned()
}

fn default_answer() -> String {
    "{{ answer }}".to_owned()
}

fn default_separator() -> String {
    "\n\n".to_owned()
}

impl SourceConfig {
    /// A source with this model and defaults for everything else.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            variant: None,
            providers: Vec::new(),
            context_length: None,
            chat_template: default_chat_template(),
            chat_template_kwargs: serde_json::Map::new(),
            date: None,
            system: None,
            user: default_user(),
            assistant: String::new(),
            demonstrations: None,
            shots: None,
            answer: default_answer(),
            separator: default_separator(),
            calibration: None,
        }
    }
}

/// `[strategy]`: the rule and which source plays which role in it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StrategyConfig {
    /// The strategy's id; `none` if absent.
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The source, or list of sources, of each role. A role that is not listed is played by the source of its name.
    #[serde(default)]
    pub roles: BTreeMap<String, Names>,
    /// The strategy's own parameters.
    #[serde(default)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Scales the strategy with the length of the text, if present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<serde_json::Map<String, serde_json::Value>>,
    /// Lets the strategy, with its schedule, act only where the base needs help, if present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One name, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would lose the position of what is wrong.
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a source, or a list of names")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "Names".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One name, or a list of them.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        })
    }
}

/// `[plugins.NAME]`: a library that the experiment names. `[strategy] use = "plugin:ID"` looks for the strategy in these
/// first and then where the machine keeps its plugins; a bare `use = "ID"` is a built-in strategy or one of these, so that
/// a file in some folder never changes what an experiment means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// The library, relative to the TOML.
    #[schemars(extend("format" = "path"))]
    pub path: PathBuf,
    /// The sha256 of the file; a file with another one is not loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What to do when the strategy fails in the middle of a text: `fail`, or `fallback_to_base`.
    #[serde(default = "default_on_error")]
    #[schemars(extend("enum" = ["fail", "fallback_to_base"]))]
    pub on_error: String,
}

fn default_on_error() -> String {
    "fail".to_owned()
}

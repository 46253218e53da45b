//! `[tasks.NAME]`: data with questions to answer, and how the answers are scored.

use std::{fmt, path::PathBuf};

use logitfuse_metrics::filter::PipelineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// `[tasks.NAME]`, with the meanings of lm-eval's task files. What a task changes in the rest of the experiment, its key
/// `with`, is not among the fields: it is in the [`Cell`](crate::Cell)'s configuration already.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskConfig {
    /// A JSONL file of items, one object a line; relative to the TOML.
    #[schemars(extend("format" = "path"))]
    pub data: PathBuf,
    /// What is asked of the model.
    #[serde(default)]
    pub output_type: OutputType,
    /// A Jinja text over an item's fields that stands before everything else, demonstrations included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A Jinja text over an item's fields. It becomes the item's field `prompt`, which sources show by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What is right: the name of a field, or a Jinja text over an item's fields, `{{ 'yes' }}` for one that is the same for
    /// all items; for `multiple_choice` the index of the right choice, a field that holds it, or the choice's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// For `multiple_choice`: the choices, Jinja texts over an item's fields, or the name of a field that holds the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Choices>,
    /// What stands between the prompt and a choice that is scored, unless a chat template wrote the prompt's end, and before
    /// the answers of demonstrations. A target of `loglikelihood` follows its prompt as it is.
    #[serde(default = "space")]
    pub target_delimiter: String,
    /// How a prompt and what is scored after it become tokens.
    #[serde(default, skip_serializing_if = "is_joint")]
    pub tokenization: Tokenization,
    /// Only the first so many items. What an experiment says of itself is part of it; figures of `run --limit` are not for reporting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Answers to every item.
    #[serde(default = "once")]
    #[schemars(range(min = 1))]
    pub repeats: usize,
    /// At most this many tokens per answer; overrides that of `[run]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// Strings that end an answer where they first appear; overrides those of `[run]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// Ways to find the answer in a response; each is scored by itself. None is the response as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<PipelineConfig>,
    /// How answers are scored; what is usual for the output type if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricConfig>,
    /// Items with their answers that are shown before every item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot: Option<FewshotConfig>,
}

impl TaskConfig {
    /// A task with these items and defaults for everything else.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            output_type: OutputType::default(),
            description: None,
            prompt: None,
            target: None,
            choices: None,
            target_delimiter: space(),
            tokenization: Tokenization::default(),
            limit: None,
            repeats: once(),
            max_new_tokens: None,
            stop: None,
            filters: Vec::new(),
            metrics: Vec::new(),
            fewshot: None,
        }
    }
}

fn space() -> String {
    " ".to_owned()
}

fn once() -> usize {
    1
}

/// What is asked of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// Text, until a stop string or the limit.
    #[default]
    GenerateUntil,
    /// Which of several choices is the most probable.
    MultipleChoice,
    /// How probable the target is after the prompt.
    Loglikelihood,
    /// How probable a whole text is, in windows of the context's length.
    LoglikelihoodRolling,
}

/// How a prompt and a continuation that is scored after it become tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokenization {
    /// As one text, white space at the prompt's end with the continuation: lm-eval's rule. What the tokenizer joins across the
    /// border is not seen by the model.
    #[default]
    Joint,
    /// Each by itself: the model sees the whole prompt, in the tokens after which it would generate.
    Separate,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_joint(tokenization: &Tokenization) -> bool {
    *tokenization == Tokenization::Joint
}

/// The choices of a multiple choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Choices {
    /// One template a choice.
    Templates(Vec<String>),
    /// The field of an item that holds the list of them.
    Field(String),
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would lose the position of what is wrong.
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Choices;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of templates, or the name of a field")
            }
            fn visit_str<E: de::Error>(self, field: &str) -> Result<Choices, E> {
                Ok(Choices::Field(field.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Choices, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Choices::Templates)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One entry of a task's `metrics`: a metric by name, with its options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct MetricConfig {
    /// `exact_match`, `f1`, `rouge2`, `acc_norm`, …
    pub metric: String,
    /// For `exact_match`: compare in lower case.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_case: bool,
    /// For `exact_match`: compare without punctuation.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_punctuation: bool,
    /// For `exact_match`: compare without digits.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_numbers: bool,
    /// For `exact_match`: what these match is removed from both sides first, in the syntax of Python's `re`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regexes_to_ignore: Vec<String>,
    /// For ROUGE: compare stems, as papers on summaries do; lm-eval does not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub use_stemmer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A task's `fewshot`: items with their answers that are shown before every item.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FewshotConfig {
    /// A JSONL file of items; relative to the TOML. The task's own data if absent, without the item itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub data: Option<PathBuf>,
    /// How many.
    pub n: usize,
    /// Which of them.
    #[serde(default)]
    pub sampler: Sampler,
    /// Seed of the choice, for `seeded`.
    #[serde(default)]
    pub seed: u64,
    /// What stands between two of them.
    #[serde(default = "blank_line")]
    pub separator: String,
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

/// Which items are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// The first ones.
    #[default]
    FirstN,
    /// For every item others, drawn by `seed`.
    Seeded,
}

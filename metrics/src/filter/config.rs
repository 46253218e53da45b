use std::collections::BTreeMap;

use logitfuse_core::{Result, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, MultiChoice, RegexFilter, Response};
use crate::pattern::Pattern;

/// One entry of a task's `filter_list`, with lm-eval's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// The name under which the results are reported.
    pub name: String,
    /// The filters, in the order in which they run.
    pub filter: Vec<FilterConfig>,
}

/// One filter of a [`PipelineConfig`]; the key `function` says which. See the table in [`filter`](crate::filter).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "function", rename_all = "snake_case", deny_unknown_fields)]
pub enum FilterConfig {
    /// What a regular expression finds.
    Regex {
        /// In the syntax of Python's `re`.
        #[serde(default = "gsm8k")]
        regex_pattern: String,
        /// Which match to take: 0 is the first, -1 the last.
        #[serde(default)]
        group_select: i64,
        /// What to answer if nothing matches.
        #[serde(default = "invalid")]
        fallback: String,
    },
    /// The letter of a choice: by a regular expression, by the choice's text, or after a colon.
    MultiChoiceRegex {
        /// In the syntax of Python's `re`.
        #[serde(default = "gsm8k")]
        regex_pattern: String,
        /// Which match to take: 0 is the first, -1 the last.
        #[serde(default)]
        group_select: i64,
        /// What to answer if nothing matches.
        #[serde(default = "invalid")]
        fallback: String,
        /// Compare the texts of choices in lower case.
        #[serde(default)]
        ignore_case: bool,
        /// Compare the texts of choices without punctuation (Unicode's categories P).
        #[serde(default)]
        ignore_punctuation: bool,
        /// Remove these before the texts of choices are compared.
        #[serde(default)]
        regexes_to_ignore: Vec<String>,
    },
    /// The first response.
    TakeFirst {},
    /// The first `k` responses.
    TakeFirstK {
        /// How many.
        k: usize,
    },
    /// The most frequent response.
    MajorityVote {},
    /// White space off both ends.
    RemoveWhitespace {},
    /// Lower case.
    Lowercase {},
    /// Upper case.
    Uppercase {},
    /// Looks the response up.
    Map {
        /// From responses to what they stand for.
        #[serde(default)]
        mapping_dict: BTreeMap<String, MappedValue>,
        /// What other responses stand for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default_value: Option<MappedValue>,
    },
}

/// What `map` gives for a response. lm-eval compares the target in the value's own type; here all is text, so `1` and
/// `"1"` are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MappedValue {
    /// An integer.
    Integer(i64),
    /// A text.
    Text(String),
}

impl From<&MappedValue> for String {
    fn from(value: &MappedValue) -> Self {
        match value {
            MappedValue::Integer(number) => number.to_string(),
            MappedValue::Text(text) => text.clone(),
        }
    }
}

/// lm-eval's default pattern.
fn gsm8k() -> String {
    r"#### (\-?[0-9\.\,]+)".to_owned()
}

fn invalid() -> String {
    "[invalid]".to_owned()
}

impl FilterConfig {
    /// `at` is the JSON pointer of this filter.
    pub(super) fn compile(&self, at: &str) -> Result<Filter> {
        Ok(match self {
            Self::Regex { regex_pattern, group_select, fallback } => {
                Filter::Regex(regex(at, regex_pattern, *group_select, fallback)?)
            }
            Self::MultiChoiceRegex {
                regex_pattern,
                group_select,
                fallback,
                ignore_case,
                ignore_punctuation,
                regexes_to_ignore,
            } => Filter::MultiChoice(MultiChoice {
                regex: regex(at, regex_pattern, *group_select, fallback)?,
                ignore_case: *ignore_case,
                ignore_punctuation: *ignore_punctuation,
                ignored: regexes_to_ignore
                    .iter()
                    .enumerate()
                    .map(|(i, one)| Pattern::new(one).map_err(|e| e.context(format!("{at}/regexes_to_ignore/{i}"))))
                    .collect::<Result<_>>()?,
            }),
            Self::TakeFirst {} => Filter::TakeFirst,
            Self::TakeFirstK { k: 0 } => return Err(params::invalid(&format!("{at}/k"), "must be 1 or more")),
            Self::TakeFirstK { k } => Filter::TakeFirstK(*k),
            Self::MajorityVote {} => Filter::MajorityVote,
            Self::RemoveWhitespace {} => Filter::RemoveWhitespace,
            Self::Lowercase {} => Filter::Lowercase,
            Self::Uppercase {} => Filter::Uppercase,
            Self::Map { mapping_dict, default_value } => Filter::Map {
                mapping: mapping_dict.iter().map(|(from, to)| (from.clone(), to.into())).collect(),
                default: default_value.as_ref().map(String::from) as Response,
            },
        })
    }
}

fn regex(at: &str, pattern: &str, group_select: i64, fallback: &str) -> Result<RegexFilter> {
    let pattern = Pattern::new(pattern).map_err(|e| e.context(format!("{at}/regex_pattern")))?;
    Ok(RegexFilter { pattern, group_select, fallback: fallback.to_owned() })
}

/// Filters that lm-eval has and this crate lacks, with an error of their own rather than that of an unknown variant.
pub(super) fn refuse_unsupported(value: &serde_json::Value) -> Result<()> {
    let filters = value.get("filter").and_then(|filters| filters.as_array());
    for (i, filter) in filters.into_iter().flatten().enumerate() {
        let function = filter.get("function").and_then(|function| function.as_str()).unwrap_or_default();
        let why = match function {
            "custom" => "it is Python code",
            "decontaminate" => "it does nothing in lm-eval 0.4.13",
            "format_span" | "regex_pos" => "it belongs to a single task and gives no text",
            _ => continue,
        };
        return Err(params::invalid(
            &format!("/filter/{i}/function"),
            format!("lm-eval's filter {function} is not supported: {why}"),
        )
        .with_help("use regex, map and the others, or filter the recorded samples in Python"));
    }
    Ok(())
}

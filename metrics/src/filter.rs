//! Filters: from what a model wrote to what is compared.
//!
//! Why: the answer is somewhere in the response, and *where* is part of a benchmark's definition. The filters are those
//! of lm-eval 0.4.13, under its names and parameters, so a task's `filter_list` can be taken over as it is; each of its
//! entries is one [`FilterPipeline`].
//!
//! ```
//! use logitfuse_metrics::filter::FilterPipeline;
//! use serde_json::json;
//!
//! // GSM8K with self-consistency.
//! let pipeline = FilterPipeline::from_json(&json!({
//!     "name": "maj@3",
//!     "filter": [
//!         { "function": "take_first_k", "k": 3 },
//!         { "function": "regex", "regex_pattern": r"The answer is (\-?[0-9\.\,]*[0-9]+)" },
//!         { "function": "majority_vote" },
//!         { "function": "take_first" },
//!     ],
//! }))?;
//! let responses = ["The answer is 7.", "I do not know", "The answer is 7"].map(str::to_owned);
//! assert_eq!(pipeline.apply(&responses, &[])?.first(), Some("7"));
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # The filters
//!
//! | function | parameters | does |
//! |---|---|---|
//! | `regex` | `regex_pattern`, `group_select` (0), `fallback` (`[invalid]`) | all matches; the one at `group_select` (-1 is the last); of several groups the first that is not empty; stripped. `fallback` if nothing matched or all groups are empty |
//! | `multi_choice_regex` | as `regex`, `ignore_case`, `ignore_punctuation`, `regexes_to_ignore` | the same; else the text of a choice in the response, as `(A)`; else a letter after a colon |
//! | `take_first` | | the first response, alone; the last filter of a pipeline |
//! | `take_first_k` | `k` | the first `k` responses |
//! | `majority_vote` | | the most frequent response; the earliest of them on a tie |
//! | `remove_whitespace` | | white space off both ends |
//! | `lowercase`, `uppercase` | | Python's `str.lower`, `str.upper` |
//! | `map` | `mapping_dict`, `default_value` (none) | looks the response up |
//!
//! # What differs from lm-eval
//!
//! * `take_first` before another filter is refused: there, the next filter goes through the response letter by letter.
//! * `group_select` beyond the matches gives the fallback; there, it ends the run.
//! * A response that `map` did not find is "none" and passes through text filters; there, most of them fail on it. The
//!   `regex` filters read it as an empty text, as there.
//! * `custom`, `decontaminate`, `format_span` and `regex_pos` are refused: the first is Python code, the others belong
//!   to single tasks.

mod config;
mod multi_choice;

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};

pub use config::{FilterConfig, MappedValue, PipelineConfig};

use crate::{pattern::Pattern, python};
use multi_choice::MultiChoice;

/// One filtered response; `None` where `map` found nothing and has no default.
pub type Response = Option<String>;

/// Filters that run one after the other on the responses to one item.
#[derive(Clone, Debug)]
pub struct FilterPipeline {
    name: String,
    filters: Vec<Filter>,
}

#[derive(Clone, Debug)]
enum Filter {
    Regex(RegexFilter),
    MultiChoice(MultiChoice),
    TakeFirst,
    TakeFirstK(usize),
    MajorityVote,
    RemoveWhitespace,
    Lowercase,
    Uppercase,
    Map { mapping: BTreeMap<String, String>, default: Response },
}

/// What a pipeline makes of the responses to one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// One response: the pipeline ends in `take_first`.
    One(Response),
    /// A list of them.
    Many(Vec<Response>),
}

impl Filtered {
    /// The response, or the first of them.
    pub fn first(&self) -> Option<&str> {
        match self {
            Self::One(one) => one.as_deref(),
            Self::Many(many) => many.first()?.as_deref(),
        }
    }
}

impl FilterPipeline {
    /// Compiles a pipeline.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]; the message starts with the JSON pointer of what is wrong.
    pub fn new(config: &PipelineConfig) -> Result<Self> {
        let last = config.filter.len().saturating_sub(1);
        let mut filters = Vec::with_capacity(config.filter.len());
        for (i, filter) in config.filter.iter().enumerate() {
            if i < last && matches!(filter, FilterConfig::TakeFirst {}) {
                return Err(logitfuse_core::params::invalid(
                    &format!("/filter/{i}"),
                    "take_first must be the last filter",
                )
                .with_help("move take_first to the end; lm-eval would go on with the single letters of the response"));
            }
            filters.push(filter.compile(&format!("/filter/{i}"))?);
        }
        Ok(Self { name: config.name.clone(), filters })
    }

    /// Reads and compiles a pipeline: `{"name": …, "filter": [{"function": …, …}, …]}`.
    ///
    /// # Errors
    /// As [`FilterPipeline::new`].
    pub fn from_json(value: &serde_json::Value) -> Result<Self> {
        config::refuse_unsupported(value)?;
        Self::new(&logitfuse_core::params::parse(value)?)
    }

    /// The pipeline of a task that names none: `take_first` under the name `none`.
    pub fn take_first() -> Self {
        Self { name: "none".to_owned(), filters: vec![Filter::TakeFirst] }
    }

    /// The name under which lm-eval reports what comes out, as in `exact_match,strict-match`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Filters the responses to one item. `choices` are the item's choices, for `multi_choice_regex` only.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there are fewer responses than `take_first_k` wants or none at all, if there are
    /// more than 26 choices, or if a pattern does not come to an end.
    pub fn apply(&self, responses: &[String], choices: &[String]) -> Result<Filtered> {
        let mut responses: Vec<Response> = responses.iter().cloned().map(Some).collect();
        for filter in &self.filters {
            responses = match filter {
                Filter::TakeFirst => return self.first(responses).map(Filtered::One),
                Filter::TakeFirstK(k) if responses.len() < *k => {
                    let there = responses.len();
                    return Err(Error::new(
                        ErrorKind::InvalidConfig,
                        format!("{}: take_first_k wants {k} responses and there are {there}", self.name),
                    )
                    .with_help("raise `repeats`, or lower `k`"));
                }
                Filter::TakeFirstK(k) => {
                    responses.truncate(*k);
                    responses
                }
                Filter::MajorityVote => vec![most_common(&responses).map_or_else(|| self.first(vec![]), Ok)?],
                Filter::RemoveWhitespace => each(responses, |text| python::strip(&text).to_owned()),
                Filter::Lowercase => each(responses, |text| text.to_lowercase()),
                Filter::Uppercase => each(responses, |text| text.to_uppercase()),
                Filter::Map { mapping, default } => {
                    let look_up = |r: Response| r.and_then(|r| mapping.get(&r).cloned()).or_else(|| default.clone());
                    responses.into_iter().map(look_up).collect()
                }
                Filter::Regex(filter) => extract(responses, |text| filter.apply(text))?,
                Filter::MultiChoice(filter) => {
                    let choices = filter.choices(choices)?;
                    extract(responses, |text| filter.apply(text, &choices))?
                }
            };
        }
        Ok(Filtered::Many(responses))
    }

    fn first(&self, responses: Vec<Response>) -> Result<Response> {
        responses.into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("{}: there is no response to filter", self.name))
        })
    }
}

fn each(responses: Vec<Response>, change: impl Fn(String) -> String) -> Vec<Response> {
    responses.into_iter().map(|response| response.map(&change)).collect()
}

fn extract(responses: Vec<Response>, of: impl Fn(&str) -> Result<String>) -> Result<Vec<Response>> {
    responses.into_iter().map(|response| of(response.as_deref().unwrap_or_default()).map(Some)).collect()
}

/// Python's `Counter(responses).most_common(1)`: the earliest wins a tie.
fn most_common(responses: &[Response]) -> Option<Response> {
    let mut counts: BTreeMap<&Response, usize> = BTreeMap::new();
    for response in responses {
        *counts.entry(response).or_default() += 1;
    }
    let most = counts.values().max()?;
    responses.iter().find(|response| counts[response] == *most).cloned()
}

/// The filter `regex`, and the first stage of `multi_choice_regex`.
#[derive(Clone, Debug)]
struct RegexFilter {
    pattern: Pattern,
    group_select: i64,
    fallback: String,
}

impl RegexFilter {
    fn apply(&self, text: &str) -> Result<String> {
        Ok(self.select(&self.pattern, text)?.unwrap_or_else(|| self.fallback.clone()))
    }

    /// The selected match, stripped. Nothing if there is none, or if there are several groups and all are empty: but one
    /// group, or none, may well be empty.
    fn select(&self, pattern: &Pattern, text: &str) -> Result<Option<String>> {
        let found = pattern.find_all(text)?;
        let index = match usize::try_from(self.group_select) {
            Ok(index) => Some(index),
            Err(_) => {
                usize::try_from(self.group_select.unsigned_abs()).ok().and_then(|back| found.len().checked_sub(back))
            }
        };
        let Some(selected) = index.and_then(|index| found.get(index)) else { return Ok(None) };
        let text = match selected.groups.as_slice() {
            [] => Some(selected.whole),
            [one] => Some(*one),
            several => several.iter().copied().find(|group| !group.is_empty()),
        };
        Ok(text.map(|text| python::strip(text).to_owned()))
    }
}

#[cfg(test)]
mod tests;

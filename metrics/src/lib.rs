//! Evaluation metrics: filters that find the answer in a response, metrics that score it, and
//! statistics of its uncertainty.
//!
//! # Why this crate exists
//!
//! A number is only comparable with a paper's if it was computed in the same way, and the ways are set by Python packages:
//! lm-eval for filters and accuracies, `rouge_score`, sacrebleu, the scripts of `SQuAD` and `TriviaQA`. This crate computes
//! what they compute, to the tie, the final newline and the Turkish `İ`, without Python; thousands of their answers are kept
//! in its tests (`tests/second_opinion/metrics.py` produces them). It is pure: no files, no clock, no hidden randomness.
//!
//! # From responses to a number with an interval
//!
//! ```
//! use logitfuse_metrics::{
//!     exact_match::{ExactMatch, ExactMatchConfig},
//!     filter::FilterPipeline,
//!     statistics::{Bootstrap, wilson},
//! };
//! use serde_json::json;
//!
//! let flexible = FilterPipeline::from_json(&json!({
//!     "name": "flexible-extract",
//!     "filter": [
//!         { "function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)" },
//!         { "function": "take_first" },
//!     ],
//! }))?;
//! let exact = ExactMatch::new(&ExactMatchConfig { regexes_to_ignore: vec![",".into(), r"\.$".into()], ..Default::default() })?;
//!
//! let items = [("12 + 30 = 42.", "42"), ("It is 1,000", "1000"), ("I would say 8", "9"), ("I do not know", "5")];
//! let mut scores = Vec::new();
//! for (response, target) in items {
//!     let filtered = flexible.apply(&[response.to_owned()], &[])?;
//!     scores.push(f64::from(u8::from(exact.matches(filtered.first().unwrap_or_default(), target)?)));
//! }
//! let accuracy = Bootstrap::default().mean(&scores)?;
//! assert_eq!(accuracy.value, 0.5);
//! // Four items do not say much, and Wilson's interval admits it.
//! assert!(wilson(2, 4, 0.95)?.unwrap().contains(0.2));
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # What is here
//!
//! | module | what | as in |
//! |---|---|---|
//! | [`filter`] | `regex`, `multi_choice_regex`, `majority_vote`, … and pipelines of them | lm-eval 0.4.13 |
//! | [`exact_match`] | equality after what does not matter was taken off | lm-eval 0.4.13 |
//! | [`multiple_choice`] | `acc`, `acc_norm`, `acc_bytes`, `acc_mutual_info` | lm-eval 0.4.13 |
//! | [`perplexity`] | per word, per byte, bits per byte | lm-eval 0.4.13 |
//! | [`question_answering`] | F1 and exact match over words | the scripts of `SQuAD` 2.0 and `TriviaQA` |
//! | [`rouge`], [`porter`] | ROUGE-1, -2, -L, -Lsum with NLTK's stemmer | `rouge_score` 0.1.2, NLTK 3.10 |
//! | [`translation`] | BLEU, chrF, chrF++ | sacrebleu 2.6 |
//! | [`gap`] | gap closed, PGR, ratio to the ceiling, with intervals | Burns et al. 2023 |
//! | [`statistics`] | standard errors, bootstrap, Wilson, `McNemar`, Holm | lm-eval, scipy 1.17, statsmodels 0.15 |
//! | [`pattern`], [`python`] | Python's regular expressions and strings | Python 3.11 |
//!
//! # Errors
//!
//! Configurations give errors of [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) whose message begins
//! with a JSON pointer or with the pattern. Scores that cannot be paired are
//! [`Incompatible`](logitfuse_core::ErrorKind::Incompatible). What is not defined (the mean of nothing, a gap that is not
//! there) is `None`, never a made-up number.

#![forbid(unsafe_code)]

pub mod exact_match;
pub mod filter;
pub mod gap;
pub mod multiple_choice;
pub mod perplexity;
pub mod porter;
pub mod python;
pub mod question_answering;
pub mod rouge;
pub mod statistics;
pub mod translation;

pub use logitfuse_pattern as pattern;

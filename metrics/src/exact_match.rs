//! Whether two texts are the same, after what does not matter was taken off.
//!
//! Why: "exact match" is only exact about what a task declares to matter. This is lm-eval 0.4.13's `exact_match`.
//!
//! ```
//! use logitfuse_metrics::exact_match::{ExactMatch, ExactMatchConfig};
//!
//! let gsm8k = ExactMatch::new(&ExactMatchConfig {
//!     regexes_to_ignore: vec![",".into(), r"\$".into(), "(?s).*#### ".into(), r"\.$".into()],
//!     ignore_case: true,
//!     ..Default::default()
//! })?;
//! assert!(gsm8k.matches("$1,000.", "5 * 200 = 1000\n#### 1000")?);
//! assert!(!gsm8k.matches("1001", "#### 1000")?);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! Both sides go through the same steps, in this order: every pattern of `regexes_to_ignore` is removed; lower case;
//! without the 32 characters of ASCII punctuation; without the digits 0 to 9. Then they are equal or not.
//!
//! lm-eval does this in arrays of `NumPy`, which cut texts to the longest one *before* lower-casing and drop NUL characters
//! at the end. That shows in one letter, `İ`, whose lower case is two characters long; it is reproduced, so `İ` and `i`
//! match when case is ignored.

use logitfuse_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{pattern::Pattern, python};

/// What does not matter to [`ExactMatch`]; the names are lm-eval's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExactMatchConfig {
    /// What these match is removed from both sides, in this order, in the syntax of Python's `re`.
    pub regexes_to_ignore: Vec<String>,
    /// Compare in lower case.
    pub ignore_case: bool,
    /// Compare without ASCII punctuation.
    pub ignore_punctuation: bool,
    /// Compare without the digits 0 to 9.
    pub ignore_numbers: bool,
}

/// The metric `exact_match`.
#[derive(Clone, Debug)]
pub struct ExactMatch {
    ignored: Vec<Pattern>,
    config: ExactMatchConfig,
}

impl ExactMatch {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) for a pattern that Python would refuse.
    pub fn new(config: &ExactMatchConfig) -> Result<Self> {
        let compile = |(i, pattern): (usize, &String)| {
            Pattern::new(pattern).map_err(|e| e.context(format!("/regexes_to_ignore/{i}")))
        };
        let ignored = config.regexes_to_ignore.iter().enumerate().map(compile).collect::<Result<_>>()?;
        Ok(Self { ignored, config: config.clone() })
    }

    /// Whether prediction and reference are the same.
    ///
    /// # Errors
    /// If a pattern does not come to an end.
    pub fn matches(&self, prediction: &str, reference: &str) -> Result<bool> {
        self.matches_any(prediction, &[reference])
    }

    /// Whether the prediction is the same as one of the references.
    ///
    /// # Errors
    /// If a pattern does not come to an end.
    pub fn matches_any<S: AsRef<str>>(&self, prediction: &str, references: &[S]) -> Result<bool> {
        let prediction = self.normalised(&[prediction])?;
        Ok(self.normalised(references)?.contains(&prediction[0]))
    }

    fn normalised<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<String>> {
        let mut texts: Vec<String> = texts.iter().map(|text| without_final_nul(text.as_ref())).collect();
        for ignored in &self.ignored {
            for text in &mut texts {
                *text = without_final_nul(&ignored.remove(text)?);
            }
        }
        if self.config.ignore_case {
            let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
            for text in &mut texts {
                *text = without_final_nul(&text.to_lowercase().chars().take(width).collect::<String>());
            }
        }
        let dropped = |c: &char| {
            self.config.ignore_punctuation && python::is_punctuation(*c)
                || self.config.ignore_numbers && c.is_ascii_digit()
        };
        for text in &mut texts {
            *text = without_final_nul(&text.chars().filter(|c| !dropped(c)).collect::<String>());
        }
        Ok(texts)
    }
}

fn without_final_nul(text: &str) -> String {
    text.trim_end_matches('\0').to_owned()
}

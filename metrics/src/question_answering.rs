//! Exact match and F1 over words, as the question-answering benchmarks define them.
//!
//! Why: an answer is a few words, and "the Eiffel Tower!" is as good as "Eiffel tower". Each benchmark published a script
//! that says how far that goes; the differences are small and change scores.
//!
//! ```
//! use logitfuse_metrics::question_answering::Normalisation::{Squad, TriviaQa};
//!
//! assert!(Squad.exact_match("The Eiffel Tower!", &["eiffel tower"]));
//! assert_eq!(Squad.f1("in the Eiffel Tower", &["eiffel tower", "Paris"]), 0.8);
//! // TriviaQA makes a space of punctuation where SQuAD takes it away.
//! assert_eq!((Squad.normalise("rock-n-roll"), TriviaQa.normalise("rock-n-roll")), ("rocknroll".into(), "rock n roll".into()));
//! ```
//!
//! | | `Squad` | `TriviaQa` |
//! |---|---|---|
//! | punctuation (ASCII's 32) | removed | a space |
//! | `‘ ’ ´` | kept | a space |
//! | `a`, `an`, `the` as words of Python's `\w` | a space | a space |
//! | white space | single spaces | single spaces |
//! | F1 where a side has no words | 1 if neither has, else 0 (as in `SQuAD` 2.0's script) | 0 |
//!
//! Both lower-case first. Over several references the best one counts.

use std::collections::BTreeMap;

use crate::python;

/// Whose script normalises answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalisation {
    /// `SQuAD` 1.1 and 2.0, and what followed them (`CoQA`, `HotpotQA`, …).
    Squad,
    /// `TriviaQA`.
    TriviaQa,
}

impl Normalisation {
    /// The text that is compared.
    pub fn normalise(self, text: &str) -> String {
        let lower = text.to_lowercase();
        let bare: String = match self {
            Self::Squad => lower.chars().filter(|c| !python::is_punctuation(*c)).collect(),
            Self::TriviaQa => lower
                .chars()
                .map(|c| if python::is_punctuation(c) || matches!(c, '‘' | '’' | '´') { ' ' } else { c })
                .collect(),
        };
        let without_articles = python::blank_words(&bare, |word| matches!(word, "a" | "an" | "the"));
        python::split(&without_articles).collect::<Vec<_>>().join(" ")
    }

    /// Whether a reference is the same as the prediction.
    pub fn exact_match<S: AsRef<str>>(self, prediction: &str, references: &[S]) -> bool {
        let prediction = self.normalise(prediction);
        references.iter().any(|reference| self.normalise(reference.as_ref()) == prediction)
    }

    /// The harmonic mean of precision and recall over words, for the best reference; between 0 and 1, and 0 without
    /// references.
    pub fn f1<S: AsRef<str>>(self, prediction: &str, references: &[S]) -> f64 {
        let prediction = self.normalise(prediction);
        references
            .iter()
            .map(|reference| self.f1_of(&prediction, &self.normalise(reference.as_ref())))
            .fold(0.0, f64::max)
    }

    fn f1_of(self, prediction: &str, reference: &str) -> f64 {
        let prediction: Vec<_> = python::split(prediction).collect();
        let reference: Vec<_> = python::split(reference).collect();
        if self == Self::Squad && (prediction.is_empty() || reference.is_empty()) {
            return f64::from(u8::from(prediction == reference));
        }
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for word in &reference {
            *left.entry(word).or_default() += 1;
        }
        let mut common = 0_usize;
        for word in &prediction {
            if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
                *count -= 1;
                common += 1;
            }
        }
        if common == 0 {
            return 0.0;
        }
        let precision = common as f64 / prediction.len() as f64;
        let recall = common as f64 / reference.len() as f64;
        2.0 * precision * recall / (precision + recall)
    }
}

//! From responses to scores of an item.

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::{filter::Filtered, multiple_choice::Item, perplexity::word_count};
use logitfuse_rundir::Response;
use serde_json::{Value, json};

use super::{
    Doc, Task,
    fields::Target,
    metric::{Metric, one_or_zero},
};
use logitfuse_config::OutputType;

/// What came of an item, for its [`SampleRecord`](logitfuse_rundir::SampleRecord).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What the answer is compared with.
    pub target: Value,
    /// The answer that each filter found; of a multiple choice, the choice.
    pub filtered: BTreeMap<String, Value>,
    /// Scores by `metric,filter`.
    pub metrics: BTreeMap<String, Value>,
}

impl Task {
    /// Scores an item. `answers` holds the responses of each repeat so far, from the first on: what is scored is all answers
    /// to an item together (a majority vote), so before the last repeat there are no scores.
    ///
    /// # Errors
    /// As [`requests`](Self::requests); and where a filter fails.
    pub fn outcome(&self, doc: &Doc, answers: &[&[Response]]) -> Result<Outcome> {
        self.outcome_of(doc, answers).map_err(|e| self.about(e, doc))
    }

    fn outcome_of(&self, doc: &Doc, answers: &[&[Response]]) -> Result<Outcome> {
        let choices = self.templates.choices(&doc.fields)?;
        let target = self.templates.target(&doc.fields, &choices)?;
        let references = target.texts(&choices);
        let mut outcome = Outcome {
            target: match references.as_slice() {
                [one] => json!(one),
                several => json!(several),
            },
            ..Outcome::default()
        };
        if answers.len() < self.config.repeats {
            return Ok(outcome);
        }
        match self.config.output_type {
            OutputType::GenerateUntil => self.generated(&mut outcome, answers, &choices, &references)?,
            OutputType::MultipleChoice => self.chosen(&mut outcome, answers, &choices, &target)?,
            OutputType::Loglikelihood => {
                let response = answers.first().and_then(|responses| responses.first()).ok_or_else(incomplete)?;
                outcome.filtered.insert("none".to_owned(), number(response.log_prob));
                for (metric, name) in self.metrics.iter().zip(&self.names) {
                    let score = match metric {
                        Metric::Acc => one_or_zero(response.is_greedy == Some(true)),
                        _ => json!([number(response.log_prob)]),
                    };
                    outcome.metrics.insert(format!("{name},none"), score);
                }
            }
            OutputType::LoglikelihoodRolling => {
                let windows = answers.first().copied().unwrap_or_default();
                let log_prob = number(windows.iter().map(|window| window.log_prob).sum());
                let text = references.concat();
                for (metric, name) in self.metrics.iter().zip(&self.names) {
                    let length = if matches!(metric, Metric::WordPerplexity) { word_count(&text) } else { text.len() };
                    outcome.metrics.insert(format!("{name},none"), json!([log_prob, length]));
                }
            }
        }
        Ok(outcome)
    }

    fn generated(
        &self,
        outcome: &mut Outcome,
        answers: &[&[Response]],
        choices: &[String],
        references: &[String],
    ) -> Result<()> {
        let texts = answers.iter().map(|responses| responses.first().map(|response| response.text.clone()));
        let texts: Vec<String> = texts.collect::<Option<_>>().ok_or_else(incomplete)?;
        for filter in &self.filters {
            let filtered = filter.apply(&texts, choices)?;
            let prediction = filtered.first().unwrap_or_default();
            for (metric, name) in self.metrics.iter().zip(&self.names) {
                let score = metric.of_text(prediction, references)?;
                outcome.metrics.insert(format!("{name},{}", filter.name()), score);
            }
            let answer = match &filtered {
                Filtered::One(one) => json!(one),
                Filtered::Many(many) => json!(many),
            };
            outcome.filtered.insert(filter.name().to_owned(), answer);
        }
        Ok(())
    }

    fn chosen(
        &self,
        outcome: &mut Outcome,
        answers: &[&[Response]],
        choices: &[String],
        target: &Target,
    ) -> Result<()> {
        let responses = answers.first().copied().unwrap_or_default();
        let (given, free) = responses.split_at_checked(choices.len()).ok_or_else(incomplete)?;
        let of = |responses: &[Response]| responses.iter().map(|response| response.log_prob).collect::<Vec<f64>>();
        let (given_log_probs, free) = (of(given), of(free));
        let item = Item {
            choices,
            log_likelihoods: &given_log_probs,
            unconditional: (free.len() == choices.len()).then_some(free.as_slice()),
            gold: target.indices(),
        };
        let right = item.accuracies();
        for (metric, name) in self.metrics.iter().zip(&self.names) {
            let right = match metric {
                Metric::AccNorm => right.acc_norm,
                Metric::AccBytes => right.acc_bytes,
                Metric::AccMutualInfo => right.acc_mutual_info.ok_or_else(incomplete)?,
                Metric::ExactMatch(_) => target.indices().iter().any(|&gold| given[gold].is_greedy == Some(true)),
                _ => right.acc,
            };
            outcome.metrics.insert(format!("{name},none"), one_or_zero(right));
        }
        if let Some(best) = item.best() {
            outcome.filtered.insert("none".to_owned(), json!(choices[best]));
        }
        Ok(())
    }
}

fn incomplete() -> Error {
    Error::new(ErrorKind::InvalidData, "there are fewer responses than the task asks for")
        .with_help("the samples are those of another task, or were cut off; run the task again")
}

/// A number as JSON; what JSON cannot carry, the logarithm of 0, is null.
fn number(x: f64) -> Value {
    json!(x.is_finite().then_some(x))
}

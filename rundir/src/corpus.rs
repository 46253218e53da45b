//! Scores of a whole corpus, from the parts of them that samples hold.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::{
    perplexity::perplexity,
    translation::{Bleu, Chrf},
};
use serde_json::Value;

/// The parts that a corpus metric (BLEU, chrF, perplexities) stored of each sample; its score is of all of them together.
///
/// Such a score is no mean of item scores, so an interval or a comparison has to recompute it on every bootstrap draw of items.
///
/// ```
/// use logitfuse_rundir::CorpusScores;
/// use serde_json::json;
///
/// // Log-probability and words of two items.
/// let parts = [json!([-4.0, 2]), json!([-2.0, 1])];
/// let scores = CorpusScores::read("word_perplexity", &[&parts[0], &parts[1]])?.unwrap();
/// assert_eq!(scores.over([0, 1]), 2_f64.exp());
/// assert!(CorpusScores::read("exact_match", &[&json!(1.0)])?.is_none(), "a mean of scores of items");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CorpusScores(Parts);

#[derive(Clone, Debug)]
enum Parts {
    Bleu(Vec<Bleu>),
    Chrf {
        empty: Chrf,
        segments: Vec<Chrf>,
    },
    /// Log-probabilities in nats.
    Perplexity(Vec<f64>),
    /// Log-probabilities in nats with the words or bytes that they are of.
    Rate {
        pairs: Vec<(f64, f64)>,
        bits: bool,
    },
}

impl CorpusScores {
    /// What the metric of this name wrote of each sample; none for a metric that scores items.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] for a value that the metric does not write.
    pub fn read(metric: &str, scores: &[&Value]) -> Result<Option<Self>> {
        let chrf = |empty: Chrf| -> Result<Parts> {
            let segments = texts(scores, |prediction, references| {
                let mut one = empty.clone();
                one.add(prediction, references);
                one
            })?;
            Ok(Parts::Chrf { empty, segments })
        };
        Ok(Some(Self(match metric {
            "bleu" => Parts::Bleu(texts(scores, |prediction, references| {
                let mut one = Bleu::default();
                one.add(prediction, references);
                one
            })?),
            "chrf" => chrf(Chrf::default())?,
            "chrf++" => chrf(Chrf::plus_plus())?,
            "item_perplexity" | "perplexity" => {
                Parts::Perplexity(scores.iter().map(|score| log_prob(score)).collect::<Result<_>>()?)
            }
            "word_perplexity" | "byte_perplexity" | "bits_per_byte" => Parts::Rate {
                pairs: scores.iter().map(|score| Ok((log_prob(score)?, length(score)?))).collect::<Result<_>>()?,
                bits: metric == "bits_per_byte",
            },
            _ => return Ok(None),
        })))
    }

    /// The score of these samples, by index, each as often as it is named.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn over(&self, samples: impl IntoIterator<Item = usize>) -> f64 {
        let samples = samples.into_iter();
        match &self.0 {
            Parts::Bleu(segments) => {
                let mut all = Bleu::default();
                samples.for_each(|i| all.merge(&segments[i]));
                all.score()
            }
            Parts::Chrf { empty, segments } => {
                let mut all = empty.clone();
                samples.for_each(|i| all.merge(&segments[i]));
                all.score()
            }
            Parts::Perplexity(log_probs) => perplexity(&samples.map(|i| log_probs[i]).collect::<Vec<_>>()),
            Parts::Rate { pairs, bits } => {
                let (log_prob, length) = samples.fold((0.0, 0.0), |sum, i| (sum.0 + pairs[i].0, sum.1 + pairs[i].1));
                let rate = -log_prob / length;
                if *bits { rate / std::f64::consts::LN_2 } else { rate.exp() }
            }
        }
    }
}

/// What is made of each `[prediction, [references]]`.
fn texts<T>(scores: &[&Value], mut of: impl FnMut(&str, &[&str]) -> T) -> Result<Vec<T>> {
    let each = scores.iter().map(|score| {
        let prediction = score.get(0).and_then(Value::as_str);
        let references = score.get(1).and_then(Value::as_array);
        let references = references.and_then(|all| all.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        match (prediction, references) {
            (Some(prediction), Some(references)) => Ok(of(prediction, &references)),
            _ => Err(foreign(score)),
        }
    });
    each.collect()
}

/// The first part of an array; null is the logarithm of 0.
fn log_prob(score: &Value) -> Result<f64> {
    match score.get(0) {
        Some(Value::Null) => Ok(f64::NEG_INFINITY),
        Some(part) => part.as_f64().ok_or_else(|| foreign(score)),
        None => Err(foreign(score)),
    }
}

fn length(score: &Value) -> Result<f64> {
    score.get(1).and_then(Value::as_f64).ok_or_else(|| foreign(score))
}

fn foreign(score: &Value) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{score} is not what this metric writes"))
        .with_help("the samples are those of another task; run it into another directory")
}

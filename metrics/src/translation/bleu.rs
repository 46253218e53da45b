use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use super::{common, counts};
use crate::python;

const ORDER: usize = 4;

/// BLEU of a corpus; see [`translation`](crate::translation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    predicted_length: usize,
    reference_length: usize,
    correct: [usize; ORDER],
    total: [usize; ORDER],
}

impl Bleu {
    /// Adds a segment. A segment without references counts as one with an empty reference.
    pub fn add<S: AsRef<str>>(&mut self, prediction: &str, references: &[S]) {
        let predicted = tokens(prediction);
        let predicted: Vec<&str> = python::split(&predicted).collect();
        let references: Vec<String> = references.iter().map(|reference| tokens(reference.as_ref())).collect();
        let references: Vec<Vec<&str>> = references.iter().map(|text| python::split(text).collect()).collect();
        let closest = references.iter().map(Vec::len).min_by_key(|length| (length.abs_diff(predicted.len()), *length));
        self.predicted_length += predicted.len();
        self.reference_length += closest.unwrap_or(0);
        for n in 1..=ORDER {
            let mut allowed: BTreeMap<&[&str], usize> = BTreeMap::new();
            for reference in &references {
                for (gram, count) in counts(reference, n) {
                    let most = allowed.entry(gram).or_default();
                    *most = count.max(*most);
                }
            }
            self.correct[n - 1] += common(&counts(&predicted, n), &allowed);
            self.total[n - 1] += predicted.windows(n).count();
        }
    }

    /// Adds another corpus, so that segments can be counted once and then drawn many times.
    pub fn merge(&mut self, other: &Self) {
        self.predicted_length += other.predicted_length;
        self.reference_length += other.reference_length;
        for n in 0..ORDER {
            self.correct[n] += other.correct[n];
            self.total[n] += other.total[n];
        }
    }

    /// The score, between 0 and 100.
    pub fn score(&self) -> f64 {
        if self.correct == [0; ORDER] {
            return 0.0;
        }
        let (predicted, reference) = (self.predicted_length as f64, self.reference_length as f64);
        let brevity = if predicted < reference { (1.0 - reference / predicted).exp() } else { 1.0 };
        let (mut logs, mut smoothing) = (0.0, 1.0);
        for (correct, total) in self.correct.into_iter().zip(self.total) {
            if total == 0 {
                // No segment is long enough: the score is 0, as the logarithm of 0 would have it.
                return 0.0;
            }
            let hits = if correct == 0 {
                smoothing *= 2.0;
                1.0 / smoothing
            } else {
                correct as f64
            };
            logs += (100.0 * hits / total as f64).ln();
        }
        brevity * (logs / ORDER as f64).exp()
    }
}

/// The tokens of `mteval-v13a`, between white space.
fn tokens(text: &str) -> String {
    static SYMBOL: LazyLock<Regex> = LazyLock::new(|| python::constant(r"[{-~\[-` -&(-+:-@/]"));
    static AFTER_NO_DIGIT: LazyLock<Regex> = LazyLock::new(|| python::constant(r"([^0-9])([.,])"));
    static BEFORE_NO_DIGIT: LazyLock<Regex> = LazyLock::new(|| python::constant(r"([.,])([^0-9])"));
    static DASH: LazyLock<Regex> = LazyLock::new(|| python::constant(r"([0-9])(-)"));
    let mut text = python::rstrip(text).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let mut text = format!(" {text} ");
    for (pattern, replacement) in
        [(&SYMBOL, " $0 "), (&AFTER_NO_DIGIT, "$1 $2 "), (&BEFORE_NO_DIGIT, " $1 $2"), (&DASH, "$1 $2 ")]
    {
        text = pattern.replace_all(&text, replacement).into_owned();
    }
    text
}

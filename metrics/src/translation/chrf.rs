use super::{common, counts};
use crate::python;

const CHARACTER_ORDER: usize = 6;
const BETA_SQUARED: f64 = 4.0;

/// chrF or chrF++ of a corpus; see [`translation`](crate::translation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chrf {
    word_order: usize,
    statistics: Vec<Counts>,
}

/// Of one order of n-grams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    predicted: usize,
    reference: usize,
    common: usize,
}

impl Default for Chrf {
    fn default() -> Self {
        Self::with_words(0)
    }
}

impl Chrf {
    /// chrF++: also of words and pairs of words.
    pub fn plus_plus() -> Self {
        Self::with_words(2)
    }

    fn with_words(word_order: usize) -> Self {
        Self { word_order, statistics: vec![Counts::default(); CHARACTER_ORDER + word_order] }
    }

    /// Adds a segment; of several references the one that it is closest to counts.
    pub fn add<S: AsRef<str>>(&mut self, prediction: &str, references: &[S]) {
        let mut best: Option<(f64, Vec<Counts>)> = None;
        for reference in references {
            let statistics = self.compare(prediction, reference.as_ref());
            let score = f_score(&statistics);
            if best.as_ref().is_none_or(|(best, _)| score > *best) {
                best = Some((score, statistics));
            }
        }
        if let Some((_, statistics)) = best {
            self.merge(&Self { word_order: self.word_order, statistics });
        }
    }

    /// Adds another corpus of the same kind, so that segments can be counted once and then drawn many times.
    pub fn merge(&mut self, other: &Self) {
        for (sum, counts) in self.statistics.iter_mut().zip(&other.statistics) {
            sum.predicted += counts.predicted;
            sum.reference += counts.reference;
            sum.common += counts.common;
        }
    }

    /// The score, between 0 and 100.
    pub fn score(&self) -> f64 {
        f_score(&self.statistics)
    }

    fn compare(&self, prediction: &str, reference: &str) -> Vec<Counts> {
        let characters = |text| python::split(text).flat_map(str::chars).collect::<Vec<char>>();
        let (a, b) = (characters(prediction), characters(reference));
        let mut statistics: Vec<_> = (1..=CHARACTER_ORDER).map(|n| Counts::of(&a, &b, n)).collect();
        let (a, b) = (words(prediction), words(reference));
        statistics.extend((1..=self.word_order).map(|n| Counts::of(&a, &b, n)));
        statistics
    }
}

impl Counts {
    fn of<T: Ord>(predicted: &[T], reference: &[T], n: usize) -> Self {
        let of_reference = reference.windows(n).count();
        Self {
            // What has no counterpart in the reference at all is not held against the prediction.
            predicted: if of_reference > 0 { predicted.windows(n).count() } else { 0 },
            reference: of_reference,
            common: common(&counts(predicted, n), &counts(reference, n)),
        }
    }
}

/// Words, with a punctuation mark split off the end or, failing that, the beginning.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in python::split(text) {
        let mut back = word.char_indices();
        let (Some((_, first)), Some((last_at, last))) = (back.next(), back.next_back()) else {
            words.push(word);
            continue;
        };
        match (python::is_punctuation(first), python::is_punctuation(last)) {
            (_, true) => words.extend([&word[..last_at], &word[last_at..]]),
            (true, false) => words.extend([&word[..1], &word[1..]]),
            _ => words.push(word),
        }
    }
    words
}

/// The F-score of the mean precision and recall over the orders that both sides have.
fn f_score(statistics: &[Counts]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for counts in statistics.iter().filter(|counts| counts.predicted > 0 && counts.reference > 0) {
        precision += counts.common as f64 / counts.predicted as f64;
        recall += counts.common as f64 / counts.reference as f64;
        orders += 1.0;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / orders, recall / orders);
    100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

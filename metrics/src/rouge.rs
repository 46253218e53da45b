//! ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum as Google's `rouge_score` computes them.
//!
//! Why: summaries are compared by the n-grams and subsequences that they share, and published numbers come from that
//! package (version 0.1.2), whose tokens, stems and double-counting rules are not those of the paper.
//!
//! ```
//! use logitfuse_metrics::rouge::Rouge;
//!
//! let scores = Rouge { stem: true }.score("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.");
//! assert_eq!(scores.rouge_1.precision, 0.75);
//! assert!((scores.rouge_l.fmeasure - 10.0 / 17.0).abs() < 1e-15);
//! ```
//!
//! Tokens are the runs of `a-z0-9` of the text in lower case, stemmed by [`porter`] if longer than three
//! characters. ROUGE-N counts each n-gram as often as both sides have it. ROUGE-L is the longest common subsequence of the
//! whole texts; ROUGE-Lsum splits at `\n` and unites, for each line of the reference, the longest common subsequences
//! with all lines of the prediction. Precision is relative to the prediction, recall to the reference, and the F-measure is
//! their harmonic mean; all are between 0 and 1, and 0 where a side is empty.
//!
//! C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", Text Summarization Branches Out (2004).

mod subsequence;

use std::collections::BTreeMap;

use crate::porter;

/// The metric; `stem` is `use_stemmer` of the Python package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rouge {
    /// Compare stems rather than words.
    pub stem: bool,
}

/// Precision, recall and their harmonic mean, each between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The part of the prediction that is in the reference.
    pub precision: f64,
    /// The part of the reference that is in the prediction.
    pub recall: f64,
    /// The harmonic mean of both.
    pub fmeasure: f64,
}

/// All four scores of one pair of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RougeScores {
    /// Of words.
    pub rouge_1: Score,
    /// Of pairs of words.
    pub rouge_2: Score,
    /// Of the longest common subsequence.
    pub rouge_l: Score,
    /// Of the united longest common subsequences of lines.
    pub rouge_lsum: Score,
}

impl Rouge {
    /// The scores of a prediction against one reference.
    pub fn score(self, reference: &str, prediction: &str) -> RougeScores {
        let (target, predicted) = (self.tokens(reference), self.tokens(prediction));
        RougeScores {
            rouge_1: n_grams(&target, &predicted, 1),
            rouge_2: n_grams(&target, &predicted, 2),
            rouge_l: Score::new(subsequence::length(&target, &predicted), predicted.len(), target.len()),
            rouge_lsum: summary(&self.lines(reference), &self.lines(prediction)),
        }
    }

    /// For each kind of score the one against the reference with the best F-measure (the first of equal ones). Without
    /// references all are 0.
    pub fn score_multi<S: AsRef<str>>(self, references: &[S], prediction: &str) -> RougeScores {
        let scores: Vec<_> = references.iter().map(|reference| self.score(reference.as_ref(), prediction)).collect();
        let best = |of: fn(&RougeScores) -> Score| {
            scores.iter().map(of).reduce(|best, next| if next.fmeasure > best.fmeasure { next } else { best })
        };
        RougeScores {
            rouge_1: best(|s| s.rouge_1).unwrap_or_default(),
            rouge_2: best(|s| s.rouge_2).unwrap_or_default(),
            rouge_l: best(|s| s.rouge_l).unwrap_or_default(),
            rouge_lsum: best(|s| s.rouge_lsum).unwrap_or_default(),
        }
    }

    fn tokens(self, text: &str) -> Vec<String> {
        let lower = text.to_lowercase();
        let words =
            lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty());
        words.map(|word| if self.stem && word.len() > 3 { porter::stem(word) } else { word.to_owned() }).collect()
    }

    fn lines(self, text: &str) -> Vec<Vec<String>> {
        text.split('\n').filter(|line| !line.is_empty()).map(|line| self.tokens(line)).collect()
    }
}

impl Score {
    fn new(hits: usize, predicted: usize, target: usize) -> Self {
        let precision = hits as f64 / predicted.max(1) as f64;
        let recall = hits as f64 / target.max(1) as f64;
        let sum = precision + recall;
        Self { precision, recall, fmeasure: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 } }
    }
}

fn n_grams(target: &[String], predicted: &[String], n: usize) -> Score {
    let mut left: BTreeMap<&[String], usize> = BTreeMap::new();
    for gram in target.windows(n) {
        *left.entry(gram).or_default() += 1;
    }
    let hits = predicted.windows(n).filter(|gram| take_one(&mut left, gram)).count();
    Score::new(hits, predicted.windows(n).count(), target.windows(n).count())
}

/// A summary's score: each token counts at most as often as both summaries have it.
fn summary(target: &[Vec<String>], predicted: &[Vec<String>]) -> Score {
    let count = |lines: &[Vec<String>]| lines.iter().map(Vec::len).sum::<usize>();
    let mut left_of_target = counts(target);
    let mut left_of_predicted = counts(predicted);
    let mut hits = 0;
    for line in target {
        for index in subsequence::united(line, predicted) {
            let token = line[index].as_str();
            if left_of_target[token] > 0 && take_one(&mut left_of_predicted, &token) {
                *left_of_target.entry(token).or_default() -= 1;
                hits += 1;
            }
        }
    }
    Score::new(hits, count(predicted), count(target))
}

fn counts(lines: &[Vec<String>]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for token in lines.iter().flatten() {
        *counts.entry(token.as_str()).or_default() += 1;
    }
    counts
}

/// Takes one of what is left, if anything is.
fn take_one<K: Ord>(left: &mut BTreeMap<K, usize>, key: &K) -> bool {
    match left.get_mut(key) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

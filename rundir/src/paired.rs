//! One row of a comparison: what two variants scored on the same items.

use std::ops::Range;

use logitfuse_core::Result;
use logitfuse_metrics::statistics::{Bootstrap, McNemar, Summary};
use serde::Serialize;
use serde_json::Value;

use crate::CorpusScores;

/// Scores of a corpus are slow to compute on every draw.
const CORPUS_DRAWS: usize = 1000;

/// One paired difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ComparisonRow {
    /// The variant of the first run.
    pub variant_a: String,
    /// The variant of the second run.
    pub variant_b: String,
    /// The task.
    pub task: String,
    /// `metric,filter`.
    pub metric: String,
    /// Items that both have.
    pub n: usize,
    /// The first one's mean over them, or the score that they have together.
    pub a: f64,
    /// The second one's.
    pub b: f64,
    /// b − a.
    pub difference: f64,
    /// 95 % interval of the difference, by a bootstrap over items.
    pub interval: [f64; 2],
    /// Items whose score, of a corpus's metric that of the item alone, is higher in the second run.
    pub higher: usize,
    /// Items whose score is lower there.
    pub lower: usize,
    /// Two-sided, of no difference.
    pub p_value: f64,
    /// After Holm's correction over all rows.
    pub p_holm: f64,
    /// How `p_value` was found.
    pub test: String,
}

/// The row of items that both variants have; each has its score once per repeat. None where there is nothing to compare.
pub(crate) fn row(names: [String; 4], a: &[&[Value]], b: &[&[Value]]) -> Result<Option<ComparisonRow>> {
    let metric = names[3].split(',').next().unwrap_or_default();
    if let (Some(a), Some(b)) = (Corpus::read(metric, a)?, Corpus::read(metric, b)?) {
        return corpus_row(names, &a, &b);
    }
    let means = |(a, b): (&&[Value], &&[Value])| Some((mean(a)?, mean(b)?));
    let (a, b): (Vec<f64>, Vec<f64>) = a.iter().zip(b).filter_map(means).unzip();
    if a.is_empty() { Ok(None) } else { mean_row(names, &a, &b).map(Some) }
}

/// The mean over repeats; none of what is no number.
fn mean(repeats: &[Value]) -> Option<f64> {
    let number = |score: &Value| score.as_f64().or_else(|| score.as_bool().map(|yes| f64::from(u8::from(yes))));
    let numbers: Vec<f64> = repeats.iter().filter_map(number).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// A corpus that is drawn from by item.
struct Corpus {
    scores: CorpusScores,
    /// The samples of each item.
    items: Vec<Range<usize>>,
}

impl Corpus {
    fn read(metric: &str, items: &[&[Value]]) -> Result<Option<Self>> {
        let samples: Vec<&Value> = items.iter().copied().flatten().collect();
        let Some(scores) = CorpusScores::read(metric, &samples)? else { return Ok(None) };
        let mut end = 0;
        let mut span = |item: &&[Value]| {
            let start = end;
            end += item.len();
            start..end
        };
        Ok(Some(Self { scores, items: items.iter().map(&mut span).collect() }))
    }

    fn over(&self, items: &[usize]) -> f64 {
        self.scores.over(items.iter().flat_map(|&item| self.items[item].clone()))
    }
}

fn corpus_row(names: [String; 4], a: &Corpus, b: &Corpus) -> Result<Option<ComparisonRow>> {
    let [variant_a, variant_b, task, metric] = names;
    let all: Vec<usize> = (0..a.items.len()).collect();
    let (value_a, value_b) = (a.over(&all), b.over(&all));
    let difference = value_b - value_a;
    if all.is_empty() || !difference.is_finite() {
        return Ok(None);
    }
    let bootstrap = Bootstrap { draws: CORPUS_DRAWS, ..Bootstrap::default() };
    let mut as_large = 0_usize;
    let draws = bootstrap.distribution(all.len(), |items| {
        let drawn = b.over(items) - a.over(items);
        as_large += usize::from(is_as_large(drawn - difference, difference));
        drawn
    })?;
    let Some(interval) = draws.interval(bootstrap.confidence) else { return Ok(None) };
    let alone = |item: &usize| b.over(&[*item]) - a.over(&[*item]);
    let p_value = share(as_large, &bootstrap);
    Ok(Some(ComparisonRow {
        variant_a,
        variant_b,
        task,
        metric,
        n: all.len(),
        a: value_a,
        b: value_b,
        difference,
        interval: [interval.low, interval.high],
        higher: all.iter().filter(|item| alone(item) > 0.0).count(),
        lower: all.iter().filter(|item| alone(item) < 0.0).count(),
        p_value,
        p_holm: p_value,
        test: "bootstrap of the centred differences of the corpus, two-sided".to_owned(),
    }))
}

fn mean_row([variant_a, variant_b, task, metric]: [String; 4], a: &[f64], b: &[f64]) -> Result<ComparisonRow> {
    let bootstrap = Bootstrap::default();
    let estimate = bootstrap.difference(b, a)?;
    let differences: Vec<f64> = b.iter().zip(a).map(|(b, a)| b - a).collect();
    // Nothing but +0 and 1 has these bits.
    let binary = a.iter().chain(b).all(|score| [0.0_f64, 1.0].map(f64::to_bits).contains(&score.to_bits()));
    let (p_value, test) = if binary {
        let right = |scores: &[f64]| scores.iter().map(|&score| score > 0.5).collect::<Vec<_>>();
        (McNemar::new(&right(a), &right(b))?.p_value, "McNemar's exact test")
    } else {
        (centred(&bootstrap, &differences, estimate.value)?, "bootstrap of the centred differences, two-sided")
    };
    let value = |scores: &[f64]| Summary::of(scores).map_or(0.0, |summary| summary.mean);
    Ok(ComparisonRow {
        variant_a,
        variant_b,
        task,
        metric,
        n: a.len(),
        a: value(a),
        b: value(b),
        difference: estimate.value,
        interval: [estimate.interval.low, estimate.interval.high],
        higher: differences.iter().filter(|&&d| d > 0.0).count(),
        lower: differences.iter().filter(|&&d| d < 0.0).count(),
        p_value,
        p_holm: p_value,
        test: test.to_owned(),
    })
}

/// How often items without a difference would show one as large: differences are drawn after their mean was taken off. The
/// observed ones count as a draw, so that no finite number of draws says "never".
fn centred(bootstrap: &Bootstrap, differences: &[f64], observed: f64) -> Result<f64> {
    let mut as_large = 0_usize;
    bootstrap.distribution(differences.len(), |items| {
        let mean = items.iter().map(|&i| differences[i] - observed).sum::<f64>() / items.len() as f64;
        as_large += usize::from(is_as_large(mean, observed));
        mean
    })?;
    Ok(share(as_large, bootstrap))
}

/// Rounding must not tell a draw from the observation that it repeats.
fn is_as_large(centred: f64, observed: f64) -> bool {
    centred.abs() >= observed.abs() * (1.0 - 1e-12)
}

fn share(as_large: usize, bootstrap: &Bootstrap) -> f64 {
    (as_large as f64 + 1.0) / (bootstrap.draws as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_that_every_item_shows_is_significant_and_none_is_not() {
        let bootstrap = Bootstrap::default();
        let clear: Vec<f64> = (0..50).map(|i| 0.3 + 0.01 * f64::from(i % 7)).collect();
        let mean = clear.iter().sum::<f64>() / 50.0;
        assert!(centred(&bootstrap, &clear, mean).unwrap() <= 1e-4);
        let none: Vec<f64> = (0..50).map(|i| if i % 2 == 0 { 0.1 } else { -0.1 }).collect();
        assert!(centred(&bootstrap, &none, 0.0).unwrap() > 0.99);
        // Normal theory: a mean of 1.96 standard errors has p = 0.05.
        let spread = |x: f64| -> Vec<f64> { (0..200).map(|i| f64::from(i) / 100.0 - 0.995 + x).collect() };
        let error = (200.0_f64.powi(2) - 1.0).sqrt() / 100.0 / 12.0_f64.sqrt() / 200.0_f64.sqrt();
        let p = centred(&bootstrap, &spread(1.96 * error), 1.96 * error).unwrap();
        assert!((p - 0.05).abs() < 0.012, "{p}");
    }

    #[test]
    fn right_and_wrong_are_compared_by_mcnemar_and_anything_else_by_bootstrap() {
        let names = || ["a", "b", "t", "m"].map(str::to_owned);
        let right = mean_row(names(), &[0.0, 0.0, 1.0, 0.0, 0.0], &[1.0, 1.0, 1.0, 1.0, 1.0]).unwrap();
        assert_eq!((right.p_value, right.higher, right.lower, right.n), (0.125, 4, 0, 5));
        assert!((right.difference - 0.8).abs() < 1e-12 && right.test.contains("McNemar"));
        let score = mean_row(names(), &[0.5, 0.25], &[0.5, 1.0]).unwrap();
        assert!(score.test.contains("bootstrap"));
        assert_eq!((score.a, score.b), (0.375, 0.75));
    }

    #[test]
    fn a_corpus_is_compared_as_a_whole_and_drawn_by_item() {
        let names = || ["a", "b", "t", "word_perplexity,none"].map(str::to_owned);
        // Log-probabilities and words: what is longer weighs more than in a mean of the items' own perplexities.
        let parts = |scale: f64| -> Vec<Vec<Value>> {
            (1..=40).map(|n| vec![json!([-scale * f64::from(n) * (1.0 + 0.1 * f64::from(n % 3)), n])]).collect()
        };
        let compared = |a: &[Vec<Value>], b: &[Vec<Value>]| {
            let slices = |all: &[Vec<Value>]| -> Vec<Vec<Value>> { all.to_vec() };
            let (a, b) = (slices(a), slices(b));
            let (a, b): (Vec<&[Value]>, Vec<&[Value]>) =
                (a.iter().map(|x| &**x).collect(), b.iter().map(|x| &**x).collect());
            row(names(), &a, &b).unwrap()
        };
        let better = compared(&parts(1.0), &parts(0.9)).unwrap();
        let rate = (1..=40).map(|n| f64::from(n) * (1.0 + 0.1 * f64::from(n % 3))).sum::<f64>() / 820.0;
        assert!((better.a - rate.exp()).abs() < 1e-9 && (better.b - (0.9 * rate).exp()).abs() < 1e-9, "{better:?}");
        assert!((better.n, better.higher, better.lower) == (40, 0, 40) && better.p_value < 0.002, "{better:?}");
        assert!(better.interval[0] <= better.difference && better.difference <= better.interval[1]);

        let same = compared(&parts(1.0), &parts(1.0)).unwrap();
        assert_eq!((same.difference, same.interval, same.p_value), (0.0, [0.0, 0.0], 1.0));

        // A repeat is drawn with its item: twice the same is as once.
        let twice: Vec<Vec<Value>> = parts(0.9).into_iter().map(|one| [one.clone(), one].concat()).collect();
        let repeated = compared(&parts(1.0), &twice).unwrap();
        assert!((repeated.difference - better.difference).abs() < 1e-9, "{repeated:?}");

        let mut impossible = parts(1.0);
        impossible[3] = vec![json!([null, 4])];
        assert_eq!(compared(&parts(1.0), &impossible), None);
    }
}

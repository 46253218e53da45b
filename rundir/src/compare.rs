//! Two runs side by side, item by item.

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::statistics::{Bootstrap, McNemar, Summary, holm};
use serde::Serialize;
use serde_json::Value;

use crate::{Run, SCHEMA_VERSION, SampleRecord, sha256};

/// What two runs, or two variants of one, differ in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// One row per pair of variants, task and metric.
    pub rows: Vec<ComparisonRow>,
    /// Items that only one of the two runs has; they are in no row.
    pub unpaired: usize,
}

/// One paired difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// The first one's mean over them.
    pub a: f64,
    /// The second one's.
    pub b: f64,
    /// The mean of b − a.
    pub difference: f64,
    /// 95 % interval of the difference, by a bootstrap over items.
    pub interval: [f64; 2],
    /// Items whose score is better in the second run, and worse.
    pub higher: usize,
    /// See `higher`.
    pub lower: usize,
    /// Two-sided, of no difference.
    pub p_value: f64,
    /// After Holm's correction over all rows.
    pub p_holm: f64,
    /// How `p_value` was found.
    pub test: String,
}

/// Scores of one metric by item: their sum over repeats, and how many.
type Scores = BTreeMap<String, (f64, usize)>;

/// `(task, metric)` → scores, of one variant.
#[derive(Default)]
struct Variant {
    scores: BTreeMap<(String, String), Scores>,
    /// What the items are: an id alone does not say that two runs asked the same.
    items: BTreeMap<(String, String), String>,
}

/// Compares paired items. `pairs` names variants of the first run with those of the second; without any, variants of equal
/// name are compared, or the only ones if each run has one.
///
/// Metrics of a whole corpus (BLEU, perplexities) have no score per item and no row.
///
/// # Errors
/// [`ErrorKind::Incompatible`] if nothing can be paired, or an id stands for different items.
pub fn compare(a: &Run, b: &Run, pairs: &[(String, String)]) -> Result<Comparison> {
    let (first, second) = (variants(a)?, variants(b)?);
    let pairs = chosen(a, b, &first, &second, pairs)?;
    let mut comparison = Comparison { schema_version: SCHEMA_VERSION, rows: Vec::new(), unpaired: 0 };
    for (variant_a, variant_b) in pairs {
        let (a_has, b_has) = (&first[&variant_a], &second[&variant_b]);
        for (item, hash) in &a_has.items {
            match b_has.items.get(item) {
                Some(other) if other != hash => {
                    let message = format!("item {} of task {}: not the same in both runs", item.1, item.0);
                    return Err(Error::new(ErrorKind::Incompatible, message)
                        .with_help("compare runs over the same data; `manifest.json` has its sha256"));
                }
                Some(_) => {}
                None => comparison.unpaired += 1,
            }
        }
        comparison.unpaired += b_has.items.keys().filter(|item| !a_has.items.contains_key(*item)).count();
        let mut scored: Vec<_> = a_has.scores.iter().collect();
        scored.sort_by_key(|((task, _), _)| a.manifest().cells.iter().position(|cell| cell.task == *task));
        for ((task, metric), scores) in scored {
            let Some(others) = b_has.scores.get(&(task.clone(), metric.clone())) else { continue };
            let (x, y): (Vec<f64>, Vec<f64>) =
                scores.iter().filter_map(|(item, score)| Some((mean(*score), mean(*others.get(item)?)))).unzip();
            if !x.is_empty() {
                comparison.rows.push(row([&variant_a, &variant_b, task, metric].map(Clone::clone), &x, &y)?);
            }
        }
    }
    if comparison.rows.is_empty() {
        let message =
            format!("{}, {}: no item was scored by the same metric in both", a.path().display(), b.path().display());
        return Err(Error::new(ErrorKind::Incompatible, message).with_help("compare runs of the same tasks"));
    }
    let adjusted = holm(&comparison.rows.iter().map(|row| row.p_value).collect::<Vec<_>>())?;
    for (row, p) in comparison.rows.iter_mut().zip(adjusted) {
        row.p_holm = p;
    }
    Ok(comparison)
}

fn mean((sum, n): (f64, usize)) -> f64 {
    sum / n as f64
}

fn row([variant_a, variant_b, task, metric]: [String; 4], a: &[f64], b: &[f64]) -> Result<ComparisonRow> {
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
        // Rounding must not tell a draw from the observation that it repeats.
        as_large += usize::from(mean.abs() >= observed.abs() * (1.0 - 1e-12));
        mean
    })?;
    Ok((as_large as f64 + 1.0) / (bootstrap.draws as f64 + 1.0))
}

fn variants(run: &Run) -> Result<BTreeMap<String, Variant>> {
    let mut variants: BTreeMap<String, Variant> = BTreeMap::new();
    for sample in run.samples()? {
        let SampleRecord { variant, task, doc_id, doc, target, metrics, .. } = sample?;
        let variant = variants.entry(variant).or_default();
        let item = serde_json::to_string(&(&doc, &target)).unwrap_or_default();
        variant.items.insert((task.clone(), doc_id.clone()), sha256(item.as_bytes()));
        for (metric, score) in metrics {
            let Some(score) = number(&score) else { continue };
            let of = variant.scores.entry((task.clone(), metric)).or_default().entry(doc_id.clone()).or_default();
            *of = (of.0 + score, of.1 + 1);
        }
    }
    Ok(variants)
}

fn number(score: &Value) -> Option<f64> {
    score.as_f64().or_else(|| score.as_bool().map(|yes| f64::from(u8::from(yes))))
}

fn chosen(
    a: &Run,
    b: &Run,
    first: &BTreeMap<String, Variant>,
    second: &BTreeMap<String, Variant>,
    pairs: &[(String, String)],
) -> Result<Vec<(String, String)>> {
    let missing = |run: &Run, name: &str, known: &BTreeMap<String, Variant>| {
        let names: Vec<_> = known.keys().map(String::as_str).collect();
        Error::new(ErrorKind::InvalidConfig, format!("{}: has no variant `{name}`", run.path().display()))
            .with_help(format!("its variants are {}", names.join(", ")))
    };
    for (x, y) in pairs {
        if !first.contains_key(x) {
            return Err(missing(a, x, first));
        }
        if !second.contains_key(y) {
            return Err(missing(b, y, second));
        }
    }
    if !pairs.is_empty() {
        return Ok(pairs.to_vec());
    }
    let mut order: Vec<&str> = Vec::new();
    for cell in &a.manifest().cells {
        if !order.contains(&&*cell.variant) {
            order.push(&cell.variant);
        }
    }
    let equal = order.into_iter().filter(|name| first.contains_key(*name) && second.contains_key(*name));
    let equal: Vec<_> = equal.map(|name| (name.to_owned(), name.to_owned())).collect();
    match (&equal[..], first.len(), second.len()) {
        ([], 1, 1) => Ok(first.keys().cloned().zip(second.keys().cloned()).collect()),
        ([], ..) => Err(Error::new(
            ErrorKind::Incompatible,
            format!("{}, {}: no variant has the same name in both", a.path().display(), b.path().display()),
        )
        .with_help("say which to compare: `--variant A=B`")),
        _ => Ok(equal),
    }
}

#[cfg(test)]
mod tests {
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
        let right = row(names(), &[0.0, 0.0, 1.0, 0.0, 0.0], &[1.0, 1.0, 1.0, 1.0, 1.0]).unwrap();
        assert_eq!((right.p_value, right.higher, right.lower, right.n), (0.125, 4, 0, 5));
        assert!((right.difference - 0.8).abs() < 1e-12 && right.test.contains("McNemar"));
        let score = row(names(), &[0.5, 0.25], &[0.5, 1.0]).unwrap();
        assert!(score.test.contains("bootstrap"));
        assert_eq!((score.a, score.b), (0.375, 0.75));
    }
}

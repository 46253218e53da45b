//! Paired comparison of two runs, item by item.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::statistics::holm;
use serde::Serialize;
use serde_json::Value;

use crate::{ComparisonRow, Run, SCHEMA_VERSION, SampleRecord, paired::row, sha256};

/// What two runs, or two variants of one, differ in.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// One row per pair of variants, task and metric.
    pub rows: Vec<ComparisonRow>,
    /// Items that only one of the two runs has, or in which one of them failed; they are in no row.
    pub unpaired: usize,
    /// Samples of both runs, in the variants that are compared, in which the base went on alone after its strategy's plugin
    /// had failed; they are in the rows.
    pub fallback_samples: usize,
}

/// What one metric wrote of each item, once per repeat.
type Scores = BTreeMap<String, Vec<Value>>;

/// `(task, metric)` → scores, of one variant.
#[derive(Default)]
struct Variant {
    scores: BTreeMap<(String, String), Scores>,
    /// What the items are: an id alone does not say that two runs asked the same.
    items: BTreeMap<(String, String), String>,
    fallback_samples: usize,
}

/// Compares paired items. `pairs` names variants of the first run with those of the second; without any, variants of equal
/// name are compared, or the only ones if each run has one.
///
/// Metrics of a whole corpus (BLEU, chrF, perplexities) are computed anew on every draw of items. One that is not finite in
/// both (an answer that one of them holds for impossible) has no row.
///
/// # Errors
/// [`ErrorKind::Incompatible`] if nothing can be paired, or one id names different items.
pub fn compare(a: &Run, b: &Run, pairs: &[(String, String)]) -> Result<Comparison> {
    let (first, second) = (variants(a)?, variants(b)?);
    let pairs = chosen(a, b, &first, &second, pairs)?;
    let mut tasks: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, cell) in a.manifest().cells.iter().enumerate() {
        tasks.entry(&cell.task).or_insert(place);
    }
    let mut comparison =
        Comparison { schema_version: SCHEMA_VERSION, rows: Vec::new(), unpaired: 0, fallback_samples: 0 };
    for (variant_a, variant_b) in pairs {
        let (a_has, b_has) = (&first[&variant_a], &second[&variant_b]);
        comparison.fallback_samples += a_has.fallback_samples + b_has.fallback_samples;
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
        scored.sort_by_key(|((task, _), _)| tasks.get(&**task));
        for ((task, metric), scores) in scored {
            let Some(others) = b_has.scores.get(&(task.clone(), metric.clone())) else { continue };
            let both: (Vec<&[Value]>, Vec<&[Value]>) =
                scores.iter().filter_map(|(item, score)| Some((&**score, &**others.get(item)?))).unzip();
            let names = [&variant_a, &variant_b, task, metric].map(Clone::clone);
            comparison.rows.extend(row(names, &both.0, &both.1)?);
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

fn variants(run: &Run) -> Result<BTreeMap<String, Variant>> {
    let mut variants: BTreeMap<String, Variant> = BTreeMap::new();
    for sample in run.samples()? {
        let SampleRecord { variant, task, doc_id, doc, target, metrics, error, fallback_tokens, .. } = sample?;
        let variant = variants.entry(variant).or_default();
        variant.fallback_samples += usize::from(fallback_tokens > 0);
        if error.is_some() {
            continue;
        }
        let item = serde_json::to_string(&(&doc, &target)).unwrap_or_default();
        variant.items.insert((task.clone(), doc_id.clone()), sha256(item.as_bytes()));
        for (metric, score) in metrics {
            variant.scores.entry((task.clone(), metric)).or_default().entry(doc_id.clone()).or_default().push(score);
        }
    }
    Ok(variants)
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
    let mut known = BTreeSet::new();
    let order = a.manifest().cells.iter().map(|cell| &*cell.variant).filter(|name| known.insert(*name));
    let equal = order.filter(|name| first.contains_key(*name) && second.contains_key(*name));
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

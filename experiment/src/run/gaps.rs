//! `[gap]`: how much of the way from one variant to another the others went.

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::{
    gap::{GapScores, gap_closed},
    statistics::Bootstrap,
};
use logitfuse_rundir::{GapRecord, SampleRecord};

use super::summary::Cells;
use crate::{Experiment, GapConfig};

/// Scores by the item's index.
type Scores = BTreeMap<usize, f64>;

/// Scores of the same items by three variants.
struct Paired {
    fused: Vec<f64>,
    base: Vec<f64>,
    ceiling: Vec<f64>,
}

/// One record per variant and task, and one for the mean over the tasks where there are several.
pub(super) fn gaps(experiment: &Experiment, cells: &Cells<'_>) -> Result<Vec<GapRecord>> {
    let Some(gap) = experiment.gap() else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    for variant in experiment.variants().iter().filter(|name| **name != gap.base && **name != gap.ceiling) {
        let mut of_tasks = Vec::new();
        for work in cells.work.iter().filter(|work| work.cell.variant == *variant) {
            let task = &work.cell.task;
            let Some(metric) = gap.metric.of(task) else { continue };
            let paired = paired(cells, gap, variant, task, metric)?;
            let record = record(gap, variant, task, metric, &paired)?;
            of_tasks.push((record, paired));
        }
        let mean = (of_tasks.len() > 1).then(|| mean(gap, variant, &of_tasks)).transpose()?;
        records.extend(of_tasks.into_iter().map(|(record, _)| record));
        records.extend(mean);
    }
    Ok(records)
}

fn record(gap: &GapConfig, variant: &str, task: &str, metric: &str, paired: &Paired) -> Result<GapRecord> {
    let mut record = GapRecord {
        variant: variant.to_owned(),
        task: task.to_owned(),
        metric: metric.to_owned(),
        base: gap.base.clone(),
        ceiling: gap.ceiling.clone(),
        n: paired.fused.len(),
        value: None,
        interval: None,
        ratio_to_ceiling: None,
    };
    if record.n == 0 {
        return Ok(record);
    }
    let scores = GapScores { fused: &paired.fused, base: &paired.base, tuned: &paired.ceiling };
    let closed = gap_closed(scores, &Bootstrap::default())?;
    record.value = closed.recovered.map(|recovered| recovered.value);
    record.interval = closed.recovered.map(|recovered| [recovered.interval.low, recovered.interval.high]);
    record.ratio_to_ceiling = closed.ratio_to_ceiling;
    Ok(record)
}

/// The mean of the tasks' values, where all of them have one; its interval draws items within every task.
fn mean(gap: &GapConfig, variant: &str, of_tasks: &[(GapRecord, Paired)]) -> Result<GapRecord> {
    let count = of_tasks.len() as f64;
    let average = |value: fn(&GapRecord) -> Option<f64>| {
        let values: Option<Vec<f64>> = of_tasks.iter().map(|(record, _)| value(record)).collect();
        values.map(|values| values.iter().sum::<f64>() / count)
    };
    let metrics: Vec<&str> = of_tasks.iter().map(|(record, _)| record.metric.as_str()).collect();
    let same = metrics.iter().all(|metric| *metric == metrics[0]);
    let value = average(|record| record.value);
    let interval = match value {
        Some(_) => interval_of_mean(of_tasks.iter().map(|(_, paired)| paired))?,
        None => None,
    };
    Ok(GapRecord {
        variant: variant.to_owned(),
        task: "mean".to_owned(),
        metric: if same { metrics[0].to_owned() } else { "several".to_owned() },
        base: gap.base.clone(),
        ceiling: gap.ceiling.clone(),
        n: of_tasks.len(),
        value,
        interval,
        ratio_to_ceiling: average(|record| record.ratio_to_ceiling),
    })
}

fn interval_of_mean<'p>(tasks: impl Iterator<Item = &'p Paired>) -> Result<Option<[f64; 2]>> {
    let bootstrap = Bootstrap::default();
    let mut sums = vec![0.0; bootstrap.draws];
    let mut count = 0.0;
    for (seed, paired) in tasks.enumerate() {
        count += 1.0;
        let mut draw = sums.iter_mut();
        // Every task has draws of its own.
        Bootstrap { seed: seed as u64, ..bootstrap }.distribution(paired.fused.len(), |items| {
            let sum = |scores: &[f64]| items.iter().map(|&i| scores[i]).sum::<f64>();
            let base = sum(&paired.base);
            let closed = (sum(&paired.fused) - base) / (sum(&paired.ceiling) - base);
            if let Some(sum) = draw.next() {
                *sum += closed;
            }
            closed
        })?;
    }
    let mut means = sums.into_iter().map(|sum| sum / count);
    let interval = bootstrap.interval(1, |_| means.next().unwrap_or(f64::NAN))?;
    Ok(interval.map(|interval| [interval.low, interval.high]))
}

fn paired(cells: &Cells<'_>, gap: &GapConfig, variant: &str, task: &str, metric: &str) -> Result<Paired> {
    let [fused, base, ceiling] = [variant, &gap.base, &gap.ceiling].map(|name| scores(cells, name, task, metric));
    let (fused, base, ceiling) = (fused?, base?, ceiling?);
    let mut paired = Paired { fused: Vec::new(), base: Vec::new(), ceiling: Vec::new() };
    for (item, score) in fused {
        if let (Some(&base), Some(&ceiling)) = (base.get(&item), ceiling.get(&item)) {
            paired.fused.push(score);
            paired.base.push(base);
            paired.ceiling.push(ceiling);
        }
    }
    Ok(paired)
}

fn scores(cells: &Cells<'_>, variant: &str, task: &str, metric: &str) -> Result<Scores> {
    let wrong = |message: String, help: String| Err(Error::new(ErrorKind::InvalidConfig, message).with_help(help));
    let place = cells.work.iter().position(|work| work.cell.variant == variant && work.cell.task == task);
    let Some(place) = place else {
        return wrong(
            format!("gap: variant `{variant}` has no task `{task}`"),
            "name variants of this experiment in [gap]".to_owned(),
        );
    };
    let samples = &cells.samples[place];
    let score = |sample: &SampleRecord| Some((sample.doc_index, sample.metrics.get(metric)?.as_f64()?));
    let scores: Scores = samples.iter().filter_map(score).collect();
    if let (true, Some(sample)) = (scores.is_empty(), samples.iter().find(|sample| !sample.metrics.is_empty())) {
        let known: Vec<&str> = sample.metrics.keys().map(String::as_str).collect();
        return wrong(
            format!("gap.metric: the items of task `{task}` have no number `{metric}`"),
            format!("they have {}; metrics of a whole corpus have no gap", known.join(", ")),
        );
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(right: usize, of: usize) -> Vec<f64> {
        (0..of).map(|i| f64::from(u8::from(i < right))).collect()
    }

    #[test]
    fn the_mean_of_gaps_has_an_interval_of_its_own() {
        let gap = GapConfig { base: "L".into(), ceiling: "T".into(), metric: crate::GapMetric::All("em,none".into()) };
        let of_tasks: Vec<_> = [("qa", 60), ("sum", 80)]
            .map(|(task, fused)| {
                let paired = Paired { fused: items(fused, 100), base: items(20, 100), ceiling: items(100, 100) };
                (record(&gap, "x", task, "em,none", &paired).unwrap(), paired)
            })
            .into();
        let mean = mean(&gap, "x", &of_tasks).unwrap();
        assert!((mean.value.unwrap() - 0.625).abs() < 1e-12);
        let [low, high] = mean.interval.unwrap();
        let widths: Vec<f64> = of_tasks.iter().map(|(of, _)| of.interval.map(|[a, b]| b - a).unwrap()).collect();
        assert!(low < 0.625 && 0.625 < high && high - low < widths[0].min(widths[1]), "two tasks say more than one");
        assert_eq!((mean.n, mean.metric.as_str()), (2, "em,none"));
    }
}

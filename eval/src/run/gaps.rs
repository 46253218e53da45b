//! `[gap]`: how much of the way from one system to another the variants went.

use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::{
    gap::{GapScores, gap_closed, mean_gap_closed},
    statistics::Bootstrap,
};
use logitfuse_rundir::{GapRecord, SampleRecord};

use super::{Work, cells::Cells, external_scores::ExternalScores};
use logitfuse_config::{Experiment, GapConfig};

/// Scores by the item's index.
type Scores = BTreeMap<usize, f64>;

/// Scores of the same items by three variants.
struct Paired {
    fused: Vec<f64>,
    base: Vec<f64>,
    ceiling: Vec<f64>,
}

impl Paired {
    fn scores(&self) -> GapScores<'_> {
        GapScores { fused: &self.fused, base: &self.base, tuned: &self.ceiling }
    }
}

/// Both ends of the gap at every task that has one, before anything is run: a mistyped name is an error now.
pub(super) fn check(experiment: &Experiment, work: &[Work]) -> Result<()> {
    let Some((gap, external_scores)) = ends(experiment)? else { return Ok(()) };
    let Some(external_scores) = &external_scores else { return Ok(()) };
    for name in [&gap.base, &gap.ceiling].into_iter().filter(|name| !experiment.variants().contains(*name)) {
        for work in work.iter().filter(|work| gap.metric.of(&work.cell.task).is_some()) {
            external_scores.scores(name, &work.cell.task)?;
        }
    }
    Ok(())
}

fn ends(experiment: &Experiment) -> Result<Option<(&GapConfig, Option<ExternalScores>)>> {
    let Some(gap) = experiment.gap() else { return Ok(None) };
    let external_scores = gap.scores.as_deref().map(ExternalScores::read).transpose()?;
    Ok(Some((gap, external_scores)))
}

/// One record per variant and task, and one for the mean over the tasks where there are several.
pub(super) fn gaps(experiment: &Experiment, cells: &Cells<'_>) -> Result<Vec<GapRecord>> {
    let Some((gap, external_scores)) = ends(experiment)? else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    for variant in experiment.variants().iter().filter(|name| **name != gap.base && **name != gap.ceiling) {
        let mut of_tasks = Vec::new();
        for (place, work) in cells.work.iter().enumerate().filter(|(_, work)| work.cell.variant == *variant) {
            let Some(metric) = gap.metric.of(&work.cell.task) else { continue };
            let end = |name: &str| match cells.place(name, &work.cell.task) {
                Some(place) => scores(cells, place, metric),
                None => external(external_scores.as_ref(), name, work),
            };
            let paired = paired(&scores(cells, place, metric)?, &end(&gap.base)?, &end(&gap.ceiling)?);
            let record = record(gap, variant, &work.cell.task, metric, &paired)?;
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
    let closed = gap_closed(paired.scores(), &Bootstrap::default())?;
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
    let scores: Vec<GapScores<'_>> = of_tasks.iter().map(|(_, paired)| paired.scores()).collect();
    let closed = if scores.iter().any(|scores| scores.fused.is_empty()) {
        None
    } else {
        mean_gap_closed(&scores, &Bootstrap::default())?
    };
    Ok(GapRecord {
        variant: variant.to_owned(),
        task: "mean".to_owned(),
        metric: if same { metrics[0].to_owned() } else { "several".to_owned() },
        base: gap.base.clone(),
        ceiling: gap.ceiling.clone(),
        n: of_tasks.len(),
        value: closed.map(|closed| closed.value),
        interval: closed.map(|closed| [closed.interval.low, closed.interval.high]),
        ratio_to_ceiling: average(|record| record.ratio_to_ceiling),
    })
}

fn paired(fused: &Scores, base: &Scores, ceiling: &Scores) -> Paired {
    let mut paired = Paired { fused: Vec::new(), base: Vec::new(), ceiling: Vec::new() };
    for (item, &score) in fused {
        if let (Some(&base), Some(&ceiling)) = (base.get(item), ceiling.get(item)) {
            paired.fused.push(score);
            paired.base.push(base);
            paired.ceiling.push(ceiling);
        }
    }
    paired
}

fn external(external_scores: Option<&ExternalScores>, name: &str, work: &Work) -> Result<Scores> {
    let task = &work.cell.task;
    let Some(external_scores) = external_scores else {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("gap: variant `{name}` has no task `{task}`"))
            .with_help("name variants of this experiment in [gap], or give `scores`"));
    };
    let by_id = external_scores.scores(name, task)?;
    Ok(work.task.docs().iter().filter_map(|doc| Some((doc.index, *by_id.get(doc.id.as_str())?))).collect())
}

fn scores(cells: &Cells<'_>, place: usize, metric: &str) -> Result<Scores> {
    let samples = &cells.samples[place];
    let score = |sample: &SampleRecord| Some((sample.doc_index, sample.metrics.get(metric)?.as_f64()?));
    let scores: Scores = samples.iter().filter_map(score).collect();
    if let (true, Some(sample)) = (scores.is_empty(), samples.iter().find(|sample| !sample.metrics.is_empty())) {
        let known: Vec<&str> = sample.metrics.keys().map(String::as_str).collect();
        let task = &cells.work[place].cell.task;
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("gap.metric: the items of task `{task}` have no number `{metric}`"),
        )
        .with_help(format!("they have {}; metrics of a whole corpus have no gap", known.join(", "))));
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
        let gap = GapConfig {
            base: "L".into(),
            ceiling: "T".into(),
            metric: logitfuse_config::GapMetric::All("em,none".into()),
            scores: None,
        };
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

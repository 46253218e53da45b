//! From scores of items to the figures of a task.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::{
    filter::FilterPipeline,
    statistics::{Bootstrap, Interval, Summary, wilson},
};
use logitfuse_rundir::{CorpusScores, MetricRecord, SampleRecord};
use serde_json::Value;

use super::{Task, metric::higher_is_better};

/// Scores of a corpus are slow to compute on every draw.
const CORPUS_DRAWS: usize = 1000;

/// What a metric says of all items.
struct Figure {
    value: Option<f64>,
    stderr: Option<f64>,
    interval: Option<Interval>,
    method: String,
}

impl Task {
    /// The task's figures over the samples of one variant, one per metric and filter. Samples that carry no score (an
    /// earlier one of several answers) are none of the items.
    ///
    /// Means have their standard error (n − 1) and Wilson's interval if every item is right or wrong, else that of a
    /// bootstrap over items; so do scores of a corpus.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] where a sample's score is not what this task's metric writes.
    pub fn aggregate(&self, variant: &str, samples: &[&SampleRecord]) -> Result<Vec<MetricRecord>> {
        let mut records = Vec::new();
        for filter in self.filter_names() {
            for name in &self.names {
                let key = format!("{name},{filter}");
                let scores: Vec<&Value> = samples.iter().filter_map(|sample| sample.metrics.get(&key)).collect();
                let mut figure = figure(name, &scores).map_err(|e| e.context(format!("tasks.{}: {key}", self.name)))?;
                let masked = scores.iter().filter(|score| is_impossible(score)).count();
                if masked > 0 {
                    figure.method = format!("none: {masked} of {} targets have no probability at all", scores.len());
                }
                records.push(MetricRecord {
                    variant: variant.to_owned(),
                    task: self.name.clone(),
                    metric: name.clone(),
                    filter: filter.to_owned(),
                    n: scores.len(),
                    value: figure.value.filter(|value| value.is_finite()),
                    stderr: figure.stderr.filter(|stderr| stderr.is_finite()),
                    interval: figure.interval.map(|i| [i.low, i.high]).filter(|i| i.iter().all(|end| end.is_finite())),
                    interval_method: figure.method,
                    higher_is_better: higher_is_better(name),
                });
            }
        }
        Ok(records)
    }

    pub(super) fn filter_names(&self) -> Vec<&str> {
        if self.filters.is_empty() { vec!["none"] } else { self.filters.iter().map(FilterPipeline::name).collect() }
    }
}

fn figure(metric: &str, scores: &[&Value]) -> Result<Figure> {
    if let Some(parts) = CorpusScores::read(metric, scores)? {
        return corpus(scores.len(), |items| parts.over(items.iter().copied()));
    }
    let number = |score: &&Value| {
        score.as_f64().ok_or_else(|| {
            Error::new(ErrorKind::InvalidData, format!("{score} is not what this metric writes"))
                .with_help("the samples are those of another task; run it into another directory")
        })
    };
    mean(&scores.iter().map(number).collect::<Result<Vec<_>>>()?)
}

/// Whether a score is made of a log-likelihood that is no number: the strategy masks a token of the target.
fn is_impossible(score: &Value) -> bool {
    score.get(0).is_some_and(Value::is_null)
}

fn mean(scores: &[f64]) -> Result<Figure> {
    let summary = Summary::of(scores);
    #[expect(clippy::float_cmp, reason = "scores that are right or wrong are exactly 1 or 0")]
    let right_or_wrong = scores.iter().all(|&score| score == 0.0 || score == 1.0);
    let (interval, method) = if scores.is_empty() {
        (None, "none: no items".to_owned())
    } else if right_or_wrong {
        let right = scores.iter().filter(|&&score| score > 0.5).count();
        (wilson(right, scores.len(), 0.95)?, "Wilson".to_owned())
    } else {
        let bootstrap = Bootstrap::default();
        (Some(bootstrap.mean(scores)?.interval), words(&bootstrap))
    };
    Ok(Figure { value: summary.map(|s| s.mean), stderr: summary.and_then(|s| s.stderr), interval, method })
}

fn corpus(items: usize, mut statistic: impl FnMut(&[usize]) -> f64) -> Result<Figure> {
    if items == 0 {
        return Ok(Figure { value: None, stderr: None, interval: None, method: "none: no items".to_owned() });
    }
    let value = statistic(&(0..items).collect::<Vec<_>>());
    let bootstrap = Bootstrap { draws: CORPUS_DRAWS, ..Bootstrap::default() };
    let distribution = bootstrap.distribution(items, statistic)?;
    Ok(Figure {
        value: Some(value),
        stderr: distribution.stderr(),
        interval: distribution.interval(bootstrap.confidence),
        method: words(&bootstrap),
    })
}

fn words(bootstrap: &Bootstrap) -> String {
    format!("bootstrap over items, {} draws", bootstrap.draws)
}

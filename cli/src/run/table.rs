//! `metrics.json` as text tables.

use std::fmt::Write;

use logitfuse_rundir::{FailureRecord, GapRecord, MetricRecord, Metrics};

use crate::table::TextTable;

/// A block per task and metric, a line per variant; columns are aligned.
pub(crate) fn table(metrics: &Metrics) -> String {
    let mut text = String::new();
    if let Some(limit) = metrics.limit {
        let _ = writeln!(text, "limited to {limit} items a task: not for reporting\n");
    }
    for sentence in metrics.failures.iter().flat_map(FailureRecord::sentences) {
        let _ = writeln!(text, "{sentence}");
    }
    if !metrics.failures.is_empty() {
        text.push('\n');
    }
    let width = metrics.metrics.iter().map(|record| record.variant.chars().count()).max().unwrap_or(0);
    let mut blocks: Vec<(&str, &str, &str)> = Vec::new();
    for record in &metrics.metrics {
        let block = (&*record.task, &*record.metric, &*record.filter);
        if !blocks.contains(&block) {
            blocks.push(block);
        }
    }
    for (task, metric, filter) in blocks {
        let of_block =
            |record: &&MetricRecord| (&*record.task, &*record.metric, &*record.filter) == (task, metric, filter);
        let records: Vec<&MetricRecord> = metrics.metrics.iter().filter(of_block).collect();
        let name = format!("{metric},{filter}");
        let mut head = format!("{task}: {metric}");
        if filter != "none" {
            let _ = write!(head, " of filter {filter}");
        }
        let Some(first) = records.first() else { continue };
        let better = if first.higher_is_better { "" } else { ", less is better" };
        let interval_by = match first.interval_method.as_str() {
            "" => "no interval".to_owned(),
            method => format!("95 % interval: {method}"),
        };
        let _ = writeln!(text, "{head} (n = {}{better}; {interval_by})", first.n);
        let digits = digits(records.iter().filter_map(|record| record.value));
        let rows = records.iter().map(|record| {
            let gap = metrics
                .gaps
                .iter()
                .find(|gap| (&*gap.variant, &*gap.task, &*gap.metric) == (&record.variant, task, &name));
            [
                record.variant.clone(),
                number(record.value, digits),
                interval(record.interval, digits),
                gap.map_or(String::new(), said),
            ]
        });
        // Blocks are aligned with each other.
        let table = TextTable::new(rows).right(1..2).at_least(0, width).at_least(1, 10).at_least(2, 22).indented(2);
        let _ = write!(text, "{table}");
        text.push('\n');
    }
    let means: Vec<&GapRecord> = metrics.gaps.iter().filter(|gap| gap.task == "mean").collect();
    if !means.is_empty() {
        let _ = writeln!(text, "gap closed, mean over tasks");
        let rows = means.iter().map(|gap| [gap.variant.clone(), said(gap)]);
        let _ = write!(text, "{}", TextTable::new(rows).at_least(0, width).indented(2));
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn said(gap: &GapRecord) -> String {
    match gap.value {
        Some(value) => format!("gap closed {value:.3} {}", interval(gap.interval, 3)),
        None => "gap not defined".to_owned(),
    }
}

/// Shares need four digits after the point, perplexities fewer.
fn digits(values: impl Iterator<Item = f64>) -> usize {
    let largest = values.filter(|value| value.is_finite()).map(f64::abs).fold(0.0, f64::max);
    match largest {
        x if x < 10.0 => 4,
        x if x < 1000.0 => 2,
        _ => 0,
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn interval(interval: Option<[f64; 2]>, digits: usize) -> String {
    interval.map_or(String::new(), |[low, high]| format!("[{low:.digits$}, {high:.digits$}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_limits_are_said() {
        let record = |variant: &str, value: f64| MetricRecord {
            variant: variant.into(),
            task: "qa".into(),
            metric: "exact_match".into(),
            filter: "none".into(),
            n: 8,
            value: Some(value),
            stderr: None,
            interval: Some([value - 0.1, value + 0.1]),
            interval_method: "Wilson".into(),
            higher_is_better: true,
        };
        let gap = GapRecord {
            variant: "static[alpha=1]".into(),
            task: "qa".into(),
            metric: "exact_match,none".into(),
            base: "large".into(),
            ceiling: "tuned".into(),
            n: 8,
            value: Some(0.5),
            interval: Some([0.25, 0.75]),
            ratio_to_ceiling: None,
        };
        let failure = FailureRecord {
            variant: "static[alpha=1]".into(),
            task: "qa".into(),
            samples: 9,
            failed: 1,
            fallback_samples: 2,
            fallback_tokens: 17,
            first: Some("item 4: plugin x/y: fuse at position 0: entry 1 is NaN".into()),
        };
        let metrics = Metrics {
            schema_version: 1,
            identity_sha256: String::new(),
            complete: true,
            limit: Some(8),
            metrics: vec![record("large", 0.125), record("static[alpha=1]", 0.5)],
            gaps: vec![gap],
            failures: vec![failure],
        };
        assert_eq!(
            table(&metrics),
            "limited to 8 items a task: not for reporting\n\n\
             static[alpha=1] × qa: 1 of 9 samples failed and have no score, the first is \
             item 4: plugin x/y: fuse at position 0: entry 1 is NaN\n\
             static[alpha=1] × qa: the plugin failed in 2 of 9 samples, where 17 tokens are those of the base alone\n\n\
             qa: exact_match (n = 8; 95 % interval: Wilson)\n  \
             large                0.1250  [0.0250, 0.2250]\n  \
             static[alpha=1]      0.5000  [0.4000, 0.6000]        gap closed 0.500 [0.250, 0.750]"
        );
    }
}

//! Metrics: the table.

use serde::{Deserialize, Serialize};

/// `metrics.json`. It is a function of the samples: two runs with equal samples have equal bytes here.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Metrics {
    /// [`SCHEMA_VERSION`](crate::SCHEMA_VERSION).
    pub schema_version: u32,
    /// sha256 of the manifest's [`Identity`](crate::Identity).
    pub identity_sha256: String,
    /// Whether every sample is there. A limited run is complete when the limit is reached, and says so in `limit`.
    pub complete: bool,
    /// The items a task that `--limit` asked for: figures of such a run are not for reporting.
    pub limit: Option<usize>,
    /// One entry per variant, task, metric and filter; variants and tasks in the experiment's order.
    pub metrics: Vec<MetricRecord>,
    /// How much of the way from the base to the ceiling each variant went, where the experiment names them.
    pub gaps: Vec<GapRecord>,
}

/// One cell of the table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct MetricRecord {
    /// The variant.
    pub variant: String,
    /// The task.
    pub task: String,
    /// The metric: `exact_match`, `acc_norm`, `rouge2`, …
    pub metric: String,
    /// The filter whose answers were scored; `none` is the text as it is.
    pub filter: String,
    /// Items.
    pub n: usize,
    /// The value; null where it is not defined.
    pub value: Option<f64>,
    /// Standard error of the mean, n − 1, where the metric is a mean.
    pub stderr: Option<f64>,
    /// 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// How the interval was made, in words.
    pub interval_method: String,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// `(variant − base) / (ceiling − base)` on the same items.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct GapRecord {
    /// The variant.
    pub variant: String,
    /// The task, or `mean` for the mean over the tasks.
    pub task: String,
    /// The metric and filter, as `metric,filter`.
    pub metric: String,
    /// The variant whose score is 0.
    pub base: String,
    /// The variant whose score is 1.
    pub ceiling: String,
    /// Items, or tasks for `mean`.
    pub n: usize,
    /// The share that was closed, not clamped; null where the ceiling is not clearly above the base.
    pub value: Option<f64>,
    /// 95 % interval, by a bootstrap that draws items of all three together.
    pub interval: Option<[f64; 2]>,
    /// The paper's ratio variant / ceiling, which flatters a base that is good already.
    pub ratio_to_ceiling: Option<f64>,
}

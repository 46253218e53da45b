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
    /// The variants and tasks in which a strategy's plugin failed, in the experiment's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureRecord>,
}

/// How often a strategy's plugin failed in one cell.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FailureRecord {
    /// The variant.
    pub variant: String,
    /// The task.
    pub task: String,
    /// Samples in all.
    pub samples: usize,
    /// Samples that failed. Neither they nor the items that they belong to have scores.
    pub failed: usize,
    /// Samples in which the base went on alone; they are scored as they are.
    pub fallback_samples: usize,
    /// The tokens that are the base's in these.
    pub fallback_tokens: usize,
    /// The first sample that failed, and why: `item 7: plugin …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl FailureRecord {
    /// What happened, in words; a sentence for samples that failed, and one for those of the base.
    ///
    /// ```
    /// use logitfuse_rundir::FailureRecord;
    ///
    /// let (variant, task, first) = ("steered".to_owned(), "qa".to_owned(), Some("item 7: plugin x/y: fuse: no".to_owned()));
    /// let record =
    ///     FailureRecord { variant, task, samples: 40, failed: 3, fallback_samples: 0, fallback_tokens: 0, first };
    /// assert_eq!(
    ///     record.sentences(),
    ///     ["steered × qa: 3 of 40 samples failed and have no score, the first is item 7: plugin x/y: fuse: no"]
    /// );
    /// ```
    pub fn sentences(&self) -> Vec<String> {
        let Self { variant, task, samples, failed, fallback_samples, fallback_tokens, first } = self;
        let mut sentences = Vec::new();
        if *failed > 0 {
            let first = first.as_ref().map_or(String::new(), |first| format!(", the first is {first}"));
            sentences
                .push(format!("{variant} × {task}: {failed} of {samples} samples failed and have no score{first}"));
        }
        if *fallback_samples > 0 {
            sentences.push(format!(
                "{variant} × {task}: the plugin failed in {fallback_samples} of {samples} samples, where \
                 {fallback_tokens} tokens are those of the base alone"
            ));
        }
        sentences
    }
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

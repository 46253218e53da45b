//! What an experiment says of all its variants and tasks together.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// `[gap]`: what stands for 0 and for 1 when it is asked how much of a gap was closed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GapConfig {
    /// The variant that 0 stands for, such as the large model alone.
    pub base: String,
    /// The variant that 1 stands for, such as the large model after tuning.
    pub ceiling: String,
    /// Scores of systems that are not here, such as a tuned model whose weights do not ship: `base` and `ceiling` may name
    /// methods of this file. JSON lines with `task`, `method`, `ids` and, as many, `scores`; relative to the TOML.
    #[schemars(extend("format" = "path"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<PathBuf>,
    /// The metric and its filter, as `metric,filter`: one for all tasks, or one each.
    pub metric: GapMetric,
}

/// The metric of `[gap]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum GapMetric {
    /// The same for every task.
    All(String),
    /// One per task; tasks that are absent have no gap.
    PerTask(BTreeMap<String, String>),
}

impl GapMetric {
    /// The metric of a task, as `metric,filter`.
    pub fn of(&self, task: &str) -> Option<&str> {
        match self {
            Self::All(metric) => Some(metric),
            Self::PerTask(metrics) => metrics.get(task).map(String::as_str),
        }
    }
}

impl<'de> Deserialize<'de> for GapMetric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would lose the position of what is wrong.
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = GapMetric;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"metric,filter\", or a table of them by task")
            }
            fn visit_str<E: de::Error>(self, metric: &str) -> Result<GapMetric, E> {
                Ok(GapMetric::All(metric.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<GapMetric, A::Error> {
                BTreeMap::deserialize(de::value::MapAccessDeserializer::new(map)).map(GapMetric::PerTask)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `[[expect]]`: what must hold of a result. A run where it does not hold ends with exit status 1.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectConfig {
    /// The variant; that of a sweep means all its points.
    pub variant: String,
    /// The task; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The metric and its filter, as `metric,filter`.
    pub metric: String,
    /// The value must not be below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The value must not be above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// At least this share of the gap must be closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_at_least: Option<f64>,
}

//! Run directories: the files of an evaluation run, and what can be computed from them without a model.
//!
//! # Why this crate exists
//!
//! Writing and reading a run are separate processes: a run is killed and resumed, is split over machines, is compared with
//! an earlier one, becomes a report. They share a directory, so its files are described once, here, without an engine and
//! without ONNX Runtime.
//!
//! | file | holds | written |
//! |---|---|---|
//! | `resolved.toml` | the experiment with everything that it inherits | once |
//! | `manifest.json` | [`Manifest`]: what the result depends on, by hash, and the machine | once |
//! | `samples.jsonl` | a [`SampleRecord`] a line: the unit of resumption | appended and flushed as each finishes |
//! | `timings.jsonl` | a [`TimingRecord`] a line; apart from the samples, so that equal runs have equal samples | with each sample |
//! | `forecasts.jsonl` | a [`Forecast`] a line, where tokens are drafted: the timed costs | as each variant begins with a task |
//! | `metrics.json` | [`Metrics`], computed from the samples alone | atomically, at the end |
//! | `report.html` | the picture | at the end |
//!
//! [`RunDir`] writes them, one process at a time; [`Run`] reads them, also while they are written. [`merge`] makes one run
//! of the shards of several machines, [`compare`] says in what two runs differ and how sure that is.
//!
//! # What can happen to a run
//!
//! | what | what becomes of it |
//! |---|---|
//! | killed at any moment | the line that was being written is cut off, everything before it stays |
//! | the disk is full, the directory read-only | an error; all finished samples stay |
//! | started again | goes on after the last sample |
//! | started again with another model, file of data or version | refused, with what differs |
//! | started twice at once | the second is refused |
//! | a line in the middle is damaged | an error with its number |

#![forbid(unsafe_code)]

mod compare;
mod corpus;
mod difference;
mod directory;
mod files;
mod forecast;
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod manifest;
mod merge;
mod metrics;
mod paired;
mod run;
mod sample;
mod saturation;

pub use compare::{Comparison, compare};
pub use corpus::CorpusScores;
pub use difference::{Difference, StoredSample};
pub use directory::RunDir;
pub use files::{sha256, sha256_of_file};
pub use forecast::Forecast;
pub use logitfuse_core::{DraftStats, RoundCosts};
pub use manifest::{CellPlan, FileRecord, Identity, Manifest, SCHEMA_VERSION, Scope, Shard};
pub use merge::{merge, missing};
pub use metrics::{FailureRecord, GapRecord, MetricRecord, Metrics};
pub use paired::ComparisonRow;
pub use run::Run;
pub use sample::{BindingToken, Response, SampleRecord, SourceTiming, TimingRecord, TokenRecord, TopLogprob};
pub use saturation::Saturation;

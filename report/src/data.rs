//! A run directory as the report needs it: everything at once.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::{DraftStats, Forecast, Manifest, Metrics, Run, SampleRecord, TimingRecord};

/// All files of a run directory.
pub(crate) struct Data {
    /// The directory's name: what the reader knows the run by.
    pub(crate) title: String,
    pub(crate) manifest: Manifest,
    pub(crate) metrics: Metrics,
    /// `resolved.toml`.
    pub(crate) config: String,
    pub(crate) samples: Vec<SampleRecord>,
    /// Empty where a run has none: times are the one part that a report can do without.
    pub(crate) timings: Vec<TimingRecord>,
    /// Of every variant and task with drafts.
    pub(crate) drafting: Vec<(Forecast, DraftStats)>,
}

impl Data {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let run = Run::open(dir)?;
        let metrics = run.metrics()?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{}: the run is not finished: no metrics.json", dir.display()))
                .with_help("start the same `logitfuse run` again: it goes on where it stopped")
        })?;
        let named = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let title = named.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
        let timed = dir.join("timings.jsonl").exists();
        let timings = if timed { run.timings()?.collect::<Result<_>>()? } else { vec![] };
        Ok(Self {
            title,
            manifest: run.manifest().clone(),
            metrics,
            config: run.resolved()?,
            samples: run.samples()?.collect::<Result<_>>()?,
            timings,
            drafting: if timed { run.drafting()? } else { vec![] },
        })
    }

    /// Samples of one cell that keep a trace.
    pub(crate) fn traced<'a>(&'a self, variant: &'a str, task: &'a str) -> impl Iterator<Item = &'a SampleRecord> {
        self.samples.iter().filter(move |sample| {
            sample.variant == variant && sample.task == task && sample.responses.iter().any(|r| !r.trace.is_empty())
        })
    }
}

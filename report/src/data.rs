//! A run directory as the report needs it: everything at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::{DraftStats, Forecast, Manifest, Metrics, Run, SampleRecord, TimingRecord};

use crate::budget::Budget;

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
    /// Samples whose traces are too many to be drawn.
    pub(crate) untraced: usize,
    /// Places of the samples that keep a trace, by variant and task.
    traced: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
}

impl Data {
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let run = Run::open(dir)?;
        refuse_large(&dir.join("samples.jsonl"))?;
        refuse_large(&dir.join("timings.jsonl"))?;
        let metrics = run.metrics()?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{}: the run is not finished: no metrics.json", dir.display()))
                .with_help("start the same `logitfuse run` again: it goes on where it stopped")
        })?;
        refuse_endless(dir, &metrics)?;
        let named = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let title = named.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
        let timed = dir.join("timings.jsonl").exists();
        let timings = if timed { run.timings()?.collect::<Result<_>>()? } else { vec![] };
        let mut budget = Budget::new(run.manifest().cells.len());
        let samples: Vec<SampleRecord> = run.samples()?.map(|sample| budget.admit(sample?)).collect::<Result<_>>()?;
        let mut traced: BTreeMap<String, BTreeMap<String, Vec<usize>>> = BTreeMap::new();
        for (place, sample) in samples.iter().enumerate().filter(|(_, sample)| is_traced(sample)) {
            let of_variant = traced.entry(sample.variant.clone()).or_default();
            of_variant.entry(sample.task.clone()).or_default().push(place);
        }
        Ok(Self {
            title,
            manifest: run.manifest().clone(),
            metrics,
            config: run.resolved()?,
            samples,
            timings,
            drafting: if timed { run.drafting()? } else { vec![] },
            traced,
            untraced: budget.left_out,
        })
    }

    /// Samples of one cell that keep a trace.
    pub(crate) fn traced<'a>(&'a self, variant: &'a str, task: &'a str) -> impl Iterator<Item = &'a SampleRecord> {
        let places = self.traced.get(variant).and_then(|tasks| tasks.get(task));
        places.into_iter().flatten().map(|&place| &self.samples[place])
    }
}

fn is_traced(sample: &SampleRecord) -> bool {
    sample.responses.iter().any(|response| !response.trace.is_empty())
}

/// Bytes of a log that are read, of which what is drawn is kept.
const LARGEST: u64 = 4 << 30;
/// Cells of a table that a browser still shows.
const MOST_CELLS: usize = 100_000;
/// Variants, and tasks.
const MOST_NAMES: usize = 4096;

fn refuse_large(log: &Path) -> Result<()> {
    match log.metadata() {
        Ok(file) if file.len() > LARGEST => {
            let message = format!("{}: {} GiB, and a report reads at most 4", log.display(), file.len() >> 30);
            Err(Error::new(ErrorKind::Unsupported, message)
                .with_help("trace fewer samples: `run.traced_samples`; metrics.json has the figures"))
        }
        _ => Ok(()),
    }
}

fn refuse_endless(dir: &Path, metrics: &Metrics) -> Result<()> {
    let variants: BTreeSet<&str> = metrics.metrics.iter().map(|record| record.variant.as_str()).collect();
    let of_gaps = metrics.gaps.iter().map(|gap| gap.task.as_str());
    let tasks: BTreeSet<&str> = metrics.metrics.iter().map(|record| record.task.as_str()).chain(of_gaps).collect();
    let (rows, columns) = (variants.len(), tasks.len());
    if rows <= MOST_NAMES && columns <= MOST_NAMES && rows * columns <= MOST_CELLS {
        return Ok(());
    }
    let message = format!("{}: {rows} variants on {columns} tasks", dir.join("metrics.json").display());
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_help(format!("a page shows at most {MOST_CELLS} scores; run the experiment in parts")))
}

//! A run directory that is read.

use std::path::{Path, PathBuf};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    Forecast, Manifest, Metrics, SCHEMA_VERSION, SampleRecord, StoredSample, TimingRecord,
    files::{read_json, read_text},
    log::Lines,
};

/// Only runs with drafts have it.
pub(crate) const FORECASTS: &str = "forecasts.jsonl";

/// A run directory, opened for reading; it may still be written to.
///
/// ```no_run
/// use logitfuse_rundir::Run;
///
/// let run = Run::open("runs/weak-to-strong".as_ref())?;
/// for sample in run.samples()? {
///     let sample = sample?;
///     println!("{}: {}", sample.key(), sample.responses[0].text);
/// }
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    path: PathBuf,
    manifest: Manifest,
}

impl Run {
    /// Reads the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no run, [`ErrorKind::Unsupported`] where a newer version wrote it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join("manifest.json");
        if !file.exists() {
            return Err(Error::new(ErrorKind::NotFound, format!("{}: not a run directory", path.display()))
                .with_help("name a directory that `logitfuse run` wrote: it holds a manifest.json"));
        }
        let version: Version = read_json(&file)?;
        if version.schema_version != SCHEMA_VERSION {
            let message = format!("{}: schema_version {}", file.display(), version.schema_version);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_help(format!("this version of logitfuse reads {SCHEMA_VERSION}; take the one that wrote it")));
        }
        let manifest: Manifest = read_json(&file)?;
        if let Some(shard) = manifest.scope.shard.filter(|shard| shard.index >= shard.of) {
            let message = format!("{}: {} shards, and this is the {}. from 0", file.display(), shard.of, shard.index);
            return Err(Error::new(ErrorKind::InvalidData, message)
                .with_help("this version reads what it writes; start the run again in another directory"));
        }
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its results depend on.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The text of `resolved.toml`.
    pub fn resolved(&self) -> Result<String> {
        read_text(&self.path.join("resolved.toml"))
    }

    /// `metrics.json`; none while the run is not finished.
    pub fn metrics(&self) -> Result<Option<Metrics>> {
        let file = self.path.join("metrics.json");
        if file.exists() { read_json(&file).map(Some) } else { Ok(None) }
    }

    /// The samples in their order, one at a time: traces make them large.
    pub fn samples(&self) -> Result<impl Iterator<Item = Result<SampleRecord>> + use<>> {
        Ok(self.sample_lines()?.map(|line| Ok(line?.value)))
    }

    /// The same, each with its line.
    pub fn stored_samples(&self) -> Result<impl Iterator<Item = Result<StoredSample>> + use<>> {
        Ok(self.sample_lines()?.map(|line| Ok(StoredSample::from(line?))))
    }

    /// Where the time of each sample went, in the same order.
    pub fn timings(&self) -> Result<impl Iterator<Item = Result<TimingRecord>> + use<>> {
        Ok(self.timing_lines()?.map(|line| Ok(line?.value)))
    }

    /// What drafts were expected to cost, in the order in which the models were timed.
    pub fn forecasts(&self) -> Result<Vec<Forecast>> {
        let file = self.path.join(FORECASTS);
        if file.exists() { Lines::open(&file)?.map(|line| Ok(line?.value)).collect() } else { Ok(Vec::new()) }
    }

    pub(crate) fn sample_lines(&self) -> Result<Lines<SampleRecord>> {
        Lines::open(&self.path.join("samples.jsonl"))
    }

    pub(crate) fn timing_lines(&self) -> Result<Lines<TimingRecord>> {
        Lines::open(&self.path.join("timings.jsonl"))
    }
}

/// Read before everything else, which a newer version may have arranged otherwise.
#[derive(serde::Deserialize)]
struct Version {
    schema_version: u32,
}

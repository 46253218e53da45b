//! Runs: every variant of an experiment on every task, into a directory.
//!
//! # Why
//!
//! A result is worth as much as what it takes to believe and repeat it. A run therefore writes down what it depends on
//! before it begins, every sample as soon as it is there, and figures that come from these samples alone; it may be killed
//! at any moment and goes on where it was, and [`verify`] makes samples again and says where they part.
//!
//! # Example
//!
//! ```no_run
//! use logitfuse_engine::Cancel;
//! use logitfuse_config::{Experiment, Overrides};
//! use logitfuse_eval::run::{RunOptions, Suite};
//! use logitfuse_pipeline::Runtime;
//! use logitfuse_pipeline::PluginSettings;
//!
//! let runtime = Runtime::load("libonnxruntime.so".as_ref())?;
//! let (plugins, cancel) = (PluginSettings::default(), Cancel::new());
//! let options = RunOptions::new(&runtime, &plugins, &cancel);
//! let experiment = Experiment::load("experiment.toml".as_ref(), &Overrides::default())?;
//! let suite = Suite::new(experiment, options)?;
//! if let Some(metrics) = suite.run("runs/x".as_ref(), &mut |_| ())? {
//!     for row in metrics.metrics {
//!         println!("{} {} {}: {:?}", row.variant, row.task, row.metric, row.value);
//!     }
//! }
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Order and identity
//!
//! Samples are written variant by variant, task by task, item by item, whatever the batch and however often the run was cut
//! off: the bytes of `samples.jsonl` and `metrics.json` depend on the experiment, its files and the versions alone. (On the
//! machine's kind, too: kernels of ONNX Runtime differ between instruction sets, which the manifest lists.)

mod cell;
mod cells;
mod expect;
mod external_scores;
mod gaps;
mod manifest;
mod models;
mod record;
mod summary;
mod verify;
pub(crate) mod wanted;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_engine::Cancel;
use logitfuse_pipeline::Runtime;
use logitfuse_rundir::{Forecast, Manifest, Metrics, Response, Run, RunDir, SampleRecord, Scope};

pub use expect::{Failure, failures};
pub use verify::{Verification, verify};

use self::{
    cell::{CellRun, SampleJob},
    models::Models,
};
use crate::task::Task;
use logitfuse_config::{Cell, Experiment, OutputType};
use logitfuse_pipeline::{Pipeline, PluginSettings};

/// Sequences that run at once by default.
const BATCH: usize = 8;

/// What the machine gives to a run; nothing of it changes a sample but `scope`, which leaves some out.
#[derive(Clone)]
pub struct RunOptions<'a> {
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// Where plugins are and whether they may be loaded.
    pub plugins: &'a PluginSettings,
    /// Ends the run after the samples that are done.
    pub cancel: &'a Cancel,
    /// Threads over all models; 0 is all cores.
    pub threads: usize,
    /// Sequences that run at once; that of `[run]` if absent.
    pub batch: Option<usize>,
    /// Which items.
    pub scope: Scope,
}

impl<'a> RunOptions<'a> {
    /// All items, all cores, the experiment's batch.
    pub fn new(runtime: &'a Runtime, plugins: &'a PluginSettings, cancel: &'a Cancel) -> Self {
        Self { runtime, plugins, cancel, threads: 0, batch: None, scope: Scope::default() }
    }
}

/// What a run tells while it is at work.
#[non_exhaustive]
pub enum Progress<'a> {
    /// Models were opened.
    Opened(&'a Pipeline),
    /// Something is allowed and may not be meant; the same may be told of several cells.
    Warning(&'a Error),
    /// A variant begins with a task.
    Cell {
        /// The variant.
        variant: &'a str,
        /// The task.
        task: &'a str,
        /// Its place among all pairs of variants and tasks, from 0.
        index: usize,
        /// How many there are.
        of: usize,
        /// Samples to make.
        samples: usize,
        /// Samples that were there already.
        kept: usize,
    },
    /// A sample is written.
    Sample {
        /// Its key.
        key: &'a str,
        /// Tokens that were generated or scored.
        tokens: usize,
        /// Why there are none: the strategy's plugin failed.
        error: Option<&'a str>,
    },
}

/// A cell with its task, which variants share.
pub(crate) struct Work {
    pub(crate) cell: Cell,
    pub(crate) task: Arc<Task>,
}

/// An experiment with tasks, checked and hashed, ready to run.
pub struct Suite<'a> {
    experiment: Experiment,
    options: RunOptions<'a>,
    work: Vec<Work>,
    manifest: Manifest,
}

impl<'a> Suite<'a> {
    /// Reads the tasks' data and hashes every file that the experiment depends on.
    pub fn new(experiment: Experiment, options: RunOptions<'a>) -> Result<Self> {
        let work = work(&experiment)?;
        gaps::check(&experiment, &work)?;
        let mut tasks: Vec<&Task> = Vec::new();
        for work in &work {
            if tasks.iter().all(|known| known.name() != work.task.name()) {
                tasks.push(&work.task);
            }
        }
        wanted::check(&experiment, &tasks)?;
        let manifest = manifest::manifest(&experiment, &work, &options)?;
        Ok(Self { experiment, options, work, manifest })
    }

    /// The experiment.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// What the result depends on.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Makes all samples that the directory does not hold, then its metrics. `None` if it was cancelled before the end, or
    /// holds a shard, whose figures mean nothing by themselves.
    ///
    /// # Errors
    /// Those of the models and of the directory; what was finished stays, and the same call goes on after it.
    pub fn run(&self, path: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Option<Metrics>> {
        let mut directory = RunDir::start(path, &self.experiment.resolved_toml(), &self.manifest)?;
        let mut models = Models::default();
        let finished = self.work.iter().enumerate().try_fold(true, |going_on, (index, work)| {
            if going_on { self.cell(index, work, &mut directory, &mut models, progress) } else { Ok(false) }
        });
        // Whatever happened, what is finished is safe.
        directory.sync()?;
        if !finished? || self.manifest.scope.shard.is_some() {
            return Ok(None);
        }
        write_metrics(&self.experiment, &self.work, &directory).map(Some)
    }

    fn cell(
        &self,
        index: usize,
        work: &Work,
        directory: &mut RunDir,
        models: &mut Models,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<bool> {
        let (variant, task) = (&*work.cell.variant, &*work.cell.task);
        let all: Vec<SampleJob<'_>> = self.todo(work).collect();
        let is_there = |todo: &SampleJob<'_>| directory.holds(&key(work, todo.doc.id.as_str(), todo.repeat));
        let todo: Vec<SampleJob<'_>> = all.iter().copied().filter(|todo| !is_there(todo)).collect();
        let (samples, kept) = (todo.len(), all.len() - todo.len());
        progress(Progress::Cell { variant, task, index, of: self.work.len(), samples, kept });
        let Some(first) = todo.first() else { return Ok(true) };
        let earlier = if first.repeat > 0 { answers(&directory.reader()?, work, &first.doc.id)? } else { Vec::new() };
        let batch = self.batch(work);
        let mut config = work.cell.config.clone();
        // What drafts cost depends on it.
        config.run.batch = Some(batch);
        let opened = models.open(&config, &self.options, &mut |pipeline| progress(Progress::Opened(pipeline)))?;
        if let Some(warning) = work.task.lost_prompts(&opened.pipeline) {
            progress(Progress::Warning(&warning));
        }
        if let Some(forecast) = forecast(&opened.pipeline, work, batch)? {
            directory.forecast(&forecast)?;
        }
        let cancel = self.options.cancel;
        CellRun { variant, name: task, task: &work.task, opened, batch, cancel }.make(
            &todo,
            earlier,
            &mut |sample, timing| {
                directory.append(&sample, &timing)?;
                let error = sample.error.as_deref();
                progress(Progress::Sample { key: &timing.key, tokens: timing.tokens, error });
                Ok(())
            },
        )
    }

    /// The samples of a cell, in their order.
    fn todo<'w>(&self, work: &'w Work) -> impl Iterator<Item = SampleJob<'w>> + use<'w> {
        let (scope, repeats) = (self.manifest.scope.clone(), work.task.repeats());
        let traced = work.cell.config.run.traced_samples;
        work.task.docs().iter().filter(move |doc| scope.holds(doc.index)).flat_map(move |doc| {
            (0..repeats).map(move |repeat| SampleJob { doc, repeat, traced: doc.index * repeats + repeat < traced })
        })
    }

    fn batch(&self, work: &Work) -> usize {
        self.options.batch.or(work.cell.config.run.batch).unwrap_or(BATCH)
    }
}

/// Computes and writes the metrics of a directory that holds all samples, such as one that was merged. Only the tasks' data
/// are read. `folder` is where the experiment's relative paths begin, if that is no longer where the run remembers.
pub fn finish(directory: &RunDir, folder: Option<PathBuf>) -> Result<Metrics> {
    let experiment = verify::experiment_of(&directory.reader()?, folder)?;
    write_metrics(&experiment, &work(&experiment)?, directory)
}

fn write_metrics(experiment: &Experiment, work: &[Work], directory: &RunDir) -> Result<Metrics> {
    let metrics = summary::metrics(experiment, work, &directory.reader()?)?;
    directory.write_metrics(&metrics)?;
    Ok(metrics)
}

/// The cells of an experiment with their tasks, each of which is read once.
fn work(experiment: &Experiment) -> Result<Vec<Work>> {
    let mut work: Vec<Work> = Vec::new();
    for cell in experiment.cells() {
        let same = |known: &&Work| known.cell.task == cell.task && known.cell.task_config == cell.task_config;
        let task = match work.iter().find(same) {
            Some(known) => Arc::clone(&known.task),
            None => Arc::new(Task::load(&cell.task, &cell.task_config)?),
        };
        work.push(Work { cell: cell.clone(), task });
    }
    if work.is_empty() {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: has no [tasks]", experiment.name()))
            .with_help("add [tasks.NAME] with `data`; docs/tasks.md shows how"));
    }
    Ok(work)
}

/// What the drafts of a task that generates are expected to cost.
fn forecast(pipeline: &Pipeline, work: &Work, batch: usize) -> Result<Option<Forecast>> {
    let Some(speculation) = &work.cell.config.speculation else { return Ok(None) };
    if work.task.config().output_type != OutputType::GenerateUntil {
        return Ok(None);
    }
    let costs = pipeline.round_costs(batch)?.filter(|costs| !costs.round_seconds.is_empty());
    Ok(costs.map(|costs| Forecast {
        variant: work.cell.variant.clone(),
        task: work.cell.task.clone(),
        draft: speculation.draft.clone(),
        tokens: speculation.tokens.to_string(),
        costs,
    }))
}

fn key(work: &Work, doc: &str, repeat: usize) -> String {
    SampleRecord::key_of(&work.cell.variant, &work.cell.task, doc, repeat)
}

/// What was answered to an item, repeat by repeat; none where that failed.
fn answers(run: &Run, work: &Work, doc: &str) -> Result<Vec<Option<Vec<Response>>>> {
    let mut answers = Vec::new();
    for sample in run.samples()? {
        let sample = sample?;
        if (&*sample.variant, &*sample.task, &*sample.doc_id) == (&work.cell.variant, &work.cell.task, doc) {
            answers.push(sample.error.is_none().then_some(sample.responses));
        }
    }
    Ok(answers)
}

//! Whether a run can be made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::{Difference, Run, StoredSample};

use super::{
    Progress, RunOptions, Suite, Work,
    cell::{CellRun, SampleJob},
    key,
    manifest::FOLDER,
    models::Models,
};
use logitfuse_config::Experiment;

/// What came of making samples again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Samples that are the same, byte by byte.
    pub same: usize,
    /// The first one that is not, by its key, and where it parts.
    pub first: Option<(String, Difference)>,
    /// Versions that are not those of the run, a line each.
    pub versions: Vec<String>,
    /// Whether all samples that were asked for were made.
    pub complete: bool,
}

/// Makes samples of a run again, in the order of its log, until one differs. `samples` of them, spread evenly, or all.
/// `folder` is where the experiment's relative paths begin, if that is no longer where the run remembers.
///
/// # Errors
/// [`ErrorKind::Incompatible`] if a model, the data or another file is no longer what the run was made with.
pub fn verify(
    run: &Run,
    folder: Option<PathBuf>,
    samples: Option<usize>,
    options: &RunOptions<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Verification> {
    let suite = Suite::of_run(run, folder, options)?;
    let (before, now) = (&run.manifest().identity, &suite.manifest.identity);
    let mut versions = now.clone();
    versions.files.clone_from(&before.files);
    versions.config_sha256.clone_from(&before.config_sha256);
    let versions = before.differences(&versions);
    let mut inputs = now.clone();
    inputs.logitfuse.clone_from(&before.logitfuse);
    inputs.onnxruntime.clone_from(&before.onnxruntime);
    if let Some(changed) = before.differences(&inputs).first() {
        return Err(Error::new(ErrorKind::Incompatible, format!("{}: {changed}", run.path().display()))
            .with_help("a run is verified with the files that it was made with; bring them back"));
    }
    let chosen = chosen(run, samples)?;
    let mut verification = Verification { same: 0, first: None, versions, complete: true };
    let mut models = Models::default();
    for (index, work) in suite.work.iter().enumerate() {
        if !suite.verify_cell(index, work, run, &chosen, &mut models, &mut verification, progress)? {
            break;
        }
    }
    Ok(verification)
}

/// The items to make again: all repeats of each, because votes are taken over them.
fn chosen(run: &Run, samples: Option<usize>) -> Result<BTreeSet<(String, String, String)>> {
    let mut items = Vec::new();
    for sample in run.samples()? {
        let sample = sample?;
        let item = (sample.variant, sample.task, sample.doc_id);
        if items.last() != Some(&item) {
            items.push(item);
        }
    }
    let wanted = samples.unwrap_or(items.len()).clamp(1, items.len().max(1));
    let count = items.len();
    Ok(items
        .into_iter()
        .enumerate()
        .filter(|(i, _)| i * wanted / count != (i + 1) * wanted / count)
        .map(|(_, item)| item)
        .collect())
}

/// The experiment that a directory holds.
pub(super) fn experiment_of(run: &Run, folder: Option<PathBuf>) -> Result<Experiment> {
    let known = run.manifest().machine.get(FOLDER).map(PathBuf::from);
    let folder = folder.or(known).unwrap_or_default();
    Experiment::from_resolved(&run.resolved()?, &folder).map_err(|e| {
        let help = e.help().unwrap_or("name the experiment's folder with `--folder`").to_owned();
        e.context(run.path().join("resolved.toml").display()).with_help(help)
    })
}

impl<'a> Suite<'a> {
    /// The experiment that a directory holds.
    pub fn of_run(run: &Run, folder: Option<PathBuf>, options: &RunOptions<'a>) -> Result<Self> {
        Self::new(experiment_of(run, folder)?, RunOptions { scope: run.manifest().scope.clone(), ..options.clone() })
    }

    #[expect(clippy::too_many_arguments, reason = "what a cell is verified against, with and for")]
    fn verify_cell(
        &self,
        index: usize,
        work: &Work,
        run: &Run,
        chosen: &BTreeSet<(String, String, String)>,
        models: &mut Models,
        verification: &mut Verification,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<bool> {
        let (variant, task) = (&*work.cell.variant, &*work.cell.task);
        let item = |doc: &str| (variant.to_owned(), task.to_owned(), doc.to_owned());
        let mut stored: BTreeMap<String, StoredSample> = BTreeMap::new();
        for sample in run.stored_samples()? {
            let sample = sample?;
            let record = &sample.record;
            if (&*record.variant, &*record.task) == (variant, task) && chosen.contains(&item(&record.doc_id)) {
                stored.insert(record.key(), sample);
            }
        }
        let is_there = |todo: &SampleJob<'_>| stored.contains_key(&key(work, &todo.doc.id, todo.repeat));
        let todo: Vec<SampleJob<'_>> = self.todo(work).filter(is_there).collect();
        if todo.is_empty() {
            return Ok(true);
        }
        progress(Progress::Cell { variant, task, index, of: self.work.len(), samples: todo.len(), kept: 0 });
        let opened =
            models.open(&work.cell.config, &self.options, &mut |pipeline| progress(Progress::Opened(pipeline)))?;
        let (batch, cancel) = (self.batch(work), self.options.cancel);
        let mut cell = CellRun { variant, name: task, task: &work.task, opened, batch, cancel };
        let made = cell.make(&todo, Vec::new(), &mut |sample, timing| {
            let error = sample.error.as_deref();
            progress(Progress::Sample { key: &timing.key, tokens: timing.tokens, error });
            match stored.get(&timing.key).and_then(|stored| stored.difference(&sample)) {
                None => verification.same += 1,
                Some(difference) => {
                    verification.first = Some((timing.key, difference));
                    return Err(Error::new(ErrorKind::Cancelled, "the first difference is found"));
                }
            }
            Ok(())
        });
        match made {
            Err(e) if e.kind() == ErrorKind::Cancelled && verification.first.is_some() => Ok(false),
            Ok(complete) => {
                verification.complete &= complete;
                Ok(complete)
            }
            Err(e) => Err(e),
        }
    }
}

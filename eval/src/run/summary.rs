//! The table: from the samples of a run alone.

use std::collections::BTreeMap;

use logitfuse_core::Result;
use logitfuse_rundir::{Metrics, Run, SCHEMA_VERSION, SampleRecord};

use super::{Work, cells::Cells, gaps::gaps};
use logitfuse_config::Experiment;

/// What `metrics.json` holds. It is computed from what the log holds and not from what a process remembers, so that a run
/// that was cut off ends in the same bytes.
pub(super) fn metrics(experiment: &Experiment, work: &[Work], run: &Run) -> Result<Metrics> {
    let place: BTreeMap<(&str, &str), usize> =
        work.iter().enumerate().map(|(i, work)| ((&*work.cell.variant, &*work.cell.task), i)).collect();
    let mut cells = Cells { work, samples: vec![Vec::new(); work.len()] };
    let mut count = 0;
    for sample in run.samples()? {
        let mut sample = sample?;
        count += 1;
        sample.responses.iter_mut().for_each(|response| response.trace = Vec::new());
        if let Some(&cell) = place.get(&(&*sample.variant, &*sample.task)) {
            cells.samples[cell].push(sample);
        }
    }
    let mut metrics = Vec::new();
    for (work, samples) in work.iter().zip(&cells.samples).filter(|(_, samples)| !samples.is_empty()) {
        let samples: Vec<&SampleRecord> = samples.iter().collect();
        metrics.extend(work.task.aggregate(&work.cell.variant, &samples)?);
    }
    let manifest = run.manifest();
    Ok(Metrics {
        schema_version: SCHEMA_VERSION,
        identity_sha256: manifest.identity.sha256(),
        complete: count == manifest.samples(),
        limit: manifest.scope.limit,
        metrics,
        gaps: gaps(experiment, &cells)?,
    })
}

//! The table: from the samples of a run alone.

use std::collections::BTreeMap;

use logitfuse_core::Result;
use logitfuse_rundir::{FailureRecord, Metrics, Run, SCHEMA_VERSION, SampleRecord};

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
    let failures =
        cells.work.iter().zip(&cells.samples).filter_map(|(work, samples)| failures(work, samples)).collect();
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
        failures,
    })
}

/// What failed in a cell; none if nothing did.
fn failures(work: &Work, samples: &[SampleRecord]) -> Option<FailureRecord> {
    let failed = samples.iter().filter(|sample| sample.error.is_some()).count();
    let fell_back = || samples.iter().filter(|sample| sample.fallback_tokens > 0);
    if failed == 0 && fell_back().next().is_none() {
        return None;
    }
    let said = |sample: &SampleRecord| Some(format!("item {}: {}", sample.doc_id, sample.error.as_ref()?));
    Some(FailureRecord {
        variant: work.cell.variant.clone(),
        task: work.cell.task.clone(),
        samples: samples.len(),
        failed,
        fallback_samples: fell_back().count(),
        fallback_tokens: fell_back().map(|sample| sample.fallback_tokens).sum(),
        first: samples.iter().find_map(said),
    })
}

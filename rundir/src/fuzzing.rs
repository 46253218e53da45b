//! Doors for the fuzzing targets of `tests/fuzz`, into readers that otherwise take a directory. No interface.

use std::path::Path;

use logitfuse_core::Result;

use crate::{StoredSample, TimingRecord, log::Lines};

/// As [`Run::stored_samples`](crate::Run::stored_samples).
pub fn samples(log: &[u8]) -> impl Iterator<Item = Result<StoredSample>> {
    Lines::from_reader(Path::new("samples.jsonl"), log).map(|line| Ok(StoredSample::from(line?)))
}

/// As [`Run::timings`](crate::Run::timings).
pub fn timings(log: &[u8]) -> impl Iterator<Item = Result<TimingRecord>> {
    Lines::from_reader(Path::new("timings.jsonl"), log).map(|line| Ok(line?.value))
}

use logitfuse_rundir::SampleRecord;

use super::Work;

/// The samples of every cell, without their traces.
pub(super) struct Cells<'a> {
    pub(super) work: &'a [Work],
    pub(super) samples: Vec<Vec<SampleRecord>>,
}

impl Cells<'_> {
    /// Where a variant's samples of a task are.
    pub(super) fn place(&self, variant: &str, task: &str) -> Option<usize> {
        self.work.iter().position(|work| work.cell.variant == variant && work.cell.task == task)
    }
}

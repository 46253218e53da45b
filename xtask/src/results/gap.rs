//! How much of the way from the large model alone to the large model tuned: and which tuned model that is.

use anyhow::{Result, ensure};
use logitfuse_metrics::{
    gap::{GapScores, Recovered, gap_closed, mean_gap_closed},
    statistics::{Bootstrap, Summary},
};

use super::study::{Study, TASKS};

/// The system whose gap is 1. They differ on `sum` alone, where our oracles are weak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceiling {
    /// The oracles as `make.py` makes them.
    Tuned,
    /// The oracles as they were when the test split was first decoded.
    First,
    /// As `Tuned`, with a full score at every item of `sum`: what no oracle can exceed.
    Perfect,
    /// The one oracle that was tuned on all tasks.
    Together,
}

impl Ceiling {
    fn scores(self, oracles: &Study, task: &str) -> Result<(Vec<String>, Vec<f64>)> {
        let method = match self {
            Self::First if oracles.find("L_t first", task).is_some() => "L_t first",
            Self::Together => "L_all",
            _ => "L_t",
        };
        let answers = oracles.get(method, task)?;
        let scores = match self {
            Self::Perfect if task == "sum" => vec![1.0; answers.scores.len()],
            _ => answers.scores.clone(),
        };
        Ok((answers.ids.clone(), scores))
    }
}

/// From whose scores gaps are taken.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) base: (&'a Study, &'a str),
    pub(super) oracles: &'a Study,
    pub(super) ceiling: Ceiling,
}

/// Scores of the same items.
struct Columns {
    fused: Vec<f64>,
    base: Vec<f64>,
    tuned: Vec<f64>,
}

impl Columns {
    fn scores(&self) -> GapScores<'_> {
        GapScores { fused: &self.fused, base: &self.base, tuned: &self.tuned }
    }
}

impl Ends<'_> {
    fn columns(&self, study: &Study, system: &str, task: &str) -> Result<Columns> {
        let (fused, base) = (study.get(system, task)?, self.base.0.get(self.base.1, task)?);
        let (ids, tuned) = self.ceiling.scores(self.oracles, task)?;
        ensure!(fused.ids == base.ids && fused.ids == ids, "{system}, {task}: the ends of the gap are of other items");
        Ok(Columns { fused: fused.scores.clone(), base: base.scores.clone(), tuned })
    }

    /// `None` where the tuned model is not clearly above the base.
    pub(super) fn closed(&self, study: &Study, system: &str, task: &str) -> Result<Option<Recovered>> {
        Ok(gap_closed(self.columns(study, system, task)?.scores(), &Bootstrap::default())?.recovered)
    }

    pub(super) fn mean(&self, study: &Study, system: &str) -> Result<Option<Recovered>> {
        let columns: Vec<Columns> =
            TASKS.iter().map(|task| self.columns(study, system, task)).collect::<Result<_>>()?;
        let scores: Vec<GapScores<'_>> = columns.iter().map(Columns::scores).collect();
        Ok(mean_gap_closed(&scores, &Bootstrap::default())?)
    }

    /// The ratio that papers print: the mean over tasks of fused / tuned.
    pub(super) fn ratio(&self, study: &Study, system: &str) -> Result<f64> {
        let mean = |scores: &[f64]| Summary::of(scores).map_or(f64::NAN, |summary| summary.mean);
        let mut sum = 0.0;
        for task in TASKS {
            let columns = self.columns(study, system, task)?;
            sum += mean(&columns.fused) / mean(&columns.tuned);
        }
        Ok(sum / TASKS.len() as f64)
    }
}

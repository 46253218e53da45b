//! One position: feed every source, then fuse one sequence's rows.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use logitfuse_core::{
    EffectiveVocabulary, Error, ErrorKind, FusedRow, FusionState, FusionStep, LogitSource, Result, RoleRow, Rows,
    SequenceId, Step, TokenId, numerics,
};

use crate::{Engine, Timings, sequence::Yielded};

/// Prompts go in by pieces of this many tokens, so that a long one shows progress and can be interrupted.
pub(crate) const PIECE: usize = 512;

/// Tokens on their way to one sequence of one source.
pub(crate) struct Feed {
    pub(crate) sequence: SequenceId,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) rows: usize,
}

/// What came back from one source: masked rows with their log-normalisers.
pub(crate) struct Forwarded {
    pub(crate) rows: Rows,
    pub(crate) log_normalisers: Vec<f64>,
    forward: Duration,
    normalise: Duration,
}

impl Forwarded {
    pub(crate) fn row(&self, index: usize, width: usize) -> &[f32] {
        &self.rows.row(index)[..width]
    }
}

/// Runs on the source's own thread, so that normalising several sources' rows overlaps as their forwards do.
fn run(
    source: &mut dyn LogitSource,
    feeds: &[Feed],
    mut rows: Rows,
    vocabulary: &EffectiveVocabulary,
) -> Result<Forwarded> {
    let start = Instant::now();
    let steps: Vec<Step<'_>> =
        feeds.iter().map(|f| Step { sequence: f.sequence, tokens: &f.tokens, rows: f.rows }).collect();
    source.forward(&steps, &mut rows)?;
    let forward = start.elapsed();
    let start = Instant::now();
    let mut log_normalisers = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        let row = &mut rows.row_mut(i)[..vocabulary.width()];
        vocabulary.mask(row);
        let log_normaliser = numerics::log_sum_exp(row);
        if !log_normaliser.is_finite() {
            let cause =
                numerics::check_row(row).err().map_or_else(|| "its logits overflow".to_owned(), |e| e.to_string());
            let message = format!("source `{}` yielded a row that is no distribution: {cause}", source.info().name);
            return Err(Error::new(ErrorKind::Numeric, message)
                .with_help("the model file may be damaged, or its precision too low for this prompt"));
        }
        log_normalisers.push(log_normaliser);
    }
    Ok(Forwarded { rows, log_normalisers, forward, normalise: start.elapsed() })
}

impl Engine {
    /// Feeds every source its part, `feeds[source]`, wave by wave; sources without a feed rest.
    pub(crate) fn forward(
        &mut self,
        feeds: Vec<Vec<Feed>>,
        timings: &mut Timings,
        prefill: bool,
    ) -> Result<Vec<Option<Forwarded>>> {
        let mut waiting: Vec<Option<Vec<Feed>>> = feeds.into_iter().map(|f| (!f.is_empty()).then_some(f)).collect();
        let mut results: Vec<Option<Result<Forwarded>>> = Vec::new();
        results.resize_with(waiting.len(), || None);
        let waves: BTreeSet<usize> = (0..waiting.len()).map(|source| self.concurrency.wave(source)).collect();
        for wave in waves {
            let mut running = Vec::new();
            for (source, feeds) in waiting.iter_mut().enumerate() {
                if self.concurrency.wave(source) != wave {
                    continue;
                }
                let Some(feeds) = feeds.take() else { continue };
                if prefill {
                    timings.prefill_tokens[source] += feeds.iter().map(|f| f.tokens.len()).sum::<usize>();
                }
                let rows = std::mem::take(&mut self.spare[source]);
                let vocabulary = self.session.vocabulary.clone();
                let job = self.workers[source].submit(move |source| run(source, &feeds, rows, &vocabulary));
                running.push((source, job));
            }
            for (source, job) in running {
                // Every job is waited for even after one failed: a source must be idle before its sequences are closed.
                let result = job.wait().flatten();
                if let Ok(done) = &result {
                    timings.normalise[source] += done.normalise;
                    let total = if prefill { &mut timings.prefill } else { &mut timings.forward };
                    total[source] += done.forward;
                }
                results[source] = Some(result);
            }
        }
        results.into_iter().map(Option::transpose).collect()
    }

    /// Feeds the beginnings of prompts, `(source, sequence, tokens)`, piece by piece. `proceed` is told how many tokens
    /// are in before each piece and once at the end; false breaks off, which is also what is returned.
    pub(crate) fn fill(
        &mut self,
        prefixes: &[(usize, SequenceId, &[TokenId])],
        timings: &mut Timings,
        proceed: &mut dyn FnMut(usize) -> bool,
    ) -> Result<bool> {
        let longest = prefixes.iter().map(|p| p.2.len()).max().unwrap_or(0);
        let mut done = 0;
        for start in (0..longest).step_by(PIECE) {
            if !proceed(done) {
                return Ok(false);
            }
            let mut feeds = self.no_feeds();
            for &(source, sequence, tokens) in prefixes.iter().filter(|p| p.2.len() > start) {
                let tokens = tokens[start..tokens.len().min(start + PIECE)].to_vec();
                done += tokens.len();
                feeds[source].push(Feed { sequence, tokens, rows: 0 });
            }
            let forwarded = self.forward(feeds, timings, true)?;
            self.recycle(vec![forwarded]);
        }
        Ok(proceed(done))
    }

    pub(crate) fn no_feeds(&self) -> Vec<Vec<Feed>> {
        self.workers.iter().map(|_| Vec::new()).collect()
    }

    /// Takes row buffers back for the next call.
    pub(crate) fn recycle(&mut self, yielded: Yielded) {
        for forwarded in yielded {
            for (spare, done) in self.spare.iter_mut().zip(forwarded) {
                if let Some(done) = done {
                    *spare = done.rows;
                }
            }
        }
    }
}

/// The buffers of fusing, reused at every step.
pub(crate) struct Fuser {
    strategy: String,
    pub(crate) row: Vec<f32>,
    /// As many as the strategy has columns, or none if nobody asked.
    pub(crate) trace: Vec<f64>,
    columns: usize,
}

impl Fuser {
    pub(crate) fn new(strategy: &str, width: usize, columns: usize) -> Self {
        Self { strategy: strategy.to_owned(), row: vec![0.0; width], trace: Vec::new(), columns }
    }

    /// Fuses into `self.row` and `self.trace`; returns the fused row's log-normaliser, which proves that it is a
    /// distribution.
    pub(crate) fn fuse(
        &mut self,
        state: &mut dyn FusionState,
        rows: &[RoleRow<'_>],
        committed: &[TokenId],
        trace: bool,
    ) -> Result<f64> {
        state.fuse(&FusionStep::new(rows, committed), &mut self.blank(trace))?;
        self.normalise(committed)
    }

    /// The same from the leading row alone; `None` if that does not settle the step.
    pub(crate) fn settle(
        &mut self,
        state: &mut dyn FusionState,
        lead: &RoleRow<'_>,
        committed: &[TokenId],
        trace: bool,
    ) -> Result<Option<f64>> {
        let settled = state.settle(lead, committed, &mut self.blank(trace))?;
        settled.then(|| self.normalise(committed)).transpose()
    }

    fn blank(&mut self, trace: bool) -> FusedRow<'_> {
        self.trace.clear();
        self.trace.resize(if trace { self.columns } else { 0 }, f64::NAN);
        FusedRow { logits: &mut self.row, trace: &mut self.trace }
    }

    fn normalise(&self, committed: &[TokenId]) -> Result<f64> {
        let log_normaliser = numerics::log_sum_exp(&self.row);
        if log_normaliser.is_finite() {
            return Ok(log_normaliser);
        }
        let cause =
            numerics::check_row(&self.row).err().map_or_else(|| "its logits overflow".to_owned(), |e| e.to_string());
        Err(Error::new(
            ErrorKind::Numeric,
            format!(
                "strategy `{}` wrote a row that is no distribution at token {}: {cause}",
                self.strategy,
                committed.len()
            ),
        ))
    }
}

//! One position: feed every source, then fuse one sequence's rows.

use std::time::{Duration, Instant};

use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, LogitSource, Result, RoleRow, Rows, SequenceId,
    SharedVocabulary, Step, TokenId, numerics,
};
use smallvec::SmallVec;

use crate::{Engine, Timings};

/// Prompts go in by pieces of this many tokens, so that a long one shows progress and can be interrupted.
pub(crate) const PIECE: usize = 512;

/// One sequence's part of a parcel: its tokens end where the next part's begin.
#[derive(Clone, Copy, Debug)]
struct Feed {
    sequence: SequenceId,
    tokens: usize,
    rows: usize,
}

/// Steps of one call that fit without memory of their own; more than sequences usually run side by side.
const FEW: usize = 16;

/// Tokens on their way to the sequences of one source, and what comes back: masked rows with their log-normalisers. Parcels
/// go back and forth, so that a loop that is under way allocates nothing.
#[derive(Default)]
pub(crate) struct Parcel {
    tokens: Vec<TokenId>,
    feeds: Vec<Feed>,
    pub(crate) rows: Rows,
    pub(crate) log_normalisers: Vec<f64>,
    forward: Duration,
    normalise: Duration,
}

impl Parcel {
    /// Adds tokens for a sequence, the last `rows` of which yield rows. Returns the place of the first of those.
    pub(crate) fn feed(&mut self, sequence: SequenceId, tokens: &[TokenId], rows: usize) -> usize {
        let before = self.feeds.iter().map(|feed| feed.rows).sum();
        self.tokens.extend_from_slice(tokens);
        self.feeds.push(Feed { sequence, tokens: self.tokens.len(), rows });
        before
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    fn clear(&mut self) {
        self.tokens.clear();
        self.feeds.clear();
        self.log_normalisers.clear();
    }

    pub(crate) fn row(&self, index: usize, width: usize) -> &[f32] {
        &self.rows.row(index)[..width]
    }

    /// Runs on the source's own thread where sources run side by side, so that normalising rows overlaps as forwards do.
    pub(crate) fn run(&mut self, source: &mut dyn LogitSource, vocabulary: &SharedVocabulary) -> Result<()> {
        let start = Instant::now();
        let mut from = 0;
        let steps: SmallVec<[Step<'_>; FEW]> = self
            .feeds
            .iter()
            .map(|feed| {
                let tokens = &self.tokens[from..feed.tokens];
                from = feed.tokens;
                Step { sequence: feed.sequence, tokens, rows: feed.rows }
            })
            .collect();
        source.forward(&steps, &mut self.rows)?;
        self.forward = start.elapsed();
        let start = Instant::now();
        self.log_normalisers.clear();
        for i in 0..self.rows.len() {
            let row = &mut self.rows.row_mut(i)[..vocabulary.width()];
            vocabulary.mask(row);
            let log_normaliser = numerics::log_sum_exp(row);
            if !log_normaliser.is_finite() {
                let cause =
                    numerics::check_row(row).err().map_or_else(|| "its logits overflow".to_owned(), |e| e.to_string());
                let message = format!("source `{}` yielded a row that is no distribution: {cause}", source.info().name);
                return Err(Error::new(ErrorKind::Numeric, message)
                    .with_help("the model file may be damaged, or its precision too low for this prompt"));
            }
            self.log_normalisers.push(log_normaliser);
        }
        self.normalise = start.elapsed();
        Ok(())
    }
}

/// One parcel per source; an empty one lets its source rest.
pub(crate) struct Call {
    pub(crate) parcels: Vec<Parcel>,
    /// What it is for, which says how large its buffers have become.
    purpose: Purpose,
}

/// Calls are kept apart by how many rows they yield: a draft's single row needs no buffer for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Draft,
    Step,
}

impl Call {
    pub(crate) fn is_empty(&self) -> bool {
        self.parcels.iter().all(Parcel::is_empty)
    }
}

/// Calls that wait to be used again.
#[derive(Default)]
pub(crate) struct Calls {
    drafts: Vec<Call>,
    steps: Vec<Call>,
}

impl Calls {
    fn of(&mut self, purpose: Purpose) -> &mut Vec<Call> {
        match purpose {
            Purpose::Draft => &mut self.drafts,
            Purpose::Step => &mut self.steps,
        }
    }
}

impl Engine {
    /// An empty call.
    pub(crate) fn call(&mut self, purpose: Purpose) -> Call {
        self.calls
            .of(purpose)
            .pop()
            .unwrap_or_else(|| Call { parcels: self.workers.iter().map(|_| Parcel::default()).collect(), purpose })
    }

    /// Runs every source's parcel, wave by wave; sources whose parcel is empty rest.
    pub(crate) fn forward(&mut self, mut call: Call, timings: &mut Timings, prefill: bool) -> Result<Call> {
        for wave in &self.waves {
            let parcels = &mut call.parcels;
            let Some(here) = wave.iter().copied().rfind(|&source| !parcels[source].is_empty()) else { continue };
            let mut elsewhere: SmallVec<[usize; FEW]> = SmallVec::new();
            for &source in wave {
                if source != here && !parcels[source].is_empty() {
                    self.workers[source].start(std::mem::take(&mut parcels[source]));
                    elsewhere.push(source);
                }
            }
            let mut result = self.workers[here].forward(&mut parcels[here]);
            // Every parcel is waited for even after one failed: a source must be idle before its sequences are closed.
            for source in elsewhere {
                let (parcel, done) = self.workers[source].finish();
                parcels[source] = parcel;
                result = result.and(done);
            }
            result?;
            for &source in wave {
                let parcel = &parcels[source];
                if parcel.is_empty() {
                    continue;
                }
                timings.normalise[source] += parcel.normalise;
                let total = if prefill { &mut timings.prefill } else { &mut timings.forward };
                total[source] += parcel.forward;
                if prefill {
                    timings.prefill_tokens[source] += parcel.tokens.len();
                }
            }
        }
        Ok(call)
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
            let mut call = self.call(Purpose::Step);
            for &(source, sequence, tokens) in prefixes.iter().filter(|p| p.2.len() > start) {
                let tokens = &tokens[start..tokens.len().min(start + PIECE)];
                done += tokens.len();
                call.parcels[source].feed(sequence, tokens, 0);
            }
            let call = self.forward(call, timings, true)?;
            self.recycle([call]);
        }
        Ok(proceed(done))
    }

    /// Takes calls back for the next ones.
    pub(crate) fn recycle(&mut self, yielded: impl IntoIterator<Item = Call>) {
        for mut call in yielded {
            call.parcels.iter_mut().for_each(Parcel::clear);
            self.calls.of(call.purpose).push(call);
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
        let settled = state.early_exit(lead, committed, &mut self.blank(trace))?;
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

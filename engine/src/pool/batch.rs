//! What goes to the sources in one pass, and what comes back.

use std::{
    fmt,
    time::{Duration, Instant},
};

use logitfuse_core::{
    Error, ErrorKind, LogitSource, Result, RoleRow, Rows, SequenceId, SharedVocabulary, Step, TokenId, numerics,
};
use smallvec::SmallVec;

/// Steps of one pass that fit without memory of their own; more than sequences usually run side by side.
pub(super) const INLINE: usize = 16;

/// One sequence's part of a batch: its tokens end where the next part's begin.
#[derive(Clone, Copy, Debug)]
struct Feed {
    sequence: SequenceId,
    tokens: usize,
    rows: usize,
}

/// The position of a text that a row is of, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The row behind this token of the prompt, counted from 0.
    Prompt(usize),
    /// The row of this generated or scored token, counted from 0.
    Token(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt(token) => write!(f, "behind token {token} of the prompt"),
            Self::Token(token) => write!(f, "at token {token}"),
        }
    }
}

/// Who says something where: the source's name, how wide its rows are, and the position.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) source: &'a str,
    pub(crate) width: usize,
    pub(crate) place: Place,
}

/// Tokens for the sequences of one source, and what it yields for them: masked rows with their log-normalisers. The buffers
/// go back and forth, so that a decode loop that is under way allocates nothing.
#[derive(Default)]
pub(crate) struct SourceBatch {
    tokens: Vec<TokenId>,
    feeds: Vec<Feed>,
    rows: Rows,
    log_normalisers: Vec<f64>,
    error: Option<Error>,
    pub(crate) forward: Duration,
    pub(crate) normalise: Duration,
}

impl SourceBatch {
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

    /// Tokens that were fed.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Why there are no rows, if the source failed.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    pub(super) fn failed(&mut self, error: Option<Error>) {
        self.error = error;
    }

    fn clear(&mut self) {
        self.tokens.clear();
        self.feeds.clear();
        self.log_normalisers.clear();
        self.error = None;
    }

    /// A row with the log-probability that its sequence has under this source so far.
    ///
    /// # Errors
    /// Where the row is no distribution, or the source yielded none.
    pub(crate) fn row(&self, index: usize, log_prob: f64, asked: Asked<'_>) -> Result<RoleRow<'_>> {
        let log_normaliser = self.log_normaliser(index, asked)?;
        Ok(RoleRow::new(&self.rows.row(index)[..asked.width], log_normaliser, log_prob))
    }

    /// The log-probability of a token under a row.
    ///
    /// # Errors
    /// As [`row`](Self::row).
    pub(crate) fn log_prob(&self, index: usize, token: TokenId, asked: Asked<'_>) -> Result<f64> {
        let log_normaliser = self.log_normaliser(index, asked)?;
        Ok(f64::from(self.rows.row(index)[token as usize]) - log_normaliser)
    }

    fn log_normaliser(&self, index: usize, asked: Asked<'_>) -> Result<f64> {
        match self.log_normalisers.get(index) {
            Some(&log_normaliser) if log_normaliser.is_finite() => Ok(log_normaliser),
            Some(_) => Err(no_distribution(&self.rows.row(index)[..asked.width], asked)),
            None => {
                let what = format!("source `{}` was fed and yielded no row", asked.source);
                Err(Error::new(ErrorKind::Internal, what))
            }
        }
    }

    /// Runs on the source's own thread where sources run side by side, so that normalising rows overlaps as forwards do.
    /// A row that is no distribution, be it for a single NaN, has a log-normaliser that is not finite: it ends the sequence
    /// that asks for it.
    pub(super) fn run(&mut self, source: &mut dyn LogitSource, vocabulary: &SharedVocabulary) -> Result<()> {
        let start = Instant::now();
        let mut from = 0;
        let steps: SmallVec<[Step<'_>; INLINE]> = self
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
            self.log_normalisers.push(numerics::log_sum_exp(row));
        }
        self.normalise = start.elapsed();
        Ok(())
    }
}

fn no_distribution(row: &[f32], Asked { source, place, .. }: Asked<'_>) -> Error {
    let cause = numerics::check_row(row).err().map_or_else(|| "its logits overflow".to_owned(), |e| e.to_string());
    Error::new(ErrorKind::Numeric, format!("source `{source}` yielded a row that is no distribution {place}: {cause}"))
        .with_help("the model file may be damaged, or its precision too low for this prompt")
}

/// Batches are kept apart by how many rows they yield: a draft's single row needs no buffer for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Draft,
    Step,
}

/// One pass over the sources: a batch for each; a source whose batch is empty stays idle.
pub(crate) struct ForwardBatch {
    pub(crate) sources: Vec<SourceBatch>,
    purpose: Purpose,
}

impl ForwardBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.iter().all(SourceBatch::is_empty)
    }
}

/// What passes yielded since the last position was committed, in their order.
pub(crate) type StepOutputs = SmallVec<[ForwardBatch; 10]>;

/// Batches that wait to be used again.
#[derive(Default)]
pub(crate) struct BatchBuffers {
    drafts: Vec<ForwardBatch>,
    steps: Vec<ForwardBatch>,
}

impl BatchBuffers {
    fn of(&mut self, purpose: Purpose) -> &mut Vec<ForwardBatch> {
        match purpose {
            Purpose::Draft => &mut self.drafts,
            Purpose::Step => &mut self.steps,
        }
    }

    /// An empty batch for so many sources.
    pub(crate) fn take(&mut self, purpose: Purpose, sources: usize) -> ForwardBatch {
        let new = || ForwardBatch { sources: (0..sources).map(|_| SourceBatch::default()).collect(), purpose };
        self.of(purpose).pop().unwrap_or_else(new)
    }

    /// Takes batches back for the next passes.
    pub(crate) fn recycle(&mut self, outputs: impl IntoIterator<Item = ForwardBatch>) {
        for mut batch in outputs {
            batch.sources.iter_mut().for_each(SourceBatch::clear);
            self.of(batch.purpose).push(batch);
        }
    }
}

//! The sources, their threads, and the order in which they run.

pub(crate) mod batch;
mod concurrency;
mod interrupts;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};

use logitfuse_core::{Error, ErrorKind, Interrupt, LogitSource, Result, SequenceId, SharedVocabulary, SourceInfo};
use smallvec::SmallVec;

pub use self::concurrency::Concurrency;
use self::{
    batch::{ForwardBatch, INLINE},
    interrupts::Interrupts,
    worker::Worker,
};
use crate::Cancel;

/// Opened sources that share a vocabulary, each with a thread of its own.
///
/// A pool is what decoders draw rows from. It is a handle: clones share the sources, so that several decoders, or several
/// fusions in one decoder, use models that are opened once. Sequences are a decoder's own. A pool runs one pass at a time;
/// decoders on several threads take turns.
///
/// ```
/// use logitfuse_engine::SourcePool;
/// use logitfuse_replay::SyntheticSource;
///
/// let pool = SourcePool::builder()
///     .source(Box::new(SyntheticSource::new("large", 64, 1)))
///     .source(Box::new(SyntheticSource::new("small", 60, 2)))
///     .build()?;
/// assert_eq!(pool.sources().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["large", "small"]);
/// assert_eq!(pool.vocabulary().width(), 60);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SourcePool {
    shared: Arc<Shared>,
    /// Sources that run side by side, group after group.
    waves: Arc<Vec<Vec<usize>>>,
}

struct Shared {
    workers: Vec<Worker>,
    vocabulary: SharedVocabulary,
    interrupts: Arc<dyn Interrupt>,
    /// Held during a pass.
    turn: Mutex<()>,
}

/// Collects what a [`SourcePool`] is made of.
#[derive(Default)]
pub struct SourcePoolBuilder {
    sources: Vec<Box<dyn LogitSource>>,
    vocabulary: Option<SharedVocabulary>,
    concurrency: Concurrency,
}

impl SourcePoolBuilder {
    /// Adds a source; its index is the number of those added before.
    #[must_use]
    pub fn source(mut self, source: Box<dyn LogitSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// Sets the ids that may be emitted. Without it, all ids below the narrowest source's width.
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: SharedVocabulary) -> Self {
        self.vocabulary = Some(vocabulary);
        self
    }

    /// Sets which sources run side by side.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Starts the sources' threads.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] without a source, or with a vocabulary that is empty or wider than a source's rows.
    pub fn build(self) -> Result<SourcePool> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let Some(narrowest) = self.sources.iter().map(|s| s.info().logit_width).min() else {
            return wrong("a decoder needs a source".to_owned());
        };
        let vocabulary = self.vocabulary.unwrap_or_else(|| SharedVocabulary::new(narrowest, []));
        if vocabulary.width() > narrowest || vocabulary.count() == 0 {
            return wrong(format!(
                "the vocabulary has {} ids in a width of {}, the narrowest source yields {narrowest} logits",
                vocabulary.count(),
                vocabulary.width()
            ));
        }
        let waves = self.concurrency.waves(self.sources.len());
        let interrupts = Interrupts::new(self.sources.iter().filter_map(|source| source.interrupt()).collect());
        let workers = self.sources.into_iter().map(|source| Worker::spawn(source, &vocabulary));
        let workers = workers.collect::<Result<_>>()?;
        Ok(SourcePool {
            shared: Arc::new(Shared { workers, vocabulary, interrupts: Arc::new(interrupts), turn: Mutex::new(()) }),
            waves: Arc::new(waves),
        })
    }
}

impl SourcePool {
    /// Begins a pool.
    pub fn builder() -> SourcePoolBuilder {
        SourcePoolBuilder::default()
    }

    /// The same sources, run in another order.
    #[must_use]
    pub fn with_concurrency(&self, concurrency: &Concurrency) -> Self {
        Self { shared: Arc::clone(&self.shared), waves: Arc::new(concurrency.waves(self.shared.workers.len())) }
    }

    /// The sources, in the order in which they were added.
    pub fn sources(&self) -> impl Iterator<Item = &SourceInfo> {
        self.shared.workers.iter().map(Worker::info)
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.shared.workers.len()
    }

    /// Whether there is no source; never, of a pool that was built.
    pub fn is_empty(&self) -> bool {
        self.shared.workers.is_empty()
    }

    /// The ids that may be emitted; its width is the length of every row.
    pub fn vocabulary(&self) -> &SharedVocabulary {
        &self.shared.vocabulary
    }

    /// Does something with one source, between passes: measure it, read its counters. Sequences that it opens are its own to
    /// close.
    ///
    /// # Errors
    /// If there is no such source, or it panicked.
    pub fn with_source<T>(&self, index: usize, job: impl FnOnce(&mut dyn LogitSource) -> T) -> Result<T> {
        match self.shared.workers.get(index) {
            Some(worker) => worker.call(job),
            None => Err(Error::new(ErrorKind::InvalidConfig, format!("there is no source {index}"))),
        }
    }

    pub(crate) fn info(&self, source: usize) -> &SourceInfo {
        self.shared.workers[source].info()
    }

    /// Whether both are handles of one pool, whatever the order in which they run its sources.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Runs every source's batch, wave by wave; a failed source's batch holds its error, and the others run nevertheless.
    /// `cancel` interrupts the pass.
    pub(crate) fn forward(&self, batch: &mut ForwardBatch, cancel: &Cancel) {
        let _turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _watch = cancel.watch(&self.shared.interrupts);
        let workers = &self.shared.workers;
        for wave in self.waves.iter() {
            let sources = &mut batch.sources;
            let Some(here) = wave.iter().copied().rfind(|&source| !sources[source].is_empty()) else { continue };
            let mut elsewhere: SmallVec<[usize; INLINE]> = SmallVec::new();
            for &source in wave {
                if source != here && !sources[source].is_empty() {
                    workers[source].start(std::mem::take(&mut sources[source]));
                    elsewhere.push(source);
                }
            }
            workers[here].forward(&mut sources[here]);
            // Every batch is waited for even after one failed: a source must be idle before its sequences are closed.
            for source in elsewhere {
                sources[source] = workers[source].finish();
            }
        }
    }

    /// A sequence with room for so many tokens, which holds the first `len` of `parent` if there is one.
    pub(crate) fn open(
        &self,
        source: usize,
        parent: Option<(SequenceId, usize)>,
        reserve: usize,
    ) -> Result<SequenceId> {
        let limit = self.info(source).context_length.unwrap_or(usize::MAX);
        self.shared.workers[source].call(move |source| {
            let id = match parent {
                Some((parent, _)) => source.fork(parent)?,
                None => source.open()?,
            };
            let cut = parent.map_or(Ok(()), |(_, len)| source.truncate(id, len));
            let ready = cut.and_then(|()| source.reserve(id, reserve.min(limit)));
            ready.inspect_err(|_| source.close(id)).map(|()| id)
        })?
    }

    pub(crate) fn truncate(&self, source: usize, sequence: SequenceId, len: usize) -> Result<()> {
        self.shared.workers[source].call(|source| source.truncate(sequence, len)).flatten()
    }

    pub(crate) fn close(&self, source: usize, sequence: SequenceId) {
        // A source that panicked has nothing left to release.
        let _ = self.shared.workers[source].call(move |source| source.close(sequence));
    }
}

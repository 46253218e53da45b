//! When a source was in its `forward`, seen from outside.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use logitfuse_core::{LogitSource, Result, Rows, SequenceId, SourceInfo, Step};

/// From when to when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
}

/// The forwards of one source since they were last taken.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Span>>>);

impl Log {
    pub(crate) fn take(&self) -> Vec<Span> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A source that writes down when its forwards began and ended.
pub(crate) struct Probe<S> {
    source: S,
    log: Log,
}

impl<S: LogitSource> Probe<S> {
    pub(crate) fn new(source: S) -> (Self, Log) {
        let log = Log::default();
        (Self { source, log: log.clone() }, log)
    }
}

impl<S: LogitSource> LogitSource for Probe<S> {
    fn info(&self) -> &SourceInfo {
        self.source.info()
    }

    fn open(&mut self) -> Result<SequenceId> {
        self.source.open()
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.source.fork(of)
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.source.truncate(sequence, len)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.source.close(sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.source.len(sequence)
    }

    fn reserve(&mut self, sequence: SequenceId, tokens: usize) -> Result<()> {
        self.source.reserve(sequence, tokens)
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        let start = Instant::now();
        let result = self.source.forward(batch, out);
        let span = Span { start, end: Instant::now() };
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).push(span);
        result
    }
}

/// How much of `window` is covered by at least one of `spans`.
pub(crate) fn covered(spans: impl IntoIterator<Item = Span>, window: Span) -> Duration {
    let mut spans: Vec<Span> = spans.into_iter().collect();
    spans.sort_by_key(|span| span.start);
    let mut until = window.start;
    let mut sum = Duration::ZERO;
    for span in spans {
        let end = span.end.min(window.end);
        sum += end.saturating_duration_since(span.start.max(until));
        until = until.max(end);
    }
    sum
}

//! What all requests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use logitfuse::engine::Submitter;
use tokio::sync::{Notify, Semaphore};

use crate::{
    error::ApiError,
    metrics::Metrics,
    models::{Models, SourceCards},
    options::ServerOptions,
};

/// What all requests share.
pub(crate) struct App {
    pub(crate) options: ServerOptions,
    pub(crate) models: Models,
    pub(crate) sources: SourceCards,
    pub(crate) submitter: Submitter,
    /// One permit for each sequence that may wait or run.
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) capacity: usize,
    pub(crate) metrics: Metrics,
    /// When the server was started, in seconds since 1970.
    pub(crate) started: u64,
    /// Answers that are under way.
    pub(crate) in_flight: AtomicUsize,
    /// Told whenever one of them is complete, and when the server begins to shut down.
    pub(crate) idle: Notify,
    pub(crate) draining: AtomicBool,
    /// Whether the decoding thread is there.
    pub(crate) decoding: AtomicBool,
    /// Requests that were numbered.
    pub(crate) numbered: AtomicUsize,
    /// What tells the requests of this process from those of others.
    pub(crate) process: u64,
}

impl App {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.idle.notify_waiters();
    }

    /// Whether requests can be answered.
    pub(crate) fn ready(&self) -> Result<(), ApiError> {
        if self.is_draining() {
            return Err(ApiError::draining());
        }
        if self.decoding.load(Ordering::SeqCst) { Ok(()) } else { Err(ApiError::stopped()) }
    }

    /// Waits until no answer is under way.
    pub(crate) async fn quiet(&self) {
        loop {
            let told = self.idle.notified();
            tokio::pin!(told);
            // Registered before the count is read, so that no end goes unheard.
            told.as_mut().enable();
            if self.in_flight.load(Ordering::SeqCst) == 0 {
                return;
            }
            told.await;
        }
    }

    /// Waits until the server is told to shut down.
    pub(crate) async fn told_to_drain(&self) {
        loop {
            let told = self.idle.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.is_draining() {
                return;
            }
            told.await;
        }
    }

    /// Runs what takes a processor for a while, such as encoding a long text, beside the threads that answer.
    pub(crate) async fn prepare<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let span = tracing::Span::current();
        let work = move || span.in_scope(work);
        // A panic of a library would end the answer, not the server.
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(ApiError::stopped()))
    }

    /// Notes what a request says, if the operator wants that.
    pub(crate) fn log_body(&self, bytes: &[u8]) {
        if self.options.log_requests {
            tracing::info!(body = %String::from_utf8_lossy(bytes), "request");
        }
    }

    /// A name for a request that brings none.
    pub(crate) fn request_id(&self) -> String {
        let number = self.numbered.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number:x}", self.process)
    }
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

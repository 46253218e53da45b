//! One source and the threads that may run it.
//!
//! A session of ONNX Runtime must be run by one caller at a time, and several sources should run side by side. The thread
//! that decodes runs one source of a wave itself and leaves the others to their own threads: waking a thread takes longer
//! than a small model's step.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, SharedVocabulary, SourceInfo};

use super::batch::SourceBatch;

pub(super) struct Worker {
    info: SourceInfo,
    vocabulary: SharedVocabulary,
    source: Arc<SharedSource>,
    jobs: Option<SyncSender<SourceBatch>>,
    /// Locked during a pass alone; a mutex because receivers are not `Sync`.
    done: Mutex<Receiver<SourceBatch>>,
    thread: Option<JoinHandle<()>>,
}

/// A source that the decoding thread or its own may run; none, after it panicked.
struct SharedSource(Mutex<Option<Box<dyn LogitSource>>>);

impl SharedSource {
    fn run<T>(&self, name: &str, job: impl FnOnce(&mut dyn LogitSource) -> T) -> Result<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || {
            Error::new(ErrorKind::Internal, format!("source `{name}` stopped: it panicked"))
                .with_help("please report this with the command that you ran")
        };
        let source = held.as_mut().ok_or_else(gone)?;
        catch_unwind(AssertUnwindSafe(|| job(source.as_mut()))).map_err(|_| {
            // What it holds after a panic is unknown; not even dropping it is safe to try.
            std::mem::forget(held.take());
            gone()
        })
    }

    fn forward(&self, name: &str, batch: &mut SourceBatch, vocabulary: &SharedVocabulary) {
        let result = self.run(name, |source| batch.run(source, vocabulary)).flatten();
        batch.failed(result.err());
    }
}

impl Worker {
    pub(super) fn spawn(source: Box<dyn LogitSource>, vocabulary: &SharedVocabulary) -> Result<Self> {
        let info = source.info().clone();
        let source = Arc::new(SharedSource(Mutex::new(Some(source))));
        let (jobs, queue) = sync_channel::<SourceBatch>(1);
        let (finished, done) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("logitfuse-{}", info.name))
            .spawn({
                let (source, name, vocabulary) = (Arc::clone(&source), info.name.clone(), vocabulary.clone());
                move || {
                    while let Ok(mut batch) = queue.recv() {
                        source.forward(&name, &mut batch, &vocabulary);
                        if finished.send(batch).is_err() {
                            break;
                        }
                    }
                }
            })
            .map_err(|e| {
                Error::new(ErrorKind::Io, format!("could not start a thread for source `{}`: {e}", info.name))
            })?;
        let (vocabulary, done) = (vocabulary.clone(), Mutex::new(done));
        Ok(Self { info, vocabulary, source, jobs: Some(jobs), done, thread: Some(thread) })
    }

    pub(super) fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// Has the source's own thread run a batch, which [`finish`](Self::finish) hands back.
    pub(super) fn start(&self, batch: SourceBatch) {
        if let Some(jobs) = &self.jobs {
            // A thread that is gone drops the batch: `finish` reports that.
            let _ = jobs.send(batch);
        }
    }

    /// Waits for the batch that was started.
    pub(super) fn finish(&self) -> SourceBatch {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap_or_else(|_| {
            let what = format!("source `{}` stopped: its thread is gone", self.info.name);
            let mut batch = SourceBatch::default();
            batch.failed(Some(Error::new(ErrorKind::Internal, what).with_help("please report this")));
            batch
        })
    }

    /// Runs a batch on the caller's thread.
    pub(super) fn forward(&self, batch: &mut SourceBatch) {
        self.source.forward(&self.info.name, batch, &self.vocabulary);
    }

    /// Does something else with the source, on the caller's thread.
    pub(super) fn call<T>(&self, job: impl FnOnce(&mut dyn LogitSource) -> T) -> Result<T> {
        self.source.run(&self.info.name, job)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Closing the queue ends the thread.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

//! One source and who runs it.
//!
//! A session of ONNX Runtime must be run by one caller at a time, and several sources should run side by side. Whoever
//! decodes runs one source of a wave itself and leaves the others to their own threads: waking a thread takes longer than a
//! small model's step.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, SharedVocabulary, SourceInfo};

use crate::step::Parcel;

pub(crate) struct Worker {
    info: SourceInfo,
    vocabulary: SharedVocabulary,
    source: Arc<Shared>,
    jobs: Option<SyncSender<Parcel>>,
    done: Receiver<(Parcel, Result<()>)>,
    thread: Option<JoinHandle<()>>,
}

/// A source that this thread or its own may run; nobody, after it panicked.
struct Shared(Mutex<Option<Box<dyn LogitSource>>>);

impl Shared {
    fn run<T>(&self, name: &str, job: impl FnOnce(&mut dyn LogitSource) -> T) -> Result<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || {
            Error::new(ErrorKind::Internal, format!("source `{name}` stopped: it panicked"))
                .with_help("please report this with the command that you ran")
        };
        let source = held.as_mut().ok_or_else(gone)?;
        catch_unwind(AssertUnwindSafe(|| job(source.as_mut()))).map_err(|_| {
            // Nobody knows what it holds now; not even dropping it is safe to try.
            std::mem::forget(held.take());
            gone()
        })
    }
}

impl Worker {
    pub(crate) fn spawn(source: Box<dyn LogitSource>, vocabulary: &SharedVocabulary) -> Result<Self> {
        let info = source.info().clone();
        let source = Arc::new(Shared(Mutex::new(Some(source))));
        let (jobs, queue) = sync_channel::<Parcel>(1);
        let (finished, done) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("logitfuse-{}", info.name))
            .spawn({
                let (source, name, vocabulary) = (Arc::clone(&source), info.name.clone(), vocabulary.clone());
                move || {
                    while let Ok(mut parcel) = queue.recv() {
                        let result = source.run(&name, |source| parcel.run(source, &vocabulary)).flatten();
                        if finished.send((parcel, result)).is_err() {
                            break;
                        }
                    }
                }
            })
            .map_err(|e| {
                Error::new(ErrorKind::Io, format!("could not start a thread for source `{}`: {e}", info.name))
            })?;
        Ok(Self { info, vocabulary: vocabulary.clone(), source, jobs: Some(jobs), done, thread: Some(thread) })
    }

    pub(crate) fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// Has the source's own thread run a parcel, which [`finish`](Self::finish) hands back.
    pub(crate) fn start(&self, parcel: Parcel) {
        if let Some(jobs) = &self.jobs {
            // A thread that is gone drops the parcel: `finish` reports that.
            let _ = jobs.send(parcel);
        }
    }

    /// Waits for the parcel that was started.
    pub(crate) fn finish(&self) -> (Parcel, Result<()>) {
        self.done.recv().unwrap_or_else(|_| {
            let what = format!("source `{}` stopped: its thread is gone", self.info.name);
            (Parcel::default(), Err(Error::new(ErrorKind::Internal, what).with_help("please report this")))
        })
    }

    /// Runs a parcel here.
    pub(crate) fn forward(&self, parcel: &mut Parcel) -> Result<()> {
        self.call(|source| parcel.run(source, &self.vocabulary)).flatten()
    }

    /// Does something else with the source, here.
    pub(crate) fn call<T>(&self, job: impl FnOnce(&mut dyn LogitSource) -> T) -> Result<T> {
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

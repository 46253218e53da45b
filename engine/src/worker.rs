//! One owner thread per source.
//!
//! A session of ONNX Runtime must be run by one caller at a time, and several sources should run side by side. Both
//! follow from giving each source a thread that owns it and works through a queue of jobs.

use std::{
    sync::mpsc::{Receiver, Sender, channel, sync_channel},
    thread::JoinHandle,
};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, SourceInfo};

type Job = Box<dyn FnOnce(&mut dyn LogitSource) + Send>;

pub(crate) struct Worker {
    info: SourceInfo,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A job's result, which may still be on its way.
pub(crate) struct Pending<T> {
    result: Receiver<T>,
    source: String,
}

impl<T> Pending<T> {
    pub(crate) fn wait(self) -> Result<T> {
        self.result.recv().map_err(|_| {
            Error::new(ErrorKind::Internal, format!("source `{}` stopped: its thread panicked", self.source))
                .with_help("please report this with the command that you ran")
        })
    }
}

impl Worker {
    pub(crate) fn spawn(mut source: Box<dyn LogitSource>) -> Result<Self> {
        let info = source.info().clone();
        let (jobs, queue) = channel::<Job>();
        let thread = std::thread::Builder::new()
            .name(format!("logitfuse-{}", info.name))
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(source.as_mut());
                }
            })
            .map_err(|e| {
                Error::new(ErrorKind::Io, format!("could not start a thread for source `{}`: {e}", info.name))
            })?;
        Ok(Self { info, jobs: Some(jobs), thread: Some(thread) })
    }

    pub(crate) fn info(&self) -> &SourceInfo {
        &self.info
    }

    /// Queues a job and returns at once.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn LogitSource) -> T + Send + 'static,
    ) -> Pending<T> {
        let (send, result) = sync_channel(1);
        if let Some(jobs) = &self.jobs {
            // A worker that is gone drops the job and with it `send`: `wait` reports that.
            let _ = jobs.send(Box::new(move |source| {
                let _ = send.send(job(source));
            }));
        }
        Pending { result, source: self.info.name.clone() }
    }

    /// Runs a job and waits for it.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn LogitSource) -> T + Send + 'static,
    ) -> Result<T> {
        self.submit(job).wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Closing the queue ends the thread; a session is freed by the thread that owned it.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

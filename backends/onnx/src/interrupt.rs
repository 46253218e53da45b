//! Interruption of a run, between two nodes of its graph: a graph may hold a loop without a practical end.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use logitfuse_core::{Error, ErrorKind, Interrupt};
use ort::session::RunOptions;

use crate::error;

/// The options that all runs of a source share, which hold the flag that ONNX Runtime looks at.
pub(crate) struct RunStop {
    pub(crate) options: RunOptions,
    raised: AtomicBool,
    /// Whether the whole runtime was interrupted. Locked while the flag changes.
    ended: Mutex<bool>,
}

impl RunStop {
    fn new() -> ort::Result<Self> {
        Ok(Self { options: RunOptions::new()?, raised: AtomicBool::new(false), ended: Mutex::new(false) })
    }

    /// An error of a run, which is no failure if it was asked for.
    pub(crate) fn error(&self, name: &str, cause: ort::Error) -> Error {
        if self.raised.load(Ordering::SeqCst) {
            return Error::new(ErrorKind::Cancelled, format!("{name}: its pass was interrupted"));
        }
        error::backend(name)(cause)
    }

    fn set(&self, raised: bool) {
        self.raised.store(raised, Ordering::SeqCst);
        // Setting a flag cannot fail; and where it did, the run would go on as if it had not been asked to end.
        let _ = if raised { self.options.terminate() } else { self.options.unterminate() };
    }

    fn end(&self) {
        let mut ended = lock(&self.ended);
        *ended = true;
        self.set(true);
    }
}

impl Interrupt for RunStop {
    fn raise(&self) {
        let _ended = lock(&self.ended);
        self.set(true);
    }

    fn lower(&self) {
        let ended = lock(&self.ended);
        if !*ended {
            self.set(false);
        }
    }
}

/// The sources of a runtime.
#[derive(Debug, Default)]
pub(crate) struct RunStops {
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    ended: bool,
    all: Vec<Weak<RunStop>>,
}

impl RunStops {
    /// That of a new source.
    pub(crate) fn add(&self) -> ort::Result<Arc<RunStop>> {
        let stop = Arc::new(RunStop::new()?);
        let mut sources = lock(&self.sources);
        sources.all.retain(|stop| stop.strong_count() > 0);
        sources.all.push(Arc::downgrade(&stop));
        if sources.ended {
            stop.end();
        }
        Ok(stop)
    }

    /// Ends every run, for good.
    pub(crate) fn end(&self) {
        let mut sources = lock(&self.sources);
        sources.ended = true;
        sources.all.iter().filter_map(Weak::upgrade).for_each(|stop| stop.end());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

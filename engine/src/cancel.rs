use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use logitfuse_core::Interrupt;

/// A flag that ends a generation at the next token, or in the middle of a pass where its sources can be
/// [interrupted](logitfuse_core::LogitSource::interrupt). Clones share it, so a signal handler may hold one.
///
/// ```
/// let cancel = logitfuse_engine::Cancel::new();
/// let in_the_handler = cancel.clone();
/// in_the_handler.cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Default)]
struct Shared {
    set: AtomicBool,
    /// What is under way.
    watched: Mutex<Vec<Arc<dyn Interrupt>>>,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag. What was generated so far is returned with [`FinishReason::Cancelled`](crate::FinishReason).
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::SeqCst);
        self.watched().iter().for_each(|interrupt| interrupt.raise());
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    /// Raises this once the flag is set, as long as the guard lives.
    pub(crate) fn watch<'a>(&'a self, interrupt: &'a Arc<dyn Interrupt>) -> Watch<'a> {
        let mut watched = self.watched();
        watched.push(Arc::clone(interrupt));
        // Whoever sets the flag later finds it in the list.
        if self.is_cancelled() {
            interrupt.raise();
        }
        Watch { cancel: self, interrupt }
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Arc<dyn Interrupt>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// While it lives, a flag that is set interrupts a pass. Afterwards the next pass runs.
pub(crate) struct Watch<'a> {
    cancel: &'a Cancel,
    interrupt: &'a Arc<dyn Interrupt>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watched = self.cancel.watched();
        if let Some(place) = watched.iter().position(|other| Arc::ptr_eq(other, self.interrupt)) {
            watched.swap_remove(place);
        }
        // With the lock held, `cancel` cannot raise it again.
        self.interrupt.lower();
    }
}

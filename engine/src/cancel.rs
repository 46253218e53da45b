use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A flag that ends a generation at the next token. Clones share it, so a signal handler may hold one.
///
/// ```
/// let cancel = logitfuse_engine::Cancel::new();
/// let in_the_handler = cancel.clone();
/// in_the_handler.cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag. What was generated so far is returned with [`FinishReason::Cancelled`](crate::FinishReason).
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

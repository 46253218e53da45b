use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use logitfuse_core::Interrupt;

/// The interrupts of all sources of a pool as one, which costs nothing at passes that are not interrupted.
#[derive(Default)]
pub(super) struct Interrupts {
    of_sources: Vec<Arc<dyn Interrupt>>,
    raised: AtomicBool,
}

impl Interrupts {
    pub(super) fn new(of_sources: Vec<Arc<dyn Interrupt>>) -> Self {
        Self { of_sources, raised: AtomicBool::new(false) }
    }
}

impl Interrupt for Interrupts {
    fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        self.of_sources.iter().for_each(|interrupt| interrupt.raise());
    }

    fn lower(&self) {
        if self.raised.swap(false, Ordering::SeqCst) {
            self.of_sources.iter().for_each(|interrupt| interrupt.lower());
        }
    }
}

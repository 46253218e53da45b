//! An instance and a state, as core knows them.

use std::sync::Arc;

use logitfuse_core::{FusionState, FusionStrategy, SessionInfo};

use crate::failure::Failure;

/// Behind `lf_instance`.
pub(crate) struct Instance {
    pub(crate) strategy: Arc<dyn FusionStrategy>,
}

/// Behind `lf_state`.
pub(crate) struct Sequence {
    pub(crate) state: Box<dyn FusionState>,
    pub(crate) shape: Shape,
}

/// What every step of a sequence must agree with.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) columns: usize,
}

impl Instance {
    pub(crate) fn start(&self, session: &SessionInfo) -> Result<Sequence, Failure> {
        let info = self.strategy.info();
        let shape =
            Shape { rows: session.bindings.len(), width: session.vocabulary.width(), columns: info.trace.len() };
        Ok(Sequence { state: self.strategy.start(session)?, shape })
    }
}

impl Sequence {
    pub(crate) fn fork(&self) -> Result<Self, Failure> {
        Ok(Self { state: self.state.fork()?, shape: self.shape })
    }
}

//! A strategy that fuses nothing and writes down what it sees.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, PromptReading, PromptScore, Result, RoleSpec,
    SessionInfo, StrategyInfo, TokenId,
};
use logitfuse_replay::TapeWriter;

/// The one role of a recorder: every source plays it.
pub(super) const ROLE: &str = "recorded";

/// Where rows go: a tape and the text that it is given.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) writer: Option<TapeWriter>,
    pub(super) tokens: Vec<TokenId>,
    pub(super) written: usize,
}

/// A desk that the engine's thread and ours share.
#[derive(Clone, Default)]
pub(super) struct SharedDesk(Arc<Mutex<Desk>>);

impl SharedDesk {
    /// A panic while somebody wrote leaves a tape whose last text is unfinished, which is what tapes are made to bear.
    pub(super) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in for a strategy while a tape is made: it is told exactly what a strategy would be told, so that what is
/// on the tape is what strategies see.
pub(super) struct Recorder {
    info: StrategyInfo,
    desk: SharedDesk,
}

impl Recorder {
    /// `reading` is how much of every prompt it asks for: as much as the strategies that are to be replayed.
    pub(super) fn new(desk: SharedDesk, reading: PromptReading) -> Self {
        Self { info: StrategyInfo::new("recorder", [RoleSpec::many(ROLE)]).with_prompt(reading), desk }
    }
}

impl FusionStrategy for Recorder {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Recording { desk: self.desk.clone() }))
    }
}

struct Recording {
    desk: SharedDesk,
}

impl FusionState for Recording {
    fn begin(&mut self, _step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        if let Some(writer) = &mut self.desk.lock().writer {
            writer.prompts(prompt);
        }
        Ok(())
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        let mut desk = self.desk.lock();
        let Desk { writer: Some(writer), tokens, written } = &mut *desk else { return Ok(()) };
        // Fusing a step once more is allowed, and writes nothing.
        if step.committed.len() == *written {
            let token = tokens.get(*written).copied().ok_or_else(|| {
                Error::new(ErrorKind::Internal, "the engine scored more tokens than it was given to record")
            })?;
            writer.push(token, step.rows())?;
            *written += 1;
        }
        Ok(())
    }

    fn commit(&mut self, _tokens: &[TokenId]) -> Result<()> {
        Ok(())
    }

    fn rollback(&mut self, _n: usize) -> Result<()> {
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Self { desk: self.desk.clone() }))
    }
}

//! What engines are made of, so that there may be several over the same models.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logitfuse_core::{FusionStrategy, LogitSource, Result, Rows, SequenceId, SharedVocabulary, SourceInfo, Step};
use logitfuse_engine::{BaseOnly, CalibrationPrompts, Concurrency, Engine, Role, Speculation};

/// A source that several engines use in turn: sequences are its own, so that none sees another's.
#[derive(Clone)]
pub(crate) struct Lent {
    info: SourceInfo,
    source: Arc<Mutex<dyn LogitSource>>,
}

impl Lent {
    pub(crate) fn new(source: impl LogitSource + 'static) -> Self {
        Self { info: source.info().clone(), source: Arc::new(Mutex::new(source)) }
    }

    fn source(&self) -> MutexGuard<'_, dyn LogitSource + 'static> {
        // Whoever panicked in it told its engine, which uses it no more.
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogitSource for Lent {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SequenceId> {
        self.source().open()
    }

    fn fork(&mut self, of: SequenceId) -> Result<SequenceId> {
        self.source().fork(of)
    }

    fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<()> {
        self.source().truncate(sequence, len)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.source().close(sequence);
    }

    fn len(&self, sequence: SequenceId) -> Option<usize> {
        self.source().len(sequence)
    }

    fn reserve(&mut self, sequence: SequenceId, tokens: usize) -> Result<()> {
        self.source().reserve(sequence, tokens)
    }

    fn forward(&mut self, batch: &[Step<'_>], out: &mut Rows) -> Result<()> {
        self.source().forward(batch, out)
    }
}

/// Everything of an experiment that an engine is built from, but how it uses the machine.
pub(crate) struct Kit {
    pub(crate) strategy: Arc<dyn FusionStrategy>,
    pub(crate) sources: Vec<Lent>,
    /// In the order of the engine's bindings.
    pub(crate) roles: Vec<Role>,
    pub(crate) vocabulary: SharedVocabulary,
    pub(crate) calibration: Option<Vec<CalibrationPrompts>>,
}

impl Kit {
    /// An engine that fuses.
    pub(crate) fn engine(&self, concurrency: Concurrency, speculation: Option<Speculation>) -> Result<Engine> {
        let mut builder = Engine::builder(Arc::clone(&self.strategy)).concurrency(concurrency).speculation(speculation);
        for source in &self.sources {
            builder = builder.source(Box::new(source.clone()));
        }
        let mut engine = builder.vocabulary(self.vocabulary.clone()).roles(self.roles.iter().cloned()).build()?;
        if let Some(prompts) = &self.calibration {
            engine.calibrate(prompts)?;
        }
        Ok(engine)
    }

    /// An engine that generates from one model alone.
    pub(crate) fn alone(&self, model: usize) -> Result<Engine> {
        Engine::builder(Arc::new(BaseOnly::new()))
            .source(Box::new(self.sources[model].clone()))
            .vocabulary(self.vocabulary.clone())
            .roles([Role::new("base", 0)])
            .build()
    }
}

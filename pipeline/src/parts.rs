//! What decoders are made of, so that there may be several over the same models.

use std::sync::Arc;

use logitfuse_core::{FusionStrategy, Result};
use logitfuse_engine::{BaseOnly, Concurrency, Decoder, Fusion, Role, SourcePool, Speculation};

/// The sources and the fitted strategy of a pipeline, without how it uses the machine.
#[derive(Clone)]
pub(crate) struct EngineParts {
    pub(crate) strategy: Arc<dyn FusionStrategy>,
    pub(crate) pool: SourcePool,
    /// In the order of the fusion's bindings.
    pub(crate) roles: Vec<Role>,
}

impl EngineParts {
    /// A fusion whose sources run in this order.
    pub(crate) fn fusion(&self, concurrency: &Concurrency, speculation: Option<Speculation>) -> Result<Fusion> {
        let pool = self.pool.with_concurrency(concurrency);
        Fusion::new(&pool, Arc::clone(&self.strategy), self.roles.iter().cloned())?.with_speculation(speculation)
    }

    /// A decoder that fuses.
    pub(crate) fn decoder(&self, concurrency: &Concurrency, speculation: Option<Speculation>) -> Result<Decoder> {
        Ok(Decoder::new(&self.fusion(concurrency, speculation)?))
    }

    /// A decoder that generates from one model alone.
    pub(crate) fn alone(&self, model: usize) -> Result<Decoder> {
        let fusion = Fusion::new(&self.pool, Arc::new(BaseOnly::new()), [Role::new("base", model)])?;
        Ok(Decoder::new(&fusion))
    }

    /// A model's name.
    pub(crate) fn model_named(&self, model: usize) -> String {
        self.pool.sources().nth(model).map_or_else(String::new, |info| info.name.clone())
    }
}

use std::sync::Arc;

use logitfuse_core::{FusionStrategy, LogitSource, Result, SharedVocabulary, TokenId};

use crate::{Concurrency, Decoder, Fusion, Role, SourcePool, Speculation, pool::SourcePoolBuilder};

/// Bytes of key/value cache for beginnings that prompts share, where nothing else is said.
pub(super) const PREFIX_CACHE_BYTES: u64 = 256 << 20;

/// Collects a pool, a fusion over it and a [`Decoder`] in one: the short way where there is one fusion.
pub struct DecoderBuilder {
    strategy: Arc<dyn FusionStrategy>,
    pool: SourcePoolBuilder,
    roles: Vec<Role>,
    end_of_sequence: Vec<TokenId>,
    speculation: Option<Speculation>,
    prefix_cache_bytes: u64,
}

impl DecoderBuilder {
    pub(super) fn new(strategy: Arc<dyn FusionStrategy>) -> Self {
        Self {
            strategy,
            pool: SourcePool::builder(),
            roles: Vec::new(),
            end_of_sequence: Vec::new(),
            speculation: None,
            prefix_cache_bytes: PREFIX_CACHE_BYTES,
        }
    }

    /// Adds a source; its index is the number of those added before.
    #[must_use]
    pub fn source(mut self, source: Box<dyn LogitSource>) -> Self {
        self.pool = self.pool.source(source);
        self
    }

    /// Sets which source plays which role, in any order.
    #[must_use]
    pub fn roles(mut self, roles: impl IntoIterator<Item = Role>) -> Self {
        self.roles = roles.into_iter().collect();
        self
    }

    /// Sets the ids that may be emitted. Without it, all ids below the narrowest source's width.
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: SharedVocabulary) -> Self {
        self.pool = self.pool.vocabulary(vocabulary);
        self
    }

    /// Adds ids that end a text to those that the sources declare.
    #[must_use]
    pub fn end_of_sequence(mut self, ids: impl IntoIterator<Item = TokenId>) -> Self {
        self.end_of_sequence.extend(ids);
        self
    }

    /// Sets whether sources run side by side.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.pool = self.pool.concurrency(concurrency);
        self
    }

    /// Sets whether tokens are drafted, see [`Fusion::with_speculation`].
    #[must_use]
    pub fn speculation(mut self, speculation: Option<Speculation>) -> Self {
        self.speculation = speculation;
        self
    }

    /// Sets how many bytes of key/value cache may be spent on beginnings that prompts share, over all sources; 0 keeps
    /// none. Without it 256 MB.
    #[must_use]
    pub fn prefix_cache_bytes(mut self, bytes: u64) -> Self {
        self.prefix_cache_bytes = bytes;
        self
    }

    /// Checks that roles, sources and strategy fit and starts the sources' threads.
    ///
    /// # Errors
    /// Those of [`SourcePoolBuilder::build`], [`Fusion::new`] and [`Fusion::with_speculation`].
    pub fn build(self) -> Result<Decoder> {
        let pool = self.pool.build()?;
        let fusion = Fusion::with_end_of_sequence(&pool, self.strategy, self.roles, self.end_of_sequence)?;
        let fusion = fusion.with_speculation(self.speculation)?;
        Ok(Decoder::with_prefix_cache(&fusion, self.prefix_cache_bytes))
    }
}

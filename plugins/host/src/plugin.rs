use std::{path::Path, sync::Arc};

use logitfuse_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::{Hash, Metadata, PluginFile, PluginStrategy, StrategyMetadata, library::Library};

/// A loaded plugin. It makes [strategies](PluginStrategy), which engines use as they use built-in ones.
///
/// What was loaded stays loaded until the process ends; the same bytes are loaded once, whatever their path.
#[derive(Clone)]
pub struct Plugin {
    path: Arc<Path>,
    hash: Hash,
    metadata: Arc<Metadata>,
    library: Arc<Library>,
}

/// What happens when a strategy fails in the middle of a text: it returns an error, a row that is no row, or panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The text fails with an error that names plugin, call and position.
    #[default]
    Fail,
    /// The row of role `base` takes the place of the fused one, the log says so once for each text, and
    /// [`PluginStrategy::fallbacks`] counts. A state that panicked stays at the base until its text ends.
    FallbackToBase,
}

impl std::str::FromStr for OnError {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "fail" => Ok(Self::Fail),
            "fallback_to_base" => Ok(Self::FallbackToBase),
            _ => Err(Error::new(ErrorKind::InvalidConfig, format!("{text:?} is no value of on_error"))
                .with_help("there are fail and fallback_to_base")),
        }
    }
}

impl PluginFile {
    /// Loads exactly the bytes that were examined, and validates what they offer.
    ///
    /// **This runs code of the plugin with all your rights**; ask a [`Policy`](crate::Policy) before.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] if the system's loader refuses it, [`ErrorKind::InvalidData`] for a table that breaks the ABI,
    /// whatever the plugin says if it refuses to start.
    pub fn load(&self) -> Result<Plugin> {
        let library = Library::load(self).map_err(|e| e.context(self.path().display()))?;
        Ok(Plugin { path: self.path().into(), hash: self.hash(), metadata: Arc::new(self.metadata().clone()), library })
    }
}

impl Plugin {
    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hash of that file.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// What it says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The strategy `id` with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has no such strategy. [`ErrorKind::InvalidConfig`] if a parameter is wrong: the message
    /// starts with its JSON pointer, as those of built-in strategies do.
    pub fn strategy(&self, id: &str, params: &Value, on_error: OnError) -> Result<PluginStrategy> {
        let (index, described) = self.described(id)?;
        described.check_params(params).map_err(|e| {
            e.with_help(format!("`logitfuse plugin show {}` lists the parameters", self.path.display()))
        })?;
        self.create(index, described, params, on_error)
    }

    /// As [`strategy`](Self::strategy), with parameters that are not checked against the schema: what the plugin itself makes
    /// of them.
    ///
    /// # Errors
    /// As for `strategy`.
    pub fn strategy_unchecked(&self, id: &str, params: &Value) -> Result<PluginStrategy> {
        let (index, described) = self.described(id)?;
        self.create(index, described, params, OnError::Fail)
    }

    /// The optional functions that the table of the strategy at `index` of the metadata has (`commit`, `rollback`, `fork`,
    /// `settle`, `describe`), and those of the plugin's extensions (`begin`, `read_prompt`, `calibrate`), whichever strategy
    /// they are for.
    pub fn optional_functions(&self, index: usize) -> Vec<&'static str> {
        let table =
            self.library.tables.get(index).map(|table| crate::library::present(&table.functions)).unwrap_or_default();
        table.into_iter().chain(self.library.extensions.present()).collect()
    }

    fn create(
        &self,
        index: usize,
        described: &StrategyMetadata,
        params: &Value,
        on_error: OnError,
    ) -> Result<PluginStrategy> {
        PluginStrategy::create(&self.library, index, &self.metadata.id, described, params, on_error)
    }

    fn described(&self, id: &str) -> Result<(usize, &StrategyMetadata)> {
        let strategies = &self.metadata.strategies;
        strategies.iter().enumerate().find(|(_, strategy)| strategy.info.id == id).ok_or_else(|| {
            let known: Vec<&str> = strategies.iter().map(|strategy| strategy.info.id.as_str()).collect();
            Error::new(ErrorKind::NotFound, format!("{}: there is no strategy {id} in it", self.path.display()))
                .with_help(format!("there are {}", known.join(", ")))
        })
    }
}

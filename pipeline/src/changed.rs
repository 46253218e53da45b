//! A pipeline's fusion with other parameters, for single requests.

use std::sync::Arc;

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result};
use logitfuse_engine::Fusion;
use serde_json::{Map, Value};

use crate::{Pipeline, strategies};

impl Pipeline {
    /// The fusion with some parameters of its strategy changed, for [`Request::fusion`](logitfuse_engine::Request::fusion): the
    /// same sources in the same roles, the same drafts, and every parameter that is not named as it is. Nothing is opened and
    /// no file is read; a plugin's strategy is made anew by the library that is loaded.
    ///
    /// # Errors
    /// Those of the parameters: the message begins with the JSON pointer of the one that is wrong. Of kind
    /// [`Unsupported`](ErrorKind::Unsupported) where the strategy was fitted to its sources when they were opened.
    pub fn fusion_with_parameters(&self, changed: &Map<String, Value>) -> Result<Fusion> {
        if changed.is_empty() {
            return Ok(self.fusion().clone());
        }
        if self.is_calibrated() {
            let what =
                format!("strategy `{}` was fitted to its sources when they were opened", self.strategy().info().id);
            return Err(Error::new(ErrorKind::Unsupported, what).with_help("leave its parameters as they are"));
        }
        let mut config = self.options().strategy.clone();
        config.params.extend(changed.iter().map(|(key, value)| (key.clone(), value.clone())));
        let strategy = strategies::wrapped(&config, self.unwrapped(&Value::Object(config.params.clone()))?)?;
        let fusion = self.fusion_with(strategy)?.with_speculation(self.fusion().speculation().cloned())?;
        // Fewer roles would make a prompt of each binding one too many.
        if fusion.session().bindings != self.session().bindings {
            let what = "these parameters give the strategy other roles than those that sources play".to_owned();
            return Err(Error::new(ErrorKind::Unsupported, what).with_help("leave them as they are"));
        }
        Ok(fusion.with_uneven_rows(!self.warnings().is_empty()))
    }

    /// The strategy without its wrappers.
    fn unwrapped(&self, params: &Value) -> Result<Arc<dyn FusionStrategy>> {
        #[cfg(feature = "plugins")]
        if let Some(plugin) = self.plugin() {
            return plugin.with_params(params);
        }
        strategies::made(self.options().strategy.id.as_deref().unwrap_or("none"), params)
    }
}

//! Engines that outlive the cell that they were made for.

use logitfuse_core::Result;
use serde_json::Value;

use super::RunOptions;
use crate::{Config, Wired};

/// Tells the caller about an engine that was just made.
pub(super) type OnWired<'a> = dyn FnMut(&Wired) + 'a;

/// The engine of the cell before, which the next one takes over if it runs the same sources with the same strategy: then
/// only prompts, data and lengths differ, and no model is loaded again.
#[derive(Default)]
pub(super) struct Models {
    last: Option<(Value, Wired)>,
}

impl Models {
    pub(super) fn wired(
        &mut self,
        config: &Config,
        options: &RunOptions<'_>,
        on_wired: &mut OnWired<'_>,
    ) -> Result<&mut Wired> {
        let key = key(config);
        let (key, wired) = match self.last.take() {
            Some((last, mut wired)) if last == key => {
                wired.set_run(config.run.clone());
                (key, wired)
            }
            before => {
                // The memory of the models before is free before the next ones are loaded.
                drop(before);
                let wired = Wired::with_plugins(config.clone(), options.runtime, options.threads, options.plugins)?;
                on_wired(&wired);
                (key, wired)
            }
        };
        Ok(&mut self.last.insert((key, wired)).1)
    }
}

/// Everything of a configuration that an engine is made from.
fn key(config: &Config) -> Value {
    let mut key = serde_json::to_value(config).unwrap_or_default();
    if let Some(key) = key.as_object_mut() {
        key.remove("run");
        // Drafts are timed for greedy decoding, with as many sequences as run at once.
        let timed = config.speculation.is_some() && config.run.temperature == 0.0;
        key.insert("timed".to_owned(), timed.then_some(config.run.batch).into());
    }
    key
}

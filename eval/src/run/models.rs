//! Pipelines that outlive the cell that they were opened for.

use logitfuse_config::Config;
use logitfuse_core::Result;
use logitfuse_engine::Decoder;
use logitfuse_pipeline::Pipeline;
use serde_json::Value;

use super::RunOptions;

/// Tells the caller about a pipeline that was just opened.
pub(super) type OnOpened<'a> = dyn FnMut(&Pipeline) + 'a;

/// The pipeline of the cell before, which the next one takes over if it runs the same sources with the same strategy: then
/// only prompts, data and lengths differ, and no model is loaded again.
#[derive(Default)]
pub(super) struct Models {
    last: Option<(Value, Opened)>,
}

/// A pipeline and the decoder that runs its requests.
pub(super) struct Opened {
    pub(super) pipeline: Pipeline,
    pub(super) decoder: Decoder,
}

impl Models {
    pub(super) fn open(
        &mut self,
        config: &Config,
        options: &RunOptions<'_>,
        on_opened: &mut OnOpened<'_>,
    ) -> Result<&mut Opened> {
        let key = key(config);
        let opened = match self.last.take() {
            Some((last, opened)) if last == key => {
                Opened { pipeline: opened.pipeline.with_run(config.run.clone()), decoder: opened.decoder }
            }
            before => {
                // The memory of the models before is free before the next ones are loaded.
                drop(before);
                let pipeline = config.open(options.runtime, options.threads, options.plugins)?;
                on_opened(&pipeline);
                Opened { decoder: pipeline.decoder(), pipeline }
            }
        };
        Ok(&mut self.last.insert((key, opened)).1)
    }
}

/// Everything of a configuration that a pipeline is opened from.
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

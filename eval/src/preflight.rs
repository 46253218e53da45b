//! Everything about an experiment that can be wrong before a weight is loaded.

use std::collections::BTreeSet;

use logitfuse_config::{Diagnostic, Diagnostics, Experiment};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_pipeline::PluginSettings;

use crate::Task;

/// Checks an experiment as far as that is possible without ONNX Runtime: strategies take their parameters and have their
/// roles, folders of models are there with their tokenizers, templates compile, data can be read, tasks are sound. It reads
/// everything that a run reads but the weights.
///
/// # Errors
/// Everything that is wrong, each variant and task by itself, as [`Diagnostics`].
pub fn preflight(experiment: &Experiment, plugins: &PluginSettings) -> Result<()> {
    let mut found = Vec::new();
    let mut note = |result: Result<()>| match result {
        Ok(()) => {}
        Err(error) => found.extend(diagnostics(&experiment.underline(error))),
    };
    let mut seen = BTreeSet::new();
    let mut tasks = BTreeSet::new();
    for cell in experiment.cells() {
        // What many cells share is read once.
        if seen.insert(serde_json::to_string(&cell.config).unwrap_or_default()) {
            note(cell.config.check(plugins));
        }
        if tasks.insert(&cell.task) {
            note(Task::load(&cell.task, &cell.task_config).map(|_| ()));
        }
    }
    if experiment.cells().is_empty() {
        let alone = experiment.config()?;
        note(alone.check(plugins));
        note(alone.samples().map(|_| ()).map_err(|e| e.context("run.data")));
    }
    if found.is_empty() { Ok(()) } else { Err(Diagnostics(found).into()) }
}

/// What an error says, as data.
fn diagnostics(error: &Error) -> Vec<Diagnostic> {
    let placed = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Diagnostics>());
    match placed {
        Some(found) => found.0.clone(),
        None => vec![Diagnostic {
            message: error.to_string(),
            place: None,
            label: String::new(),
            also: Vec::new(),
            help: error.help().map(str::to_owned).filter(|_| error.kind() != ErrorKind::Internal),
        }],
    }
}

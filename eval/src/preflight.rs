//! Everything about an experiment that can be wrong before a weight is loaded.

use std::collections::{BTreeMap, BTreeSet};

use logitfuse_config::{Cell, Config, Diagnostic, Diagnostics, Experiment, OutputType};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_pipeline::{ModelFolders, PluginSettings, Preview};

use crate::{Task, run::wanted};

/// Items of each task whose prompts, targets and choices are rendered.
const ITEMS: usize = 64;
/// What is wrong with so many cells is most often the same.
const MOST: usize = 200;

/// Checks an experiment as far as that is possible without ONNX Runtime: strategies take their parameters and have their
/// roles, folders of models are there with tokenizers that fit, templates compile, data can be read, tasks are sound. The
/// first items of every task are rendered as a run would do it, and their prompts are compared with the models' contexts. It
/// reads everything that a run reads but the weights.
///
/// Returns what is allowed and most likely not meant: settings that change nothing, texts that cannot become as long as they may.
///
/// # Errors
/// Everything that is wrong, each variant and task by itself, as [`Diagnostics`].
pub fn preflight(experiment: &Experiment, plugins: &PluginSettings) -> Result<Vec<Diagnostic>> {
    let mut check =
        Check { experiment, plugins, folders: ModelFolders::default(), found: Vec::new(), notes: Vec::new() };
    check.cells();
    if experiment.cells().is_empty() {
        check.alone()?;
    }
    if !check.found.is_empty() {
        return Err(Diagnostics(check.found).into());
    }
    let mut notes = experiment.idle_settings();
    notes.append(&mut check.notes);
    Ok(notes)
}

struct Check<'a> {
    experiment: &'a Experiment,
    plugins: &'a PluginSettings,
    folders: ModelFolders,
    found: Vec<Diagnostic>,
    notes: Vec<Diagnostic>,
}

impl Check<'_> {
    fn cells(&mut self) {
        // What many cells share is read once.
        let mut configs = BTreeSet::new();
        let mut tasks: BTreeMap<&str, Option<Task>> = BTreeMap::new();
        let mut rehearsed = BTreeSet::new();
        for cell in self.experiment.cells() {
            if self.found.len() >= MOST {
                return;
            }
            if !tasks.contains_key(&*cell.task) {
                let task = self.note(Task::load(&cell.task, &cell.task_config));
                tasks.insert(&cell.task, task);
            }
            let fresh = configs.insert(serde_json::to_string(&cell.config).unwrap_or_default());
            let todo = !rehearsed.contains(&shown(cell));
            if !fresh && !todo {
                continue;
            }
            let preview = cell.config.preview(self.plugins, &mut self.folders);
            let preview = self.note(preview);
            if let (Some(preview), Some(Some(task)), true) = (preview, tasks.get(&*cell.task), todo) {
                rehearsed.insert(shown(cell));
                let result = self.rehearse(cell, &preview, task);
                self.note(result);
            }
        }
        let sound: Vec<&Task> = tasks.values().flatten().collect();
        if sound.len() == tasks.len() {
            self.note(wanted::check(self.experiment, &sound));
        }
    }

    /// An experiment without tasks: its prompts.
    fn alone(&mut self) -> Result<()> {
        let config = self.experiment.config()?;
        let preview = config.preview(self.plugins, &mut self.folders);
        let preview = self.note(preview);
        let samples = self.note(config.samples().map_err(|e| e.context("run.data")));
        let (Some(preview), Some(samples)) = (preview, samples) else { return Ok(()) };
        let mut longest = Longest::new(&preview);
        for sample in samples.iter().take(ITEMS) {
            match preview.prompts(&sample.fields) {
                Ok(prompts) => longest.add(&sample.id, prompts, 0),
                Err(e) => {
                    self.note::<()>(Err(e.context(format!("run: sample `{}`", sample.id))));
                    return Ok(());
                }
            }
        }
        let result = self.fits(&config, "run", &preview, &longest, true);
        self.note(result);
        Ok(())
    }

    /// Renders the first items of a task as a run does.
    fn rehearse(&mut self, cell: &Cell, preview: &Preview, task: &Task) -> Result<()> {
        let name = format!("tasks.{}", cell.task);
        let (mut longest, mut lost, mut items) = (Longest::new(preview), 0, 0);
        for doc in task.docs().iter().take(ITEMS) {
            let rehearsed = task.rehearse(preview, doc)?;
            lost += usize::from(rehearsed.lost);
            items += 1;
            longest.add(&doc.id, rehearsed.prompts, rehearsed.continuation);
        }
        if lost > 0 {
            self.warn(lost_prompts(&cell.task, lost, items));
        }
        for (binding, (_, source)) in preview.roles().iter().enumerate().filter(|_| items > 1) {
            if longest.alike.get(binding).and_then(Option::as_ref).is_some_and(|prompt| !prompt.is_empty()) {
                let what = format!("{name}: source `{source}` reads the same prompt for the first {items} items");
                self.warn(
                    Error::new(ErrorKind::InvalidConfig, what)
                        .with_help("show a field of the items in it, as in {{ question }}"),
                );
            }
        }
        let generates = cell.task_config.output_type == OutputType::GenerateUntil;
        self.fits(&cell.config, &name, preview, &longest, generates)
    }

    /// Whether the longest prompts fit, and whether there is room for what is generated after them.
    fn fits(
        &mut self,
        config: &Config,
        name: &str,
        preview: &Preview,
        longest: &Longest,
        generates: bool,
    ) -> Result<()> {
        for (binding, (_, source)) in preview.roles().iter().enumerate() {
            let Some(context) = preview.context_length(binding) else { continue };
            let Some((prompt, id, continuation)) = longest.of.get(binding).and_then(Option::as_ref) else { continue };
            let tokens = preview.encode(binding, prompt)?.len();
            let what = format!("{name}: item `{id}`: the prompt of source `{source}` has {tokens} tokens");
            // The last token that is scored is not read.
            if tokens + continuation.saturating_sub(1) > context {
                let scored = if *continuation > 0 { format!(" and {continuation} are scored") } else { String::new() };
                return Err(Error::new(ErrorKind::InvalidData, format!("{what}{scored}; the model takes {context}"))
                    .with_help("show fewer demonstrations, or leave the item out"));
            }
            let wanted = config.run.max_new_tokens;
            if generates && tokens.saturating_add(wanted) > context {
                let left = context - tokens;
                let what =
                    format!("{what}, so of {wanted} new ones there is room for {left} among the model's {context}");
                self.warn(Error::new(ErrorKind::InvalidData, what).with_help(
                    "texts that reach the end of the context end there; lower max_new_tokens, or shorten the prompt",
                ));
            }
        }
        Ok(())
    }

    /// The result, or nothing where it is among what was found.
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.found.extend(diagnostics(&self.experiment.underline(e)))).ok()
    }

    fn warn(&mut self, what: Error) {
        for one in diagnostics(&self.experiment.underline(what)) {
            if !self.notes.contains(&one) {
                self.notes.push(one);
            }
        }
    }
}

/// What prompts are like: the longest of each binding, with its item and the tokens that are scored after it. Characters are compared, because
/// making tokens of all prompts takes long.
struct Longest {
    of: Vec<Option<(String, String, usize)>>,
    /// Each binding's prompt, as long as it is the same for all items.
    alike: Vec<Option<String>>,
    items: usize,
}

impl Longest {
    fn new(preview: &Preview) -> Self {
        let bindings = preview.roles().len();
        Self { of: vec![None; bindings], alike: vec![None; bindings], items: 0 }
    }

    fn add(&mut self, id: &str, prompts: Vec<String>, continuation: usize) {
        for (alike, prompt) in self.alike.iter_mut().zip(&prompts) {
            let same = self.items == 0 || alike.as_ref() == Some(prompt);
            *alike = same.then(|| prompt.clone());
        }
        self.items += 1;
        for (longest, prompt) in self.of.iter_mut().zip(prompts) {
            if longest.as_ref().is_none_or(|(known, ..)| known.len() < prompt.len()) {
                *longest = Some((prompt, id.to_owned(), continuation));
            }
        }
    }
}

/// What decides how the items of a cell are shown.
fn shown(cell: &Cell) -> String {
    let Config { sources, strategy, run, .. } = &cell.config;
    serde_json::to_string(&(&cell.task, sources, &strategy.id, &strategy.roles, run.max_new_tokens)).unwrap_or_default()
}

/// What an item's prompt loses, for all items of a task.
pub(crate) fn lost_prompts(task: &str, lost: usize, items: usize) -> Error {
    let what = format!(
        "tasks.{task}: in {lost} of {items} items the tokenizer joins the prompt's end with what is scored after it, and the \
         model reads neither"
    );
    Error::new(ErrorKind::InvalidData, what).with_help(
        "that is lm-eval's rule, by which a newline at the end of a prompt may be lost; tokenization = \"separate\" keeps the prompt whole",
    )
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

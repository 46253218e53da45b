//! A whole experiment: its variants and tasks, each pair of which is a cell with a configuration of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use logitfuse_pipeline::read_text_file;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::{
    Config,
    check::Check,
    diagnostic::{Diagnostic, Diagnostics},
    document::{Entry, Node, Table, Value, get, merge},
    extends::{MOST_OF_FILE, Reader},
    names,
    origin::{self, ConfigOrigin},
    overrides::{Overrides, apply},
    paths,
    place::SourceMap,
    render,
    schema::{FILE, LAYERED, WHOLE, of},
    suite::{ExpectConfig, GapConfig},
    task::TaskConfig,
    variants,
};

/// What the configurations of all cells may take in memory, about: each cell has one of its own.
const MOST_BYTES: usize = 512 << 20;

/// An experiment that was read and checked: what it extends, its overrides, its variants with their sweeps, its tasks.
///
/// ```
/// use logitfuse_config::{Experiment, Overrides};
///
/// let text = r#"
///     schema = 1
///     [sources.base]
///     model = "L"
///     [tasks.qa]
///     data = "qa.jsonl"
///     [tasks.math]
///     data = "math.jsonl"
///     with = { run = { max_new_tokens = 64 } }
///     [variants.alone]
///     [variants.dull]
///     run = { temperature = 1.0 }
///     sweep = { "run.top_k" = [2, 10] }
/// "#;
/// let experiment = Experiment::from_toml(text, &Overrides::default())?;
/// assert_eq!(experiment.variants(), ["alone", "dull[top_k=2]", "dull[top_k=10]"]);
/// assert_eq!(experiment.cells().len(), 6);
/// let last = &experiment.cells()[5];
/// assert_eq!((last.variant.as_str(), last.task.as_str()), ("dull[top_k=10]", "math"));
/// assert_eq!((last.config.run.top_k, last.config.run.max_new_tokens), (10, 64));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
///
/// A cell is made of layers, each over the one before: the file over the files that it extends, the variant, what the
/// task says of `max_new_tokens` and `stop`, the task's `with`, the point of a sweep. Tables merge, everything else is
/// replaced. `--set` has the last word. Where a layer names another strategy (`use`), the parameters below it are gone, and
/// of the roles below it those count that the strategy has.
#[derive(Clone, Debug)]
pub struct Experiment {
    name: String,
    file: Option<PathBuf>,
    folder: PathBuf,
    document: Table,
    texts: Arc<SourceMap>,
    variants: Vec<String>,
    stems: Vec<String>,
    cells: Vec<Cell>,
    gap: Option<GapConfig>,
    expect: Vec<ExpectConfig>,
}

/// One variant on one task.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The variant, with its point of a sweep: `static[alpha=0.5]`.
    pub variant: String,
    /// The variant as the file names it: `static`.
    pub stem: String,
    /// The keys that a sweep changes, with their values.
    pub point: Vec<(String, serde_json::Value)>,
    /// The task.
    pub task: String,
    /// Sources, strategy and the like, with everything that variant and task change.
    pub config: Config,
    /// What the task asks.
    pub task_config: TaskConfig,
}

/// A task, and the layers that it lays over the experiment.
struct TaskLayers {
    name: String,
    config: TaskConfig,
    run: Table,
    with: Option<Table>,
}

impl Experiment {
    /// Reads a file and what it extends, and applies overrides.
    pub fn load(file: &Path, overrides: &Overrides) -> Result<Self> {
        let name = file.display().to_string();
        let text = read_text_file(file, MOST_OF_FILE).map_err(|e| match e.help() {
            None => e.with_help("name an experiment's TOML file"),
            Some(_) => e,
        })?;
        let mut experiment = Self::read(&text, &name, Some(file), file.parent().unwrap_or(Path::new("")), overrides)?;
        experiment.file = Some(file.to_owned());
        experiment.name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(experiment)
    }

    /// Reads what [`resolved_toml`](Self::resolved_toml) wrote; `folder` is that of the original file.
    pub fn from_resolved(text: &str, folder: &Path) -> Result<Self> {
        Self::read(text, "resolved.toml", None, folder, &Overrides::default())
    }

    /// Reads a text; paths are relative to the working directory. A message begins with `line:column`.
    pub fn from_toml(text: &str, overrides: &Overrides) -> Result<Self> {
        Self::read(text, "", None, Path::new(""), overrides)
    }

    fn read(text: &str, name: &str, file: Option<&Path>, folder: &Path, overrides: &Overrides) -> Result<Self> {
        let mut reader = Reader::default();
        if let Some(file) = file {
            reader.enter(file.canonicalize().unwrap_or_else(|_| file.to_owned()), name.to_owned());
        }
        let mut document = reader.document(name, text, folder, Path::new(""));
        let Reader { mut texts, mut found, .. } = reader;
        // Reading on after a fault would report its echoes.
        sound(&mut found)?;
        let set = apply(overrides, &mut document, folder, &mut texts, &mut found);
        sound(&mut found)?;
        let mut experiment = Self {
            name: "experiment".to_owned(),
            file: None,
            folder: folder.to_owned(),
            document,
            texts: Arc::new(texts),
            variants: Vec::new(),
            stems: Vec::new(),
            cells: Vec::new(),
            gap: None,
            expect: Vec::new(),
        };
        experiment.arrange(&set, &mut found);
        sound(&mut found)?;
        Ok(experiment)
    }

    /// Makes variants, tasks, cells and the like of the document. `set` are the paths of overrides.
    fn arrange(&mut self, set: &[Vec<String>], found: &mut Vec<Diagnostic>) {
        let variants = variants::expand(&self.document, &self.texts, set, found);
        let tasks = self.tasks(found);
        self.gap = self.gap_of(found);
        self.expect = self.expectations(found);
        self.models_of(found);
        (self.variants, self.stems) = variants.iter().map(|one| (one.name.clone(), one.stem.clone())).unzip();
        names::check(&self.document, &self.variants, &self.stems, &self.texts, found);
        if !found.is_empty() {
            return;
        }
        let weight =
            weight(&self.layered([])) + variants.iter().map(|variant| weight(&variant.layer)).max().unwrap_or(0);
        if weight.saturating_mul(variants.len()).saturating_mul(tasks.len()) > MOST_BYTES {
            let (variants, tasks) = (variants.len(), tasks.len());
            let what = format!("{variants} variants on {tasks} tasks are too many for a file of this size");
            found.push(Diagnostic::new(what, None).help("sweep fewer values, or split the experiment"));
            return;
        }
        let mut idle: Vec<&Vec<String>> = set.iter().filter(|path| LAYERED.contains(&path[0].as_str())).collect();
        for variant in &variants {
            let point = variant.point.layer();
            for task in &tasks {
                let layers = [Some(&variant.layer), Some(&task.run), task.with.as_ref(), Some(&point)];
                let table = self.layered(layers.into_iter().flatten());
                let span = |table: &Table, path: &[String]| get(table, path).map(|entry| entry.node.span.clone());
                idle.retain(|path| span(&table, path) != span(&self.document, path));
                self.cells.extend(self.config_of(table, found).map(|config| Cell {
                    variant: variant.name.clone(),
                    stem: variant.stem.clone(),
                    point: variant.point.coordinates(),
                    task: task.name.clone(),
                    config,
                    task_config: task.config.clone(),
                }));
            }
        }
        if tasks.is_empty() {
            self.config_of(self.layered([]), found);
        } else if found.is_empty() {
            found.extend(idle.into_iter().map(|path| self.idle(&path.join("."), path)));
        }
    }

    /// A setting that no variant takes up would seem to count.
    fn idle(&self, shown: &str, path: &[String]) -> Diagnostic {
        let place = get(&self.document, path).and_then(|entry| self.texts.place(&entry.key));
        Diagnostic::new(format!("setting {shown} changes no variant"), place)
            .help(format!("each of them names its own strategy: set variants.NAME.{shown}"))
    }

    fn expectations(&self, found: &mut Vec<Diagnostic>) -> Vec<ExpectConfig> {
        let Some(Value::Array(all)) = self.document.get("expect").map(|entry| &entry.node.value) else {
            return Vec::new();
        };
        let one = |(i, item): (usize, &Node)| {
            self.typed(&Entry::new(item.span.clone(), item.clone()), &format!("expect.{i}"), found)
        };
        all.iter().enumerate().filter_map(one).collect()
    }

    /// Every task with what it changes in the experiment.
    fn tasks(&self, found: &mut Vec<Diagnostic>) -> Vec<TaskLayers> {
        let all = self.document.get("tasks").and_then(|entry| entry.node.as_table());
        let one = |(name, entry): (&String, &Entry)| {
            let mut entry = entry.clone();
            let with = entry.node.as_table_mut().and_then(|table| table.shift_remove("with"));
            let run = over_run(entry.node.as_table()?);
            self.join_folder(&FILE["definitions"]["TaskConfig"], entry.node.as_table_mut()?);
            let config: TaskConfig = self.typed(&entry, &format!("tasks.{name}"), found)?;
            let with = with.and_then(|with| with.node.as_table().cloned());
            Some(TaskLayers { name: name.clone(), config, run, with })
        };
        all.into_iter().flatten().filter_map(one).collect()
    }

    fn gap_of(&self, found: &mut Vec<Diagnostic>) -> Option<GapConfig> {
        let mut entry = self.document.get("gap")?.clone();
        self.join_folder(of::<GapConfig>(), entry.node.as_table_mut()?);
        self.typed(&entry, "gap", found)
    }

    /// The document's own tables with layers over them.
    pub(super) fn layered<'l>(&self, layers: impl IntoIterator<Item = &'l Table>) -> Table {
        let mut table: Table = self
            .document
            .iter()
            .filter(|(key, _)| *key == "schema" || LAYERED.contains(&key.as_str()))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        for layer in layers {
            merge(&mut table, layer.clone());
        }
        table
    }

    pub(super) fn config_of(&self, mut table: Table, found: &mut Vec<Diagnostic>) -> Option<Config> {
        let before = found.len();
        let mut check = Check::new(&WHOLE, &self.texts);
        check.table(&WHOLE, &[], &(0..0), &table);
        found.append(&mut check.found);
        if found.len() > before {
            return None;
        }
        let origin = ConfigOrigin::new(self.file_folder(), table.clone(), Arc::clone(&self.texts));
        self.join_folder(&FILE, &mut table);
        let entry = Entry::new(0..0, Node { value: Value::Table(table), span: 0..0 });
        let config: Config = self.deserialize(&entry, found)?;
        Some(Config { origin, ..config })
    }

    /// Paths of the document are relative to its folder, and those of a configuration are to be opened.
    fn join_folder(&self, schema: &serde_json::Value, table: &mut Table) {
        if !self.folder.as_os_str().is_empty() {
            paths::rewrite(schema, table, &|path| self.folder.join(path).display().to_string());
        }
    }

    /// Checks a table against a type's schema with all that is required, and reads it.
    pub(super) fn typed<T: DeserializeOwned + JsonSchema>(
        &self,
        entry: &Entry,
        path: &str,
        found: &mut Vec<Diagnostic>,
    ) -> Option<T> {
        let before = found.len();
        let mut check = Check::new(&WHOLE, &self.texts);
        let path: Vec<&str> = path.split('.').collect();
        check.table(of::<T>(), &path, &entry.key, entry.node.as_table()?);
        found.append(&mut check.found);
        if found.len() > before { None } else { self.deserialize(entry, found) }
    }

    /// Whatever a schema lets pass and the type does not is told at its place, too.
    fn deserialize<T: DeserializeOwned>(&self, entry: &Entry, found: &mut Vec<Diagnostic>) -> Option<T> {
        match serde_path_to_error::deserialize(entry.node.to_toml()) {
            Ok(value) => Some(value),
            Err(e) => {
                let mut at = entry;
                for segment in e.path() {
                    let serde_path_to_error::Segment::Map { key } = segment else { break };
                    let Some(inner) = at.node.as_table().and_then(|table| table.get(key)) else { break };
                    at = inner;
                }
                found.push(Diagnostic::new(format!("{}: {}", e.path(), e.inner()), self.texts.place(at.underline())));
                None
            }
        }
    }

    pub(crate) fn document(&self) -> &Table {
        &self.document
    }

    pub(crate) fn texts(&self) -> &SourceMap {
        &self.texts
    }

    /// The experiment without its variants and tasks.
    pub fn config(&self) -> Result<Config> {
        let mut found = Vec::new();
        let config = self.config_of(self.layered([]), &mut found);
        sound(&mut found)?;
        config.ok_or_else(|| Error::new(ErrorKind::Internal, "a configuration was refused without a reason"))
    }

    /// Every variant on every task, variants in their order and in each the tasks in theirs; none if there are no tasks.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The names of the variants in their order, each point of a sweep by itself; `default` alone if the file has none.
    pub fn variants(&self) -> &[String] {
        &self.variants
    }

    /// The variants that a name means in `[gap]`, `[[expect]]` or on a command line: that of a sweep means all its points.
    pub fn named(&self, name: &str) -> Vec<&str> {
        let all = self.variants.iter().zip(&self.stems);
        all.filter(|(variant, stem)| *variant == name || *stem == name).map(|(variant, _)| variant.as_str()).collect()
    }

    /// Whether there are tasks.
    pub fn has_tasks(&self) -> bool {
        self.document.get("tasks").and_then(|entry| entry.node.as_table()).is_some_and(|tasks| !tasks.is_empty())
    }

    /// The file's name without its ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The folder that paths are relative to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn file_folder(&self) -> Option<&Path> {
        // A text that was never a file lies nowhere.
        self.texts.first().filter(|text| !text.name.is_empty()).map(|_| self.folder())
    }

    /// `[gap]`.
    pub fn gap(&self) -> Option<&GapConfig> {
        self.gap.as_ref()
    }

    /// `[[expect]]`.
    pub fn expect(&self) -> &[ExpectConfig] {
        &self.expect
    }

    /// The configuration of one cell as TOML, with every default; of the first variant or task where none is named.
    pub fn cell_toml(&self, variant: Option<&str>, task: Option<&str>) -> Result<String> {
        if variant.is_none() && task.is_none() {
            return complete_toml(&self.config()?);
        }
        let fits = |wanted: Option<&str>, names: &[&str]| wanted.is_none_or(|wanted| names.contains(&wanted));
        let cell =
            self.cells.iter().find(|cell| fits(variant, &[&cell.variant, &cell.stem]) && fits(task, &[&cell.task]));
        let Some(cell) = cell else {
            let tasks = self.document.get("tasks").and_then(|entry| entry.node.as_table());
            let tasks: Vec<&str> = tasks.into_iter().flat_map(|tasks| tasks.keys().map(String::as_str)).collect();
            let names: Vec<&str> = variant.into_iter().chain(task).collect();
            let there_are =
                format!("the variants are {}; the tasks are {}", self.variants.join(", "), tasks.join(", "));
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: no such variant or task", names.join(", ")))
                .with_help(if tasks.is_empty() { "the experiment has no tasks".to_owned() } else { there_are }));
        };
        Ok(format!("# {} on {}\n{}", cell.variant, cell.task, complete_toml(&cell.config)?))
    }

    /// The same error, with the place of the value that its message begins with.
    pub fn underline(&self, error: Error) -> Error {
        origin::underline(&self.document, &self.texts, error)
    }

    /// The experiment as one TOML: with all that it extends, with its overrides, paths relative to [`folder`](Self::folder).
    /// [`from_resolved`](Self::from_resolved) of it has the same cells.
    pub fn resolved_toml(&self) -> String {
        render::toml(&self.document, None)
    }

    /// As [`resolved_toml`](Self::resolved_toml), every value with the file or override that it comes from.
    pub fn resolved_toml_with_origins(&self) -> String {
        render::toml(&self.document, Some(&self.texts))
    }
}

/// Bytes that a table takes in memory, about.
fn weight(table: &Table) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) | Value::Other(text) => text.len(),
            Value::Array(items) => items.iter().map(|item| 64 + of(&item.value)).sum(),
            Value::Table(table) => weight(table),
            _ => 0,
        }
    }
    table.iter().map(|(key, entry)| 160 + key.len() + of(&entry.node.value)).sum()
}

/// The text of a configuration, with every default.
fn complete_toml(config: &Config) -> Result<String> {
    toml::to_string(config).or_err(ErrorKind::Internal, "the configuration cannot be written as TOML")
}

/// What a task says of its answers' length, as a layer over `[run]`.
fn over_run(task: &Table) -> Table {
    let said = ["max_new_tokens", "stop"].into_iter().filter_map(|key| task.get_key_value(key));
    let run: Table = said.map(|(key, entry)| (key.clone(), entry.clone())).collect();
    let Some(span) = run.first().map(|(_, entry)| entry.key.clone()) else { return Table::new() };
    let entry = Entry::new(span.clone(), Node { value: Value::Table(run), span });
    Table::from([("run".to_owned(), entry)])
}

/// Ends with everything that was found, if anything was.
pub(super) fn sound(found: &mut Vec<Diagnostic>) -> Result<()> {
    if found.is_empty() { Ok(()) } else { Err(Diagnostics(std::mem::take(found)).into()) }
}

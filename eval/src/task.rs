//! Tasks: questions with known answers, what is asked of the engine about each, and what the answers are worth.
//!
//! # Why
//!
//! A figure is only worth comparing if the question was put and the answer judged as in the figure beside it. The way that
//! most published figures are made is lm-eval's, so a [`Task`] does what lm-eval 0.4.13 does, from the space before a choice
//! to the tie between two, and does it for *fused* models, which lm-eval cannot ask.
//!
//! ```
//! use logitfuse_config::{Choices, MetricConfig, OutputType, TaskConfig};
//! use logitfuse_eval::{Task};
//! use logitfuse_rundir::Response;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("capitals.jsonl");
//! # std::fs::write(&path, r#"{"country": "France", "cities": ["Lyon", "Paris"], "capital": "Paris"}"#).unwrap();
//! let config = TaskConfig {
//!     output_type: OutputType::MultipleChoice,
//!     prompt: Some("The capital of {{ country }} is".into()),
//!     choices: Some(Choices::Field("cities".into())),
//!     target: Some("capital".into()),
//!     metrics: vec![MetricConfig { metric: "acc".into(), ..MetricConfig::default() }],
//!     ..TaskConfig::new(&path)
//! };
//! let task = Task::load("capitals", &config)?;
//! // `task.requests(&pipeline, doc, 0)` is what the engine is asked; this is what it might answer.
//! let scored = |text: &str, log_prob| Response { text: text.into(), log_prob, ..Response::default() };
//! let outcome = task.outcome(&task.docs()[0], &[&[scored("Lyon", -4.0), scored("Paris", -1.5)]])?;
//! assert_eq!(outcome.filtered["none"], "Paris");
//! assert_eq!(outcome.metrics["acc,none"], 1.0);
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # Fused models read several prompts
//!
//! A task writes the field `prompt`, with its demonstrations; every source then writes its own prompt around it with its own
//! templates. The base's prompt decides where the continuation begins and what its tokens are; they are scored behind each
//! source's own prompt. White space at the end of any prompt is taken off, the base's goes to the continuation.
//!
//! docs/tasks.md has the rules of each output type and what differs from lm-eval.

mod aggregate;
mod fewshot;
mod fields;
mod import;
mod metric;
mod outcome;
mod python_random;
mod request;
mod split;

use std::path::PathBuf;

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::filter::FilterPipeline;
use serde_json::{Map, Value};

pub use import::import;
pub use outcome::Outcome;
pub use request::TaskRequest;

use fewshot::Shots;
use fields::Templates;
use logitfuse_config::{MetricConfig, OutputType, TaskConfig};
use logitfuse_pipeline::read_jsonl;
use metric::Metric;

/// A list of so many samples is made before the first of them.
const MOST_SAMPLES: usize = 5_000_000;

/// A task that is ready to be asked: its items read, its templates, filters and metrics compiled. It holds no model.
#[derive(Clone, Debug)]
pub struct Task {
    name: String,
    config: TaskConfig,
    docs: Vec<Doc>,
    shots: Shots,
    templates: Templates,
    /// Of a generation: how its answer is found. Empty for what is scored.
    filters: Vec<FilterPipeline>,
    metrics: Vec<Metric>,
    /// The metrics' names.
    names: Vec<String>,
}

/// An item of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Doc {
    /// Its field `id` where there is one, else its place in the data.
    pub id: String,
    /// Its place in the data, from 0.
    pub index: usize,
    /// Its fields, as the data has them.
    pub fields: Map<String, Value>,
}

impl Task {
    /// Reads a task's data and compiles what it says.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::InvalidData`] for the data, [`ErrorKind::InvalidConfig`] for a key; the
    /// message begins with `tasks.NAME`.
    pub fn load(name: &str, config: &TaskConfig) -> Result<Self> {
        Self::build(name, config).map_err(|e| e.context(format!("tasks.{name}")))
    }

    fn build(name: &str, config: &TaskConfig) -> Result<Self> {
        check(config)?;
        let mut samples = Vec::new();
        read_jsonl(&config.data, &mut samples).map_err(|e| e.context("data"))?;
        if samples.is_empty() {
            let what = format!("data: {}: there are no items", config.data.display());
            return Err(Error::new(ErrorKind::InvalidData, what).with_help("each line of a JSONL file is one item"));
        }
        let numbered = samples.into_iter().enumerate();
        let all: Vec<Doc> = numbered
            .map(|(index, sample)| Doc {
                id: sample.id,
                index,
                fields: sample.fields.as_object().cloned().unwrap_or_default(),
            })
            .collect();
        let docs = all[..config.limit.unwrap_or(all.len()).min(all.len())].to_vec();
        let shots = match &config.fewshot {
            Some(fewshot) => Shots::choose(fewshot, &config.data, &all, &docs)?,
            None => Shots::default(),
        };
        if docs.len().saturating_mul(config.repeats) > MOST_SAMPLES {
            let (items, repeats) = (docs.len(), config.repeats);
            let what =
                format!("repeats: {items} items with {repeats} answers each are more than {MOST_SAMPLES} samples");
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("lower repeats, or set a limit"));
        }
        let mut items: Vec<&Map<String, Value>> = docs.iter().map(|doc| &doc.fields).collect();
        items.extend(shots.shown());
        let templates = Templates::compile(config, &items)?;
        let generates = config.output_type == OutputType::GenerateUntil;
        let filters = match config.filters.as_slice() {
            [] if generates => vec![FilterPipeline::take_first()],
            filters => {
                let numbered = filters.iter().enumerate();
                let compiled =
                    numbered.map(|(i, one)| FilterPipeline::new(one).map_err(|e| e.context(format!("filters[{i}]"))));
                compiled.collect::<Result<_>>()?
            }
        };
        let usual = || {
            let name = |metric: &&str| MetricConfig { metric: (*metric).to_owned(), ..MetricConfig::default() };
            metric::usual(config.output_type).iter().map(name).collect()
        };
        let metrics = if config.metrics.is_empty() { usual() } else { config.metrics.clone() };
        let compile = |(i, metric): (usize, &MetricConfig)| {
            let twice = metrics[..i].iter().any(|before| before.metric == metric.metric);
            let what = || format!("metric `{}` is listed twice", metric.metric);
            let result = if twice {
                Err(Error::new(ErrorKind::InvalidConfig, what()))
            } else {
                Metric::new(metric, config.output_type)
            };
            result.map_err(|e| e.context(format!("metrics[{i}]")))
        };
        Ok(Self {
            name: name.to_owned(),
            templates,
            docs,
            shots,
            filters,
            metrics: metrics.iter().enumerate().map(compile).collect::<Result<_>>()?,
            names: metrics.iter().map(|metric| metric.metric.clone()).collect(),
            config: config.clone(),
        })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the task was made of.
    pub fn config(&self) -> &TaskConfig {
        &self.config
    }

    /// The items, up to the task's limit.
    pub fn docs(&self) -> &[Doc] {
        &self.docs
    }

    /// The figures that come of it, as `metric,filter`.
    pub fn scores(&self) -> Vec<String> {
        let of = |filter: &str| self.names.iter().map(|name| format!("{name},{filter}")).collect::<Vec<_>>();
        self.filter_names().into_iter().flat_map(of).collect()
    }

    /// Answers to every item.
    pub fn repeats(&self) -> usize {
        self.config.repeats
    }

    /// The files that were read, and what each is, for a manifest.
    pub fn files(&self) -> Vec<(PathBuf, &'static str)> {
        let mut files = vec![(self.config.data.clone(), "data")];
        let shots = self.config.fewshot.as_ref().and_then(|fewshot| fewshot.data.clone());
        files.extend(shots.filter(|path| *path != self.config.data).map(|path| (path, "fewshot")));
        files
    }

    fn about(&self, e: Error, doc: &Doc) -> Error {
        e.context(format!("tasks.{}: item `{}`", self.name, doc.id))
    }
}

/// What makes no sense together.
fn check(config: &TaskConfig) -> Result<()> {
    let refuse = |what: &str, help: &str| Err(Error::new(ErrorKind::InvalidConfig, what).with_help(help));
    if config.repeats == 0 {
        return refuse("repeats: must be 1 or more", "1 is usual");
    }
    if config.output_type == OutputType::GenerateUntil {
        return Ok(());
    }
    if config.repeats > 1 {
        return refuse("repeats: a score does not vary", "repeats are for generate_until with a temperature");
    }
    if !config.filters.is_empty() {
        return refuse("filters: there is no text to filter", "filters find the answer in what generate_until wrote");
    }
    if config.output_type == OutputType::LoglikelihoodRolling && config.fewshot.is_some() {
        return refuse("fewshot: a whole text has no question", "leave fewshot out of loglikelihood_rolling");
    }
    Ok(())
}

#[cfg(test)]
mod tests;

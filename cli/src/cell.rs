//! Which cell of an experiment a command looks at, where it looks at one.

use std::path::Path;

use logitfuse_config::{Cell, Config, Experiment, OutputType};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_eval::{Task, TaskRequest};
use logitfuse_pipeline::profile::Requests;

/// The variant and task to look at; none for an experiment without tasks.
pub(crate) fn choose<'a>(
    experiment: &'a Experiment,
    file: &Path,
    variant: Option<&str>,
    task: Option<&str>,
) -> Result<Option<&'a Cell>> {
    let wrong = |what: String, help: String| Err(Error::new(ErrorKind::InvalidConfig, what).with_help(help));
    if !experiment.has_tasks() {
        if variant.is_some() || task.is_some() {
            let what = format!("{}: has no [tasks], so neither variants nor tasks", file.display());
            return wrong(what, "leave --variant and --task out".to_owned());
        }
        return Ok(None);
    }
    let cells = experiment.cells();
    let of_variant = |cell: &&Cell| variant.is_none_or(|wanted| wanted == cell.variant);
    let of_task = |cell: &&Cell| task.is_none_or(|wanted| wanted == cell.task);
    if !cells.iter().any(|cell| of_variant(&cell)) {
        let what = format!("--variant {}: there is no such variant", variant.unwrap_or_default());
        return wrong(what, format!("the variants are {}", experiment.variants().join(", ")));
    }
    if !cells.iter().any(|cell| of_task(&cell)) {
        let mut tasks: Vec<&str> = cells.iter().map(|cell| cell.task.as_str()).collect();
        tasks.dedup();
        tasks.truncate(cells.len() / experiment.variants().len().max(1));
        let what = format!("--task {}: there is no such task", task.unwrap_or_default());
        return wrong(what, format!("the tasks are {}", tasks.join(", ")));
    }
    let fuses = |cell: &&Cell| cell.config.strategy.id.as_deref().is_some_and(|id| id != "none");
    let all = || cells.iter().filter(of_variant).filter(of_task);
    Ok(all().find(fuses).or_else(|| all().next()))
}

/// Makes requests of the first prompts or items, for the flag that asks for them.
pub(crate) fn requests(
    config: &Config,
    cell: Option<&Cell>,
    file: &Path,
    flag: &str,
    count: usize,
) -> Result<Box<Requests<'static>>> {
    let Some(cell) = cell else {
        let mut samples = config.samples()?;
        samples.truncate(count);
        if samples.is_empty() {
            let what = format!("{}: nothing to {} with", file.display(), flag.trim_start_matches('-'));
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("set run.prompts or run.data"));
        }
        return Ok(Box::new(move |pipeline| {
            samples.iter().enumerate().map(|(index, sample)| pipeline.request_for(index, &sample.fields)).collect()
        }));
    };
    let task = Task::load(&cell.task, &cell.task_config)?;
    if task.config().output_type != OutputType::GenerateUntil {
        let what = format!("{flag}: task `{}` scores texts and generates none", cell.task);
        return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("name a task that generates with --task"));
    }
    Ok(Box::new(move |pipeline| {
        let mut requests = Vec::new();
        for doc in task.docs().iter().take(count) {
            requests.extend(task.requests(pipeline, doc, 0)?.into_iter().filter_map(|request| match request {
                TaskRequest::Generate(request) => Some(request),
                TaskRequest::Score { .. } => None,
            }));
        }
        Ok(requests)
    }))
}

//! `logitfuse plan`: what an experiment costs on this machine, and the speed-up that drafts give.

mod table;

use std::process::ExitCode;

use logitfuse_config::{Cell, Config, Experiment, OutputType};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_eval::{Task, TaskRequest};
use logitfuse_pipeline::{
    DraftTokens,
    profile::{Profile, Requests},
};
use serde_json::{Value, json};

use crate::{
    args::{Format, Global, PlanArgs},
    decode, output, plugin,
};

pub(crate) fn run(global: &Global, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    let cell = cell(&experiment, args)?;
    let mut config = match cell {
        Some(cell) => cell.config.clone(),
        None => experiment.config()?,
    };
    // What cannot be probed is said before any model is loaded.
    let probe = probe(&config, cell, args)?;
    let runtime = decode::runtime(global)?;
    decode::forward_plugin_log(global);
    let plugins = plugin::settings(global);
    let batch = args.batch.or(config.run.batch).unwrap_or(1);
    let temperature = config.run.temperature;
    // Nothing is to be chosen before everything is timed.
    if let Some(speculation) = &mut config.speculation {
        speculation.tokens = DraftTokens::Fixed(1);
    }
    output::say(global.quiet, "timing the models …");
    // Only a probe generates, and so runs the strategy.
    let pipeline = if args.probe.is_some() {
        config.open(&runtime, global.threads, &plugins)?
    } else {
        config.open_to_plan(&runtime, global.threads, &plugins)?
    };
    let profile = Profile::take(&pipeline, batch, &*probe)?;
    if args.format == Format::Text {
        output::line(&table::table(&profile, cell, temperature))?;
    } else {
        let mut document = serde_json::to_value(&profile)?;
        let of = |name: fn(&Cell) -> &String| cell.map_or(Value::Null, |cell| json!(name(cell)));
        document["schema_version"] = json!(1);
        document["variant"] = of(|cell| &cell.variant);
        document["task"] = of(|cell| &cell.task);
        output::json(&document, args.format == Format::Json)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The variant and task to look at; none for an experiment without tasks.
fn cell<'a>(experiment: &'a Experiment, args: &PlanArgs) -> Result<Option<&'a Cell>> {
    let wrong = |what: String, help: String| Err(Error::new(ErrorKind::InvalidConfig, what).with_help(help));
    if !experiment.has_tasks() {
        if args.variant.is_some() || args.task.is_some() {
            let what = format!("{}: has no [tasks], so neither variants nor tasks", args.file.display());
            return wrong(what, "leave --variant and --task out".to_owned());
        }
        return Ok(None);
    }
    let cells = experiment.cells();
    let fits = |wanted: Option<&String>, name: &String| wanted.is_none_or(|wanted| wanted == name);
    let variant = |cell: &&Cell| fits(args.variant.as_ref(), &cell.variant);
    let task = |cell: &&Cell| fits(args.task.as_ref(), &cell.task);
    if !cells.iter().any(|cell| variant(&cell)) {
        let what = format!("--variant {}: there is no such variant", args.variant.as_deref().unwrap_or_default());
        return wrong(what, format!("the variants are {}", experiment.variants().join(", ")));
    }
    if !cells.iter().any(|cell| task(&cell)) {
        let mut tasks: Vec<&str> = cells.iter().map(|cell| cell.task.as_str()).collect();
        tasks.dedup();
        tasks.truncate(cells.len() / experiment.variants().len().max(1));
        let what = format!("--task {}: there is no such task", args.task.as_deref().unwrap_or_default());
        return wrong(what, format!("the tasks are {}", tasks.join(", ")));
    }
    let fuses = |cell: &&Cell| cell.config.strategy.id.as_deref().is_some_and(|id| id != "none");
    let all = || cells.iter().filter(variant).filter(task);
    Ok(all().find(fuses).or_else(|| all().next()))
}

/// Makes the requests to probe with, if any are wanted.
fn probe(config: &Config, cell: Option<&Cell>, args: &PlanArgs) -> Result<Box<Requests<'static>>> {
    let Some(count) = args.probe else { return Ok(Box::new(|_| Ok(Vec::new()))) };
    let Some(cell) = cell else {
        let mut samples = config.samples()?;
        samples.truncate(count);
        if samples.is_empty() {
            let what = format!("{}: nothing to probe with", args.file.display());
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("set run.prompts or run.data"));
        }
        return Ok(Box::new(move |pipeline| {
            samples.iter().enumerate().map(|(index, sample)| pipeline.request_for(index, &sample.fields)).collect()
        }));
    };
    let task = Task::load(&cell.task, &cell.task_config)?;
    if task.config().output_type != OutputType::GenerateUntil {
        let what = format!("--probe: task `{}` scores texts, and drafts have no part in that", cell.task);
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

//! `logitfuse plan`: what an experiment costs on this machine, and the speed-up that drafts give.

mod table;

use std::process::ExitCode;

use logitfuse_config::{Cell, Config, Experiment};
use logitfuse_core::Result;
use logitfuse_pipeline::{
    DraftTokens,
    profile::{Profile, Requests},
};
use serde_json::{Value, json};

use crate::{
    args::{Format, Global, PlanArgs},
    cell, decode, output, plugin,
};

pub(crate) fn run(global: &Global, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    let cell = cell::choose(&experiment, &args.file, args.variant.as_deref(), args.task.as_deref())?;
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

/// Makes the requests to probe with, if any are wanted.
fn probe(config: &Config, cell: Option<&Cell>, args: &PlanArgs) -> Result<Box<Requests<'static>>> {
    let Some(count) = args.probe else { return Ok(Box::new(|_| Ok(Vec::new()))) };
    cell::requests(config, cell, &args.file, "--probe", count)
}

//! `logitfuse export`: a fusion as files that other runtimes serve.

use std::{path::Path, process::ExitCode, sync::Arc};

use logitfuse_config::{Config, Experiment};
use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result, TokenId};
use logitfuse_export::{Checked, ExportSettings, Target, check, export, not_exported};
use logitfuse_pipeline::{built_in, configured, profile::Requests};

use crate::{
    args::{ExportArgs, ExportTarget, Global},
    cell, decode, output, signal,
};

/// Tokens that a check generates for each prompt at most.
const CHECKED_TOKENS: usize = 64;

pub(crate) fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let experiment = Experiment::load(&args.file, &args.overrides.overrides())?;
    let cell = cell::choose(&experiment, &args.file, args.variant.as_deref(), args.task.as_deref())?;
    let config = match cell {
        Some(cell) => cell.config.clone(),
        None => experiment.config()?,
    };
    let options = config.options();
    let strategy = strategy(&config).map_err(|e| config.underline(e))?;
    let mut settings = ExportSettings::new(match args.target {
        ExportTarget::Genai => Target::Genai,
        ExportTarget::Onnx => Target::Onnx,
        ExportTarget::Triton => Target::Triton,
    });
    settings.draft.clone_from(&args.draft);
    settings.uniform_kv = args.uniform_kv;
    let requests = match args.check {
        Some(_) if settings.target == Target::Triton => {
            let what = "--check: a model repository is not one model";
            return Err(Error::new(ErrorKind::InvalidConfig, what)
                .with_help("check target genai or onnx, whose files it holds")
                .into());
        }
        Some(count) => Some(cell::requests(&config, cell, &args.file, "--check", count)?),
        None => None,
    };
    let mut say = |step: &str| output::say(global.quiet, &format!("export: {step} …"));
    let folder =
        export(&options, strategy.as_ref(), &settings, &args.output, &mut say).map_err(|e| config.underline(e))?;
    for line in not_exported(&options) {
        output::say(global.quiet, &format!("warning: {line}"));
    }
    output::line(&folder.display().to_string())?;
    let Some(requests) = requests else { return Ok(ExitCode::SUCCESS) };
    output::say(global.quiet, "export: decoding with the models and with the files …");
    let checked = compare(global, &config, &requests, settings.target, &folder)?;
    output::line(&verdict(&checked))?;
    Ok(if checked.first_difference.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The strategy, which has to be one that is built in.
fn strategy(config: &Config) -> Result<Arc<dyn FusionStrategy>> {
    let id = config.strategy.id.as_deref().unwrap_or("none");
    let known = built_in().iter().any(|info| info.id == id);
    if !known && (id.starts_with("plugin:") || !config.plugins.is_empty()) {
        let what = format!("strategy.use: `{id}` is a plugin: machine code, which no file of arrays can hold");
        return Err(Error::new(ErrorKind::Unsupported, what).with_help("export a built-in strategy"));
    }
    configured(&config.strategy)
}

fn compare(
    global: &Global,
    config: &Config,
    requests: &Requests<'static>,
    target: Target,
    folder: &Path,
) -> anyhow::Result<Checked> {
    let mut config = config.clone();
    config.speculation = None;
    let runtime = decode::runtime(global)?;
    let cancel = signal::cancel_on_interrupt()?;
    let mut opened = decode::open_on(global, &config, &runtime)?;
    let prompts: Vec<Vec<TokenId>> =
        requests(&opened.pipeline)?.into_iter().filter_map(|request| request.prompts.into_iter().next()).collect();
    Ok(check(&mut opened.decoder, &runtime, target, folder, &prompts, CHECKED_TOKENS, &cancel)?)
}

fn verdict(checked: &Checked) -> String {
    let Checked { prompts, tokens, largest_difference, first_difference, .. } = checked;
    let of = format!(
        "{prompts} prompts, {tokens} tokens, log-probabilities differ by {largest_difference:.1e} nats at most"
    );
    match first_difference {
        None => format!("check: {of}; all tokens equal"),
        Some(first) => format!(
            "check: {of}; prompt {}, token {}: id {} with the models, {} with the files",
            first.prompt + 1,
            first.position + 1,
            first.live,
            first.exported
        ),
    }
}

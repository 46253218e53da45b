//! `logitfuse generate`: flags become a configuration, then one sample runs.

use std::{
    io::{IsTerminal, Read},
    path::Path,
    process::ExitCode,
};

use logitfuse_config::{Config, Experiment};
use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use logitfuse_engine::FinishReason;
use logitfuse_pipeline::{Names, RunConfig, Sample, SourceConfig, StrategyConfig};
use serde_json::{Map, Value, json};

use crate::{
    args::{Format, GenerateArgs, Global, SamplingArgs},
    decode::{self, Decoded},
    output, plugin,
    signal::{self, INTERRUPTED},
};

pub(crate) fn run(global: &Global, args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    refuse_idle(args)?;
    let mut config = match &args.config {
        Some(file) => Experiment::load(file, &args.overrides.overrides())?.config()?,
        None => config(args)?,
    };
    if args.config.is_some() {
        strategy_flags(args, &mut config.strategy)?;
    }
    sampling_flags(&args.sampling, &mut config.run);
    let mut fields = Map::from_iter([("prompt".to_owned(), json!(prompt(args)?))]);
    if let Some(context) = &args.context {
        fields.insert("context".to_owned(), json!(text_or_file(context)?));
    }
    let sample = Sample { id: "0".to_owned(), fields: Value::Object(fields) };
    let format = args.print.format.unwrap_or(Format::Text);
    let cancel = signal::cancel_on_interrupt()?;
    let mut opened = decode::open(global, &config)?;
    let Decoded { generation, record, .. } =
        decode::sample(global, &mut opened, 0, &sample, args.print, format, &cancel)?;
    if format != Format::Text {
        output::json(&record, format == Format::Json)?;
    }
    let flags = greedy(&args.sampling, &config.run);
    for flag in &flags {
        output::say(global.quiet, &format!("warning: {flag} has no effect at temperature 0, which is greedy"));
    }
    // What a flag has set is told by the flag's name.
    let keys: Vec<String> = flags.iter().map(|flag| format!("run.{} ", flag[2..].replace('-', "_"))).collect();
    for line in opened.pipeline.idle_options().iter().filter(|line| !keys.iter().any(|key| line.starts_with(key))) {
        output::say(global.quiet, &format!("warning: {line}"));
    }
    output::say(global.quiet, &decode::summary(&opened.pipeline, &generation));
    plugin::print_summary(global, &opened.pipeline);
    Ok(if generation.finish == FinishReason::Cancelled { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Refuses flags that the others leave without effect.
fn refuse_idle(args: &GenerateArgs) -> Result<()> {
    let wrong = |what: String, help: &str| Err(Error::new(ErrorKind::InvalidConfig, what).with_help(help));
    if args.config.is_none() && !(args.overrides.set.is_empty() && args.overrides.unset.is_empty()) {
        return wrong("--set, --unset: there is no experiment to change".to_owned(), "name one with --config FILE");
    }
    if args.print.timings && matches!(args.print.format, None | Some(Format::Text)) {
        return wrong("--timings: text has none".to_owned(), "add --format json; the line on stderr has them, too");
    }
    if args.alpha.is_some() && args.param.iter().any(|(key, _)| key == "alpha") {
        return wrong("--alpha, --param alpha: given twice".to_owned(), "--alpha A is short for --param alpha=A");
    }
    for (flag, list) in [("--param", &args.param), ("--logit-bias", &args.sampling.logit_bias)] {
        let twice = list.iter().enumerate().find(|(i, (key, _))| list[..*i].iter().any(|(known, _)| known == key));
        if let Some((_, (key, _))) = twice {
            return wrong(format!("{flag} {key}: given twice"), "only one of the values could count");
        }
    }
    Ok(())
}

/// The flags for drawing tokens that were given where none is drawn.
fn greedy(args: &SamplingArgs, run: &RunConfig) -> Vec<&'static str> {
    if run.temperature > 0.0 {
        return Vec::new();
    }
    let given = [
        ("--top-k", args.top_k.is_some()),
        ("--top-p", args.top_p.is_some()),
        ("--min-p", args.min_p.is_some()),
        ("--seed", args.seed.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
}

/// The experiment that the flags describe.
fn config(args: &GenerateArgs) -> Result<Config> {
    let source = |model: &Path| SourceConfig {
        variant: args.variant.clone(),
        providers: args.provider.clone(),
        chat_template: args.chat_template.clone().unwrap_or_else(|| "model".to_owned()),
        system: args.system.clone(),
        ..SourceConfig::new(model)
    };
    let mut config = Config::new(std::collections::BTreeMap::new(), StrategyConfig::default());
    strategy_flags(args, &mut config.strategy)?;
    for (role, model) in &args.role {
        let nth = config.strategy.roles.get(role).map_or(0, |names| names.0.len());
        let name = if nth == 0 { role.clone() } else { format!("{role}-{}", nth + 1) };
        config.sources.insert(name.clone(), source(Path::new(model)));
        config.strategy.roles.entry(role.clone()).or_insert_with(|| Names(Vec::new())).0.push(name);
    }
    match (&args.model, &args.context) {
        (Some(model), Some(_)) if args.role.is_empty() => {
            config.strategy.id.get_or_insert_with(|| "in-context".to_owned());
            let with = SourceConfig { user: "{{ context }}\n\n{{ prompt }}".to_owned(), ..source(model) };
            config.sources.insert("base".to_owned(), with);
            config.sources.insert("anti".to_owned(), source(model));
        }
        (Some(model), None) if args.role.is_empty() => {
            config.sources.insert("base".to_owned(), source(model));
        }
        (Some(_), _) => {
            return Err(Error::new(ErrorKind::InvalidConfig, "--model and --role name models twice")
                .with_help("use --role ROLE=DIR for every role, or --model alone"));
        }
        (None, _) if config.sources.is_empty() => {
            return Err(Error::new(ErrorKind::InvalidConfig, "no model was named")
                .with_help("use --model DIR, --role ROLE=DIR or --config FILE; `logitfuse demo` needs neither"));
        }
        (None, _) => {}
    }
    Ok(config)
}

fn strategy_flags(args: &GenerateArgs, strategy: &mut StrategyConfig) -> Result<()> {
    if let Some(id) = &args.strategy {
        strategy.id = Some(id.clone());
    }
    for (key, value) in &args.param {
        strategy.params.insert(key.clone(), param(key, value)?);
    }
    if let Some(alpha) = args.alpha {
        strategy.params.insert("alpha".to_owned(), json!(alpha));
    }
    Ok(())
}

/// JSON where it is JSON; a bare word is a string, anything else is taken for a slip.
fn param(key: &str, value: &str) -> Result<Value> {
    if let Ok(value) = serde_json::from_str(value) {
        return Ok(value);
    }
    let word = value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if word && value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Ok(json!(value));
    }
    Err(Error::new(ErrorKind::InvalidConfig, format!("--param {key}={value}: neither JSON nor a bare word"))
        .with_help("quote strings: --param 'key=\"some text\"'"))
}

fn sampling_flags(args: &SamplingArgs, run: &mut RunConfig) {
    fn set<T: Copy>(to: &mut T, from: Option<T>) {
        if let Some(value) = from {
            *to = value;
        }
    }
    set(&mut run.max_new_tokens, args.max_new_tokens);
    set(&mut run.temperature, args.temperature);
    set(&mut run.top_k, args.top_k);
    set(&mut run.top_p, args.top_p);
    set(&mut run.min_p, args.min_p);
    set(&mut run.repetition_penalty, args.repetition_penalty);
    set(&mut run.presence_penalty, args.presence_penalty);
    set(&mut run.frequency_penalty, args.frequency_penalty);
    set(&mut run.seed, args.seed);
    run.stop.extend(args.stop.iter().cloned());
    run.ignore_end_of_sequence |= args.ignore_eos;
    for (id, bias) in &args.logit_bias {
        // A value that is no number becomes NaN, which the sampler refuses by name.
        run.logit_bias.insert(id.clone(), bias.parse().unwrap_or(f32::NAN));
    }
}

fn prompt(args: &GenerateArgs) -> Result<String> {
    if let Some(prompt) = &args.prompt {
        return Ok(prompt.clone());
    }
    match &args.prompt_file {
        Some(file) if file.as_os_str() != "-" => read(file),
        None if std::io::stdin().is_terminal() => Err(Error::new(ErrorKind::InvalidConfig, "no prompt")
            .with_help("give it as an argument, with --prompt-file, or on stdin")),
        _ => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).or_err(ErrorKind::Io, "stdin")?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

fn text_or_file(text: &str) -> Result<String> {
    match text.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None => Ok(text.to_owned()),
    }
}

fn read(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).or_err(ErrorKind::NotFound, file.display())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

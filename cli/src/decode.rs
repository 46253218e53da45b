//! One sample through the engine, printed as asked.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressStyle};
use logitfuse_config::Config;
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_engine::{Cancel, Decoder, Event, Generation, TokenReport};
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::{Pipeline, Sample};
use logitfuse_plugin_host::LogLevel;
use logitfuse_setup::{Environment, find_runtime};
use serde_json::Value;

use crate::{
    args::{Format, Global, PrintArgs},
    output, plugin,
    record::RecordNames,
    trace::{self, Table},
};

/// Opened models with the decoder that runs requests on them.
pub(crate) struct Opened {
    pub(crate) pipeline: Pipeline,
    pub(crate) decoder: Decoder,
}

/// Finds ONNX Runtime and opens the experiment's models.
pub(crate) fn open(global: &Global, config: &Config) -> Result<Opened> {
    open_on(global, config, &runtime(global)?)
}

/// ONNX Runtime, wherever this machine has it.
pub(crate) fn runtime(global: &Global) -> Result<Runtime> {
    let found = find_runtime(&Environment::of_process(), global.ort_lib.as_deref())?;
    Runtime::load(&found.library)
}

/// Opens the experiment's models and prints notes about them.
pub(crate) fn open_on(global: &Global, config: &Config, runtime: &Runtime) -> Result<Opened> {
    forward_plugin_log(global);
    let pipeline = config.open(runtime, global.threads, &plugin::settings(global))?;
    notes(global, &pipeline);
    Ok(Opened { decoder: pipeline.decoder(), pipeline })
}

/// What plugins have to say goes to stderr.
pub(crate) fn forward_plugin_log(global: &Global) {
    let quiet = global.quiet;
    logitfuse_plugin_host::forward_log(move |level, plugin, line| {
        if level <= LogLevel::Info {
            output::say(quiet, &format!("{plugin}: {line}"));
        }
    });
}

/// What is worth knowing about models that were just opened.
pub(crate) fn notes(global: &Global, pipeline: &Pipeline) {
    if let Some(warning) = pipeline.plugin().and_then(|plugin| plugin.warning.as_ref()) {
        output::say(global.quiet, &format!("warning: {warning}"));
    }
    for warning in pipeline.warnings() {
        output::say(global.quiet, &format!("warning: {warning}"));
    }
    for model in pipeline.models() {
        for refused in &model.refused {
            let note = format!("note: {}: {} not used: {}", model.provider, refused.provider, refused.reason);
            output::say(global.quiet, &note);
        }
    }
    if pipeline.end_of_sequence().is_empty() {
        let names: Vec<&str> = pipeline.sources().map(|info| &*info.name).collect();
        let note =
            format!("note: {}: no token ends a text: no configuration and no tokenizer names one", names.join(", "));
        output::say(global.quiet, &note);
    }
    for note in &pipeline.compatibility().notes {
        output::say(global.quiet, &format!("note: {note}"));
    }
}

/// One sample's outcome.
pub(crate) struct Decoded {
    pub(crate) generation: Generation,
    /// As JSON, with what the flags ask for.
    pub(crate) record: Value,
    pub(crate) tokens: Vec<TokenReport>,
}

/// Generates for one sample. Text format streams to stdout; the JSON formats give the record back to be written.
pub(crate) fn sample(
    global: &Global,
    Opened { pipeline, decoder }: &mut Opened,
    index: usize,
    sample: &Sample,
    print: PrintArgs,
    format: Format,
    cancel: &Cancel,
) -> Result<Decoded> {
    let mut request = pipeline.request_for(index, &sample.fields)?;
    if print.trace {
        request.top_logprobs = 3;
        request.trace = true;
    }
    let table = (print.trace && format == Format::Text).then(|| Table::new(pipeline));
    let mut tokens: Vec<TokenReport> = Vec::new();
    let mut failed = None;
    let reading = reading_bar(global);
    if let Some(table) = &table {
        output::write_all(table.header().as_bytes())?;
    }
    let mut on_event = |event: Event<'_>| {
        let written = match (event, &table) {
            (Event::Prefill { done, total }, _) => {
                reading.set_length(total as u64);
                reading.set_position(done as u64);
                if done == total {
                    reading.finish_and_clear();
                }
                Ok(())
            }
            (Event::Token(report), table) => {
                let written = match table {
                    Some(table) => output::write_all(table.row(report).as_bytes()),
                    None if format == Format::Text => output::write_all(report.text.as_bytes()),
                    None => Ok(()),
                };
                tokens.push(report.clone());
                written
            }
            (Event::Finished { text, .. }, None) if format == Format::Text => output::write_all(text.as_bytes()),
            _ => Ok(()),
        };
        failed = written.err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let result = decoder.generate(std::slice::from_ref(&request), cancel, &mut on_event);
    reading.finish_and_clear();
    if let Some(e) = failed {
        return Err(e);
    }
    let generation = result?.pop().ok_or_else(|| Error::new(ErrorKind::Internal, "one request gave no generation"))?;
    if table.is_some() {
        output::line(&format!("{}\n{}", trace::LEGEND, generation.text))?;
    } else if format == Format::Text {
        output::line("")?;
    }
    let record = RecordNames::of(pipeline).sample(index, sample, &generation, print, &tokens);
    Ok(Decoded { generation, record, tokens })
}

/// A bar for long prompts; it shows only where stderr is a terminal.
fn reading_bar(global: &Global) -> ProgressBar {
    if global.quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("reading the prompt {bar:30} {pos}/{len} tokens, {eta} left");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One line about a finished sample, for stderr.
pub(crate) fn summary(pipeline: &Pipeline, generation: &Generation) -> String {
    let t = &generation.timings;
    let ms = |d: std::time::Duration| 1e3 * d.as_secs_f64() / t.steps.max(1) as f64;
    let sources: Vec<String> =
        pipeline.sources().zip(&t.forward).map(|(info, &d)| format!("{} {:.1} ms", info.name, ms(d))).collect();
    format!(
        "[{}: {} tokens, {:.1} tokens/s, {}; per token: {}, fusion {:.2} ms]",
        pipeline.strategy().info().id,
        generation.tokens.len(),
        t.tokens_per_second(),
        generation.finish.name(),
        sources.join(", "),
        ms(t.fuse + t.sample)
    )
}

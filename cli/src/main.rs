//! The `logitfuse` command.
//!
//! Glue: flags become a configuration, `logitfuse-pipeline` opens the models, `logitfuse-engine` decodes, this crate prints.
//! stdout is data, stderr is messages; exit status 0 is success, 1 means that the answer is "no", 2 that something is wrong.

mod args;
mod batch;
mod cell;
mod compare;
mod config;
mod decode;
mod demo;
mod diagnostics;
mod doctor;
mod export;
mod fit;
mod generate;
mod inspect;
mod merge;
mod merge_shards;
mod output;
mod plan;
mod plugin;
mod record;
mod report;
mod run;
mod runtime;
#[cfg(feature = "serve")]
mod serve;
mod signal;
mod strategies;
mod table;
mod tape;
mod tasks;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use logitfuse_core::ErrorKind;

use crate::args::{Arguments, Color, Command, ModelsCommand, RuntimeCommand, StrategiesCommand};

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match arguments.global.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    for flag in args::effect::without(&matches, &arguments.command) {
        output::say(arguments.global.quiet, &format!("warning: {flag} has no effect on this command"));
    }
    let done = signal::make_file_limits_errors().map_err(Into::into).and_then(|()| dispatch(&arguments));
    let code = done.unwrap_or_else(|e| {
        if was_interrupted(&e) {
            output::say(arguments.global.quiet, "interrupted");
            return ExitCode::from(signal::INTERRUPTED);
        }
        report(&e);
        ExitCode::from(2)
    });
    if let Some(status) = (0..=u8::MAX).find(|&status| ExitCode::from(status) == code) {
        logitfuse_plugin_host::exit_past_plugins(status);
    }
    code
}

/// Whether Ctrl-C ended the command in the middle of something that has no result without its end.
fn was_interrupted(error: &anyhow::Error) -> bool {
    error.downcast_ref::<logitfuse_core::Error>().is_some_and(|ours| ours.kind() == ErrorKind::Cancelled)
}

fn dispatch(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Generate(args) => generate::run(global, args),
        Command::Run(args) => run::run(global, args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(global, args),
        Command::Verify(args) => verify::run(global, args),
        Command::Rerun(args) => run::rerun(global, args),
        Command::Compare(args) => compare::run(args),
        Command::MergeShards(args) => merge_shards::run(global, args),
        Command::Merge(args) => merge::run(global, args),
        Command::Plan(args) => plan::run(global, args),
        Command::Export(args) => export::run(global, args),
        Command::Report(args) => report::run(args),
        Command::Config(command) => config::run(global, command),
        Command::Demo(args) => demo::run(global, args),
        Command::Doctor => doctor::run(global),
        Command::Models(ModelsCommand::Inspect(args)) => inspect::run(global, args),
        Command::Tasks(command) => tasks::run(command),
        Command::Strategies(StrategiesCommand::List { format }) => strategies::list(*format),
        Command::Strategies(StrategiesCommand::Show { name, format }) => strategies::show(name, *format),
        Command::Tape(command) => tape::run(global, command),
        Command::Fit(args) => fit::run(global, args),
        Command::Plugin(command) => plugin::run(global, command),
        Command::Runtime(RuntimeCommand::Show) => runtime::show(global),
        Command::Runtime(RuntimeCommand::Install { cuda }) => runtime::install(global, *cuda),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "logitfuse", &mut script);
            output::write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn report(error: &anyhow::Error) {
    let ours = error.downcast_ref::<logitfuse_core::Error>();
    if let Some(found) = ours.and_then(diagnostics::of) {
        diagnostics::print(found);
        return;
    }
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    let help_style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Cyan.into()));
    match ours {
        // Its message holds that of its cause already.
        Some(ours) => output::talk(&format!("{style}error:{style:#} {ours}")),
        None => output::talk(&format!("{style}error:{style:#} {error:#}")),
    }
    if let Some(help) = ours.and_then(logitfuse_core::Error::help) {
        output::talk(&format!("{help_style}help:{help_style:#} {help}"));
    }
}

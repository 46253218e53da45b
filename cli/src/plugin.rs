//! `logitfuse plugin`.

mod check;
mod list;
mod lock;
mod new;
mod scaffold;
mod search;

use std::process::ExitCode;

use crate::args::{Global, plugin::PluginCommand};

pub(crate) use self::search::{files, print_summary, search_path, settings};

pub(crate) fn run(global: &Global, command: &PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::List { format } => list::list(global, *format),
        PluginCommand::Show { plugin, format } => list::show(global, plugin, *format),
        PluginCommand::Check(args) => check::run(args),
        PluginCommand::New(args) => new::run(global, args),
        PluginCommand::Lock { files } => lock::run(global, files),
        PluginCommand::CheckCase { request, record } => {
            logitfuse_plugin_check::serve(request, record)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

//! Global flags without effect on the chosen command. Each is a warning, because a flag that is ignored looks as if it had worked.

use clap::{ArgMatches, parser::ValueSource};

use super::{Command, ModelsCommand, RuntimeCommand, config::ConfigCommand, plugin::PluginCommand, tape::TapeCommand};

/// Those that a command may have no use for, by field and as they are written.
const FLAGS: [(&str, &str); 5] = [
    ("ort_lib", "--ort-lib"),
    ("threads", "--threads"),
    ("plugin_dir", "--plugin-dir"),
    ("plugin_trust", "--plugin-trust"),
    ("locked", "--locked"),
];

/// The flags that were given and have no effect on this command.
pub(crate) fn without(matches: &ArgMatches, command: &Command) -> Vec<&'static str> {
    let mut deepest = matches;
    while let Some((_, inner)) = deepest.subcommand() {
        deepest = inner;
    }
    let used = used(command);
    let given =
        |field: &str| [matches, deepest].iter().any(|m| m.value_source(field) == Some(ValueSource::CommandLine));
    FLAGS.into_iter().filter(|(field, _)| !used.contains(field) && given(field)).map(|(_, flag)| flag).collect()
}

/// The fields of `Global` that a command reads, `quiet` and `color` aside, which every command does.
fn used(command: &Command) -> &'static [&'static str] {
    const MODELS: &[&str] = &["ort_lib", "threads"];
    const PLUGINS: &[&str] = &["plugin_dir", "plugin_trust", "locked"];
    const SEARCH: &[&str] = &["plugin_dir"];
    match command {
        #[cfg(feature = "serve")]
        Command::Serve(_) => &["ort_lib", "threads", "plugin_dir", "plugin_trust", "locked"],
        Command::Generate(_)
        | Command::Run(_)
        | Command::Verify(_)
        | Command::Rerun(_)
        | Command::Plan(_)
        | Command::Export(_)
        | Command::Tape(TapeCommand::Record(_)) => &["ort_lib", "threads", "plugin_dir", "plugin_trust", "locked"],
        Command::Tape(TapeCommand::Replay(_)) | Command::Fit(_) => &["threads", "plugin_dir", "plugin_trust", "locked"],
        Command::Models(ModelsCommand::Inspect(args)) if args.no_load => &[],
        Command::Models(ModelsCommand::Inspect(_)) | Command::Doctor | Command::Demo(_) => MODELS,
        Command::Runtime(RuntimeCommand::Show) => &["ort_lib"],
        Command::Config(ConfigCommand::Check(_)) => PLUGINS,
        Command::Config(ConfigCommand::Schema { with_plugins: true })
        | Command::Plugin(PluginCommand::List { .. } | PluginCommand::Show { .. } | PluginCommand::Lock { .. }) => {
            SEARCH
        }
        Command::Config(ConfigCommand::Show(_) | ConfigCommand::Schema { .. })
        | Command::Plugin(PluginCommand::Check(_) | PluginCommand::New(_) | PluginCommand::CheckCase { .. })
        | Command::Tape(TapeCommand::Inspect { .. })
        | Command::Runtime(RuntimeCommand::Install { .. })
        | Command::Compare(_)
        | Command::Merge(_)
        | Command::MergeShards(_)
        | Command::Report(_)
        | Command::Tasks(_)
        | Command::Strategies(_)
        | Command::Completions { .. } => &[],
    }
}

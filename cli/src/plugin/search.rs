//! The search path of plugins, and the summary of one after a run.

use std::path::PathBuf;

use logitfuse_config::{Config, Experiment};
use logitfuse_core::Result;
use logitfuse_pipeline::{Pipeline, PluginSettings};
use logitfuse_plugin_host::{Place, PluginFile, Policy, SearchPath};
use logitfuse_setup::{Environment, plugin_dirs};

use crate::{
    args::{Global, Trust},
    output,
};

/// Where this machine's plugins are.
pub(crate) fn search_path(global: &Global) -> SearchPath {
    let named = global.plugin_dir.iter().map(|folder| Place {
        folder: folder.clone(),
        origin: "--plugin-dir".to_owned(),
        must_exist: true,
    });
    let executable = std::env::current_exe().ok();
    let machine = plugin_dirs(&Environment::of_process(), executable.as_deref())
        .into_iter()
        .map(|(folder, origin)| Place { folder, origin: origin.to_owned(), must_exist: false });
    SearchPath::new(named.chain(machine))
}

/// Search path and trust policy of plugins, as the flags set them.
pub(crate) fn settings(global: &Global) -> PluginSettings {
    let policy = match global.plugin_trust {
        Trust::RequirePin => Policy::RequirePin,
        Trust::PinNamed => Policy::PinNamed,
        Trust::Warn => Policy::Warn,
        Trust::Off => Policy::Off,
    };
    PluginSettings { search: search_path(global), policy, locked: global.locked }
}

/// The files of the plugins that an experiment names or uses, each once. None of their code runs.
pub(crate) fn files(global: &Global, experiment: &Experiment) -> Result<Vec<PluginFile>> {
    let mut configs: Vec<Config> = experiment.cells().iter().map(|cell| cell.config.clone()).collect();
    if configs.is_empty() {
        configs.push(experiment.config()?);
    }
    // Sweeps have hundreds of configurations with the same plugins.
    let mut seen: Vec<Config> = Vec::new();
    let mut plugins: Vec<PluginFile> = Vec::new();
    for config in configs {
        if seen.iter().any(|known| known.plugins == config.plugins && known.strategy.id == config.strategy.id) {
            continue;
        }
        for plugin in config.plugin_files(&search_path(global))? {
            if plugins.iter().all(|known| known.hash() != plugin.hash()) {
                plugins.push(plugin);
            }
        }
        seen.push(config);
    }
    Ok(plugins)
}

/// Reports a plugin's failures and slow calls on stderr, once the run has ended.
pub(crate) fn print_summary(global: &Global, pipeline: &Pipeline) {
    let Some(plugin) = pipeline.plugin() else { return };
    let (id, timing, fallbacks) = (&plugin.record.id, plugin.strategy.timing(), plugin.strategy.fallbacks());
    if fallbacks > 0 {
        output::say(global.quiet, &format!("warning: {id} failed; {fallbacks} tokens are those of the base alone"));
    }
    if timing.slow() > 0 {
        let (slow, calls, longest) = (timing.slow(), timing.calls(), timing.longest());
        let usual = timing.quantile(0.5);
        let what = format!(
            "note: {id}: {slow} of {calls} calls took ten times the usual {usual:.0?} or more, up to {longest:.0?}"
        );
        output::say(global.quiet, &what);
    }
}

/// A plugin by its file, or by the id of a strategy. What has an ending or a folder in it is a file.
pub(super) fn find(global: &Global, plugin: &str) -> Result<PluginFile> {
    let path = PathBuf::from(plugin);
    if path.exists() || path.extension().is_some() || path.components().count() > 1 {
        return PluginFile::read(&path);
    }
    search_path(global).find(plugin.strip_prefix("plugin:").unwrap_or(plugin))
}

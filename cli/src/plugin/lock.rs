//! `logitfuse plugin lock`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use logitfuse_config::{Experiment, Overrides};
use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use logitfuse_plugin_host::{Lock, PluginFile};

use super::search::files;
use crate::{args::Global, output};

pub(crate) fn run(global: &Global, files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut plugins = Vec::new();
    let mut folder = None;
    for file in files {
        if file.extension().is_some_and(|ending| ending == "toml") {
            plugins.extend(of_experiment(global, file)?);
            folder = folder.or(file.parent().map(Path::to_owned));
        } else {
            plugins.push(PluginFile::read(file)?);
        }
    }
    let path = folder.unwrap_or_default().join("logitfuse.lock");
    let old = if path.exists() { Lock::load(&path)? } else { Lock::new([]) };
    let text = old.updated(&plugins).to_toml()?;
    // Renamed into place, so that a run that starts now reads the old file or the new one.
    let half = path.with_extension("lock.half");
    std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, &path)).or_err(ErrorKind::Io, path.display())?;
    for plugin in &plugins {
        let (metadata, hash) = (plugin.metadata(), plugin.hash());
        output::say(global.quiet, &format!("{} {} {hash} {}", metadata.id, metadata.version, plugin.path().display()));
    }
    output::line(&path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The plugins that an experiment names or uses.
fn of_experiment(global: &Global, file: &Path) -> Result<Vec<PluginFile>> {
    let plugins = files(global, &Experiment::load(file, &Overrides::default())?)?;
    if plugins.is_empty() {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: uses no plugin", file.display()))
            .with_help("name one: [strategy] use = \"plugin:ID\""));
    }
    Ok(plugins)
}

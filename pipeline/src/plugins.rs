//! Strategies that come as plugins: which file an experiment means, and whether it may be loaded.

use std::{path::PathBuf, sync::Arc};

use logitfuse_core::{
    CalibrationRows, Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, Result,
    SessionInfo, StrategyInfo,
};
use logitfuse_plugin_host::{Lock, OnError, Pin, Plugin, PluginFile, PluginStrategy, Policy, SearchPath};
use serde::Serialize;
use serde_json::Value;

#[cfg(feature = "onnx")]
use crate::open::Wanted;
use crate::{
    PipelineOptions,
    strategies::{configured, wrapped},
};

/// What the machine and its user say of plugins; nothing of it changes a result, only whether there is one.
#[derive(Clone, Debug, Default)]
pub struct PluginSettings {
    /// Where `plugin:ID` is looked for, after the experiment's own `[plugins]`.
    pub search: SearchPath,
    /// What to do with a plugin that is not pinned. By default one that the experiment names by its path is refused, one that
    /// lies where `search` looks is loaded with a warning.
    pub policy: Policy,
    /// Refuse plugins that `logitfuse.lock` beside the experiment does not list.
    pub locked: bool,
}

/// The plugin that a run uses, for its manifest.
#[derive(Clone, Debug, Serialize)]
pub struct PluginRecord {
    /// The plugin's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its licence.
    pub license: String,
    /// The sha256 of the file.
    pub sha256: String,
    /// The ABI it was built for.
    pub abi: (u32, u32),
    /// Where the file lies.
    pub path: PathBuf,
    /// Libraries that are loaded with it and are no part of the system; its hash does not cover them.
    pub uncovered: Vec<String>,
}

/// A plugin in use, with what its user should know.
pub struct PluginUse {
    /// For the manifest.
    pub record: PluginRecord,
    /// What the trust policy has to say.
    pub warning: Option<String>,
    /// The strategy, to ask how its calls went.
    pub strategy: Arc<PluginStrategy>,
    library: Plugin,
    /// The strategy's id in it.
    id: String,
    on_error: OnError,
}

impl PluginUse {
    /// The same strategy with other parameters.
    pub(crate) fn with_params(&self, params: &Value) -> Result<Arc<dyn FusionStrategy>> {
        Ok(Arc::new(self.library.strategy(&self.id, params, self.on_error)?))
    }
}

impl PipelineOptions {
    /// The files of all plugins that this experiment names or uses. None of their code runs.
    pub fn plugin_files(&self, search: &SearchPath) -> Result<Vec<PluginFile>> {
        let mut files = Vec::new();
        for (name, plugin) in &self.plugins {
            files.push(PluginFile::read(&plugin.path).map_err(|e| e.context(format_args!("plugins.{name}")))?);
        }
        if let Some((file, _)) = self.plugin_of_strategy(search, &files)?
            && files.iter().all(|known| known.hash() != file.hash())
        {
            files.push(file);
        }
        Ok(files)
    }

    /// The plugin's file, if the strategy is one of a plugin, held against its pins. None of its code runs.
    fn admitted(&self, settings: &PluginSettings) -> Result<Option<Admitted>> {
        let mut named = Vec::new();
        for (name, plugin) in &self.plugins {
            named.push(PluginFile::read(&plugin.path).map_err(|e| e.context(format_args!("plugins.{name}")))?);
        }
        let Some((file, id)) = self.plugin_of_strategy(&settings.search, &named)? else { return Ok(None) };
        let config =
            self.plugins.iter().zip(&named).find(|(_, known)| known.path() == file.path()).map(|(entry, _)| entry);
        let policy = match settings.policy {
            // It lies in a folder that the user chose.
            Policy::PinNamed if config.is_none() => Policy::Warn,
            policy => policy,
        };
        let mut pins = Vec::new();
        let mut on_error = OnError::Fail;
        if let Some((name, config)) = config {
            on_error =
                config.on_error.parse().map_err(|e: Error| e.context(format_args!("plugins.{name}.on_error")))?;
            if let Some(sha256) = &config.sha256 {
                let origin = format!("plugins.{name}.sha256");
                pins.push(Pin { hash: sha256.parse().map_err(|e: Error| e.context(&origin))?, origin });
            }
        }
        pins.extend(self.locked_pin(&file, settings.locked)?);
        let warning = policy.admit(&file, &pins)?;
        Ok(Some(Admitted { file, id, on_error, warning }))
    }

    /// The strategy, if it is one of a plugin.
    pub(crate) fn plugin_strategy(&self, settings: &PluginSettings) -> Result<Option<PluginUse>> {
        let Some(Admitted { file, id, on_error, warning }) = self.admitted(settings)? else { return Ok(None) };
        let params = Value::Object(self.strategy.params.clone());
        let library = file.load()?;
        let strategy = library
            .strategy(&id, &params, on_error)
            .map_err(|e| e.context(format_args!("strategy.params of `plugin:{id}`")))?;
        let metadata = file.metadata();
        let record = PluginRecord {
            id: metadata.id.clone(),
            version: metadata.version.clone(),
            license: metadata.license.clone(),
            sha256: file.hash().to_string(),
            abi: metadata.abi,
            path: file.path().to_owned(),
            uncovered: file.uncovered().into_iter().map(str::to_owned).collect(),
        };
        Ok(Some(PluginUse { record, warning, strategy: Arc::new(strategy), library, id, on_error }))
    }

    /// The strategy in its wrappers as its plugin's metadata describe it; `None` if it is built in. None of the plugin's code
    /// runs, so parameters are held against the schema alone, and roles are those of any parameters.
    fn described_strategy(&self, settings: &PluginSettings) -> Result<Option<Arc<dyn FusionStrategy>>> {
        let Some(Admitted { file, id, .. }) = self.admitted(settings)? else { return Ok(None) };
        let lost = || Error::new(ErrorKind::Internal, format!("plugin:{id}: the strategy is no longer there"));
        let described = file.metadata().strategy(&id).ok_or_else(lost)?;
        described
            .check_params(&Value::Object(self.strategy.params.clone()))
            .map_err(|e| e.with_help(format!("`logitfuse plugin show {}` lists the parameters", file.path().display())))
            .map_err(|e| e.context(format_args!("strategy.params of `plugin:{id}`")))?;
        wrapped(&self.strategy, Arc::new(Described { info: described.info.clone() })).map(Some)
    }

    /// The plugin that the strategy comes from, and the strategy's id there; `None` if it is built in.
    fn plugin_of_strategy(&self, search: &SearchPath, named: &[PluginFile]) -> Result<Option<(PluginFile, String)>> {
        let wanted = self.strategy.id.as_deref().unwrap_or("none");
        let (id, explicit) = match wanted.strip_prefix("plugin:") {
            Some(id) => (id, true),
            None => (wanted, false),
        };
        let (only, id) = id.rsplit_once('/').map_or((None, id), |(name, id)| (Some(name), id));
        if let Some(name) = only.filter(|name| !self.plugins.contains_key(*name)) {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("strategy.use: there is no [plugins.{name}]"))
                .with_help("plugin:NAME/ID names a strategy of [plugins.NAME]; plugin:ID looks everywhere"));
        }
        let offers = |(name, file): &(&String, &PluginFile)| {
            only.is_none_or(|only| only == name.as_str()) && file.metadata().strategy(id).is_some()
        };
        let offering: Vec<_> = self.plugins.keys().zip(named).filter(offers).collect();
        let built_in = !explicit && crate::strategies::is_built_in(id);
        match (&offering[..], built_in) {
            ([], false) if explicit => search.find(id).map(|file| Some((file, id.to_owned()))),
            ([], _) => Ok(None),
            ([(_, file)], false) => Ok(Some(((*file).clone(), id.to_owned()))),
            ([(name, _), ..], true) => {
                let what = format!("strategy.use: `{id}` is built in, and [plugins.{name}] offers it too");
                Err(Error::new(ErrorKind::InvalidConfig, what)
                    .with_help(format!("write \"plugin:{id}\" for that of the plugin, or leave [plugins.{name}] out")))
            }
            ([(first, _), (second, _), ..], false) => {
                let what = format!("strategy.use: [plugins.{first}] and [plugins.{second}] both offer `{id}`");
                Err(Error::new(ErrorKind::InvalidConfig, what)
                    .with_help(format!("write \"plugin:{first}/{id}\" or \"plugin:{second}/{id}\"")))
            }
        }
    }

    /// What `logitfuse.lock` says of a plugin. A lock that lists it is always obeyed.
    fn locked_pin(&self, file: &PluginFile, locked: bool) -> Result<Option<Pin>> {
        let path = self.folder.as_deref().map(|folder| folder.join("logitfuse.lock"));
        match path {
            Some(path) if locked || path.exists() => {
                let lock = Lock::load(&path)?;
                if locked { lock.pin(file).map(Some) } else { lock.pin_if_listed(file) }
            }
            None if locked => Err(Error::new(
                ErrorKind::InvalidConfig,
                "--locked: there is no experiment's TOML, so no lock beside it",
            )
            .with_help("write an experiment, and run `logitfuse plugin lock` on it")),
            _ => Ok(None),
        }
    }
}

#[cfg(feature = "onnx")]
impl crate::Pipeline {
    /// Opens the models. `threads` is how many cores to use in all; 0 is all there are. `plugins` is what the machine says of
    /// plugins; those that the options name need none of it.
    ///
    /// # Errors
    /// Those of the models and the strategy; the message begins with the option that is wrong.
    pub fn open(
        options: PipelineOptions,
        runtime: &logitfuse_onnx::Runtime,
        threads: usize,
        plugins: &PluginSettings,
    ) -> Result<Self> {
        let (strategy, plugin) = options.fusion_strategy(plugins)?;
        Self::open_one(Wanted { options, strategy, plugin }, runtime, threads)
    }

    /// Opens several pipelines over the same models, each of which is in memory once: they differ in strategy and roles alone,
    /// and [`Request`](logitfuse_engine::Request)s of all of them decode in one batch of one
    /// [`Decoder`](logitfuse_engine::Decoder). The vocabulary is what all models share.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_several(
        options: impl IntoIterator<Item = PipelineOptions>,
        runtime: &logitfuse_onnx::Runtime,
        threads: usize,
        plugins: &PluginSettings,
    ) -> Result<Vec<Self>> {
        let mut wanted = Vec::new();
        for options in options {
            let (strategy, plugin) = options.fusion_strategy(plugins)?;
            wanted.push(Wanted { options, strategy, plugin });
        }
        Self::open_wanted(wanted, runtime, threads)
    }

    /// As [`open`](Self::open), for what times the models: none of a plugin's code runs, and the base's row stands in for what
    /// its strategy would write.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_to_plan(
        options: PipelineOptions,
        runtime: &logitfuse_onnx::Runtime,
        threads: usize,
        plugins: &PluginSettings,
    ) -> Result<Self> {
        let strategy = options.strategy_info(plugins)?;
        Self::open_with(options, strategy, runtime, threads)
    }
}

impl PipelineOptions {
    /// The strategy in its wrappers, and the plugin that it comes from if it is not built in.
    ///
    /// # Errors
    /// Those of the strategy's parameters and of loading a plugin.
    pub fn fusion_strategy(&self, plugins: &PluginSettings) -> Result<(Arc<dyn FusionStrategy>, Option<PluginUse>)> {
        let plugin = self.plugin_strategy(plugins)?;
        let strategy = match &plugin {
            Some(plugin) => wrapped(&self.strategy, Arc::clone(&plugin.strategy) as Arc<dyn FusionStrategy>),
            None => configured(&self.strategy),
        };
        Ok((strategy?, plugin))
    }

    /// As [`preview_with`](Self::preview_with), with the strategy that the options name. Of a plugin the file is read, and held
    /// against its pins as it is before a run; none of its code runs.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[cfg(feature = "onnx")]
    pub fn preview(&self, plugins: &PluginSettings, folders: &mut crate::ModelFolders) -> Result<crate::Preview> {
        let strategy = self.strategy_info(plugins)?;
        self.preview_with(strategy.info(), folders)
    }

    /// The strategy in its wrappers, to be asked what it says of itself; that of a plugin is what its metadata say, and writes
    /// the base's row where it is run. None of a plugin's code runs.
    ///
    /// # Errors
    /// Those of the strategy's parameters, and of reading a plugin.
    pub fn strategy_info(&self, plugins: &PluginSettings) -> Result<Arc<dyn FusionStrategy>> {
        match self.described_strategy(plugins)? {
            Some(described) => Ok(described),
            None => configured(&self.strategy),
        }
    }
}

/// A plugin that may be loaded.
struct Admitted {
    file: PluginFile,
    /// The strategy in it.
    id: String,
    on_error: OnError,
    warning: Option<String>,
}

/// What a plugin's metadata say of a strategy, without the plugin: to be asked, and to time models with. Where it is run, it
/// writes the base's row.
struct Described {
    info: StrategyInfo,
}

impl FusionStrategy for Described {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(StandIn { base: session.row_of("base").unwrap_or(0) }))
    }

    fn calibrated(
        &self,
        _session: &SessionInfo,
        _rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        let mut info = self.info.clone();
        info.calibration = None;
        Ok(Arc::new(Self { info }))
    }
}

/// What stands in for a strategy that is described and not there.
#[derive(Clone)]
struct StandIn {
    base: usize,
}

impl Memoryless for StandIn {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(self.base).logits());
        Ok(())
    }
}

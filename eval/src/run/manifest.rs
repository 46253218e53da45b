//! What the results of an experiment depend on, file by file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_pipeline::ModelFolder;
use logitfuse_rundir::{CellPlan, FileRecord, Identity, Manifest, SCHEMA_VERSION, Scope, sha256, sha256_of_file};

use super::{RunOptions, Work};
use logitfuse_config::{Cell, Config, Experiment};
use logitfuse_pipeline::PluginSettings;

/// The key of [`Manifest::machine`] that says where the paths of `resolved.toml` begin.
pub(super) const FOLDER: &str = "experiment_folder";

/// Hashes every file that the run reads. No weights are loaded.
pub(super) fn manifest(experiment: &Experiment, work: &[Work], options: &RunOptions<'_>) -> Result<Manifest> {
    let mut files: BTreeSet<(PathBuf, &'static str)> = BTreeSet::new();
    let mut uncovered: BTreeSet<String> = BTreeSet::new();
    for work in work {
        let of_cell = files_of(&work.cell, options.plugins, &mut uncovered)?.into_iter().chain(work.task.files());
        files.extend(of_cell);
    }
    let folder = experiment.folder();
    let record = |(path, kind): (PathBuf, &'static str)| -> Result<FileRecord> {
        let (bytes, sha256) = sha256_of_file(&path)?;
        let shown = path.strip_prefix(folder).unwrap_or(&path).display().to_string().replace('\\', "/");
        Ok(FileRecord { path: shown, kind: kind.to_owned(), bytes, sha256 })
    };
    let cell = |work: &Work| CellPlan {
        variant: work.cell.variant.clone(),
        task: work.cell.task.clone(),
        items: work.task.docs().len(),
        repeats: work.task.repeats(),
    };
    Ok(Manifest {
        schema_version: SCHEMA_VERSION,
        identity: Identity {
            config_sha256: config_sha256(&experiment.resolved_toml())?,
            logitfuse: env!("CARGO_PKG_VERSION").to_owned(),
            onnxruntime: options.runtime.version().to_owned(),
            files: files.into_iter().map(record).collect::<Result<_>>()?,
        },
        scope: Scope { limit: options.scope.limit, shard: options.scope.shard },
        cells: work.iter().map(cell).collect(),
        machine: machine(folder, options.threads, uncovered),
    })
}

/// sha256 of the experiment without what only reads results or changes none of them.
fn config_sha256(resolved: &str) -> Result<String> {
    let mut table: toml::Table = resolved
        .parse()
        .map_err(|e| Error::new(ErrorKind::Internal, format!("the resolved experiment is not TOML: {e}")))?;
    table.remove("gap");
    table.remove("expect");
    table.remove("models");
    if let Some(run) = table.get_mut("run").and_then(toml::Value::as_table_mut) {
        run.remove("batch");
    }
    Ok(sha256(table.to_string().as_bytes()))
}

/// `uncovered` takes what plugins load that no hash covers.
fn files_of(
    cell: &Cell,
    plugins: &PluginSettings,
    uncovered: &mut BTreeSet<String>,
) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut files = Vec::new();
    let config = &cell.config;
    for name in used(config, plugins)? {
        let Some(source) = config.sources.get(&name) else { continue };
        let folder = ModelFolder::open(&source.model, source.variant.as_deref())
            .map_err(|e| e.context(format_args!("source `{name}`")))?;
        files.extend(folder.files());
        if !matches!(source.chat_template.as_str(), "model" | "none") {
            files.push((PathBuf::from(&source.chat_template), "chat_template"));
        }
        files.extend(source.demonstrations.iter().map(|file| (file.clone(), "demonstrations")));
        files.extend(source.calibration.iter().map(|file| (file.clone(), "calibration")));
        files.extend(source.calibration.iter().map(|file| (file.clone(), "calibration")));
    }
    let (_, plugin) = config.fusion_strategy(plugins)?;
    if let Some(plugin) = plugin {
        uncovered.extend(plugin.record.uncovered);
        files.push((plugin.record.path, "plugin"));
    }
    Ok(files)
}

/// The sources that take part.
fn used(config: &Config, plugins: &PluginSettings) -> Result<Vec<String>> {
    let (strategy, _) = config.fusion_strategy(plugins)?;
    let roles = config.assign(strategy.info())?.into_iter().map(|(_, source)| source);
    let drafting = config.speculation.as_ref().map(|speculation| speculation.draft.clone());
    let all: Vec<String> = roles.chain(drafting).collect();
    Ok(config.sources.keys().filter(|name| all.contains(name)).cloned().collect())
}

fn machine(folder: &Path, threads: usize, uncovered: BTreeSet<String>) -> BTreeMap<String, String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut machine = BTreeMap::from([
        ("arch", std::env::consts::ARCH.to_owned()),
        ("cpu_features", cpu_features().join(" ")),
        ("cores", cores.to_string()),
        (FOLDER, folder.display().to_string()),
        ("os", std::env::consts::OS.to_owned()),
        ("started", jiff::Timestamp::now().to_string()),
        ("threads", if threads == 0 { "all".to_owned() } else { threads.to_string() }),
    ]);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    machine.extend(cpu.map(|cpu| ("cpu", cpu)));
    if !uncovered.is_empty() {
        machine.insert("plugin_libraries", uncovered.into_iter().collect::<Vec<_>>().join(" "));
    }
    machine.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What kernels of ONNX Runtime choose by.
fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
            ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
            ("avxvnni", std::is_x86_feature_detected!("avxvnni")),
            ("avx512bf16", std::is_x86_feature_detected!("avx512bf16")),
        ];
        found.extend(known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let known = [
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
            ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ];
        found.extend(known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_results_is_no_part_of_the_identity() {
        let of = |text: &str| config_sha256(text).unwrap();
        let plain = of("schema = 1\n[run]\nseed = 1\n");
        assert_eq!(
            plain,
            of(
                "schema = 1\n[run]\nseed = 1\nbatch = 8\n[gap]\nbase = 'x'\n[[expect]]\nvariant = 'y'\n[[models]]\nname = 'z'\n"
            )
        );
        assert_ne!(plain, of("schema = 1\n[run]\nseed = 2\n"));
    }
}

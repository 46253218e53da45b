use std::path::{Path, PathBuf};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::PluginFile;

/// A folder that is searched, and who named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub folder: PathBuf,
    /// Who named it: `--plugin-dir`, `LOGITFUSE_PLUGIN_PATH`, …
    pub origin: String,
    /// Whether it is an error if the folder is missing, as it is for one that was named on the command line.
    pub must_exist: bool,
}

/// The folders in which plugins are looked for, in order; the working directory is none of them unless it is named.
///
/// ```
/// use logitfuse_plugin_host::{Place, SearchPath};
///
/// let places = SearchPath::new([Place { folder: "/no/such/folder".into(), origin: "HOME".into(), must_exist: false }]);
/// assert!(places.scan()?.is_empty());
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    places: Vec<Place>,
}

/// A library in one of the places.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// Who named the folder.
    pub origin: String,
    /// The plugin, or why it is none. A library that has nothing to do with logitfuse is not listed.
    pub plugin: Result<PluginFile, std::sync::Arc<Error>>,
    place: usize,
}

impl SearchPath {
    /// These places, the first being searched first.
    pub fn new(places: impl IntoIterator<Item = Place>) -> Self {
        Self { places: places.into_iter().collect() }
    }

    /// The places.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Reads every library of every place, in the places' order and by name within one. No code of a plugin runs.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a folder that must exist and does not. What is wrong with one file is said in its
    /// [`Found::plugin`].
    pub fn scan(&self) -> Result<Vec<Found>> {
        let mut all = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            for path in libraries(place)? {
                // The same folder may be named twice.
                if all.iter().any(|found: &Found| found.path == path) {
                    continue;
                }
                let plugin = PluginFile::read(&path).map_err(std::sync::Arc::new);
                all.push(Found { path, origin: place.origin.clone(), plugin, place: index });
            }
        }
        Ok(all)
    }

    /// The plugin that offers the strategy `id`: that of the first place which has one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if none offers it, [`ErrorKind::InvalidConfig`] if two different files of one place do.
    pub fn find(&self, id: &str) -> Result<PluginFile> {
        let all = self.scan()?;
        let offers =
            |found: &&Found| found.plugin.as_ref().is_ok_and(|plugin| plugin.metadata().strategy(id).is_some());
        let Some(first) = all.iter().find(offers) else { return Err(self.none_offers(id, &all)) };
        let Ok(plugin) = &first.plugin else { return Err(self.none_offers(id, &all)) };
        let differs = |other: &PluginFile| other.hash() != plugin.hash();
        let rival = all
            .iter()
            .filter(offers)
            .find(|other| other.place == first.place && other.plugin.as_ref().is_ok_and(differs));
        match rival {
            None => Ok(plugin.clone()),
            Some(rival) => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("plugin:{id}: two plugins offer it, {} and {}", first.path.display(), rival.path.display()),
            )
            .with_help("name one of them: [plugins.NAME] path = \"…\" in the experiment's TOML")),
        }
    }

    fn none_offers(&self, id: &str, all: &[Found]) -> Error {
        let offered: Vec<&str> = all
            .iter()
            .filter_map(|found| found.plugin.as_ref().ok())
            .flat_map(|plugin| plugin.metadata().strategies.iter().map(|strategy| strategy.info.id.as_str()))
            .collect();
        let help = if self.places.is_empty() {
            "name it: [plugins.NAME] path = \"…\" in the experiment's TOML, or its folder with --plugin-dir".to_owned()
        } else if offered.is_empty() {
            "no plugin was found; `logitfuse plugin list` shows where they are looked for".to_owned()
        } else {
            format!("the plugins offer {}; `logitfuse plugin list` shows them", offered.join(", "))
        };
        Error::new(ErrorKind::NotFound, format!("plugin:{id}: no plugin offers this strategy")).with_help(help)
    }
}

/// The files of a place that are named as libraries are, sorted.
fn libraries(place: &Place) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::NotFound, format!("{}: {e}", place.folder.display()))
            .with_help(format!("this folder of plugins comes from {}", place.origin))
    };
    let entries = match std::fs::read_dir(&place.folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !place.must_exist => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let folder = std::path::absolute(&place.folder).unwrap_or_else(|_| place.folder.clone());
    let mut paths = Vec::new();
    for entry in entries {
        let path = folder.join(entry.map_err(failed)?.file_name());
        if is_library(&path) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["so", "dylib", "dll"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

use std::{fmt, path::Path, str::FromStr};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::{Hash, PluginFile};

/// What to do with a plugin that is not pinned.
///
/// A pin says which bytes the author of the experiment means. It is no proof of good intent: running a third party's experiment
/// with its plugins runs third-party code, as `make` in a third party's folder does. What the default sees to is that this is
/// written down, and that no other file takes the place of the one that was meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Refuse it, and one that needs libraries which no pin covers. The right choice where others decide what runs: a server.
    RequirePin,
    /// Refuse it if an experiment names it, by its path. One that lies in a folder that the machine's user chose for plugins is
    /// loaded with a warning. Without that distinction, as [`admit`](Self::admit) knows none, it is refused.
    #[default]
    PinNamed,
    /// Load it and say so.
    Warn,
    /// Load it.
    Off,
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "require-pin" => Ok(Self::RequirePin),
            "pin-named" => Ok(Self::PinNamed),
            "warn" => Ok(Self::Warn),
            "off" => Ok(Self::Off),
            _ => Err(Error::new(ErrorKind::InvalidConfig, format!("{text:?} is no trust policy"))
                .with_help("there are require-pin, pin-named, warn and off")),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequirePin => "require-pin",
            Self::PinNamed => "pin-named",
            Self::Warn => "warn",
            Self::Off => "off",
        })
    }
}

/// The expected hash of a plugin, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The hash.
    pub hash: Hash,
    /// `plugins.kl.sha256`, `logitfuse.lock`, …
    pub origin: String,
}

impl Policy {
    /// Holds a plugin against its pins. The text that comes back is a warning.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if a pin differs, [`ErrorKind::InvalidConfig`] if there is none and the policy wants
    /// one, or if it wants every library covered that is loaded with the plugin.
    pub fn admit(self, plugin: &PluginFile, pins: &[Pin]) -> Result<Option<String>> {
        let path = plugin.path().display();
        if let Some(pin) = pins.iter().find(|pin| pin.hash != plugin.hash()) {
            let what = format!("{path}: its sha256 is {}, and {} says {}", plugin.hash(), pin.origin, pin.hash);
            return Err(Error::new(ErrorKind::Incompatible, what).with_help(
                "the file changed since it was pinned; if that was you, run `logitfuse plugin check` and pin it anew",
            ));
        }
        if self == Self::Off {
            return Ok(None);
        }
        if pins.is_empty() && matches!(self, Self::RequirePin | Self::PinNamed) {
            let what = match self {
                Self::RequirePin => "not pinned, and the policy is require-pin",
                _ => "not pinned, and it is the experiment that names it: nothing says that these bytes are meant",
            };
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{path}: {what}")).with_help(format!(
                "after `logitfuse plugin check`, write sha256 = \"{}\", or run `logitfuse plugin lock`; --plugin-trust warn \
                 loads it as it is",
                plugin.hash()
            )));
        }
        let uncovered = plugin.uncovered();
        if self == Self::RequirePin && !uncovered.is_empty() {
            let what = format!("{path}: needs {}, which its sha256 does not cover", uncovered.join(", "));
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{what}, and the policy is require-pin"))
                .with_help("link them into the plugin, or load it with --plugin-trust pin-named"));
        }
        let mut warnings = Vec::new();
        if pins.is_empty() {
            warnings.push(format!(
                "not pinned; a plugin runs with all your rights, so check it and write sha256 = \"{}\"",
                plugin.hash()
            ));
        }
        if !uncovered.is_empty() {
            warnings.push(format!("needs {}, which its sha256 does not cover", uncovered.join(", ")));
        }
        Ok((!warnings.is_empty()).then(|| format!("{path}: {}", warnings.join("; "))))
    }
}

/// `logitfuse.lock`: which bytes of which plugins an experiment was run with.
///
/// ```
/// use logitfuse_plugin_host::Lock;
///
/// let lock = Lock::parse("version = 1\n")?;
/// assert!(lock.plugins.is_empty());
/// assert!(Lock::parse("version = 2\n").unwrap_err().to_string().contains("version 2"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The version of these keys; 1.
    pub version: u32,
    /// The plugins, sorted by id.
    #[serde(default, rename = "plugin")]
    pub plugins: Vec<Locked>,
}

/// One plugin of a [`Lock`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The plugin's id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its licence; empty if it states none.
    pub license: String,
    /// The ids of its strategies.
    pub strategies: Vec<String>,
    /// The file's name, without its folder: machines differ in those.
    pub file: String,
    /// The sha256 of the file.
    pub sha256: String,
}

impl Lock {
    /// The lock of these plugins.
    pub fn new<'a>(plugins: impl IntoIterator<Item = &'a PluginFile>) -> Self {
        let mut plugins: Vec<Locked> = plugins.into_iter().map(Locked::new).collect();
        plugins.sort_by(|a, b| (&a.id, &a.sha256).cmp(&(&b.id, &b.sha256)));
        plugins.dedup();
        Self { version: 1, plugins }
    }

    /// This lock with these plugins in the place of those of the same ids.
    #[must_use]
    pub fn updated<'a>(&self, plugins: impl IntoIterator<Item = &'a PluginFile>) -> Self {
        let mut lock = Self::new(plugins);
        let kept = self.plugins.iter().filter(|old| lock.plugins.iter().all(|new| new.id != old.id)).cloned();
        lock.plugins = kept.chain(lock.plugins.iter().cloned()).collect();
        lock.plugins.sort_by(|a, b| (&a.id, &a.sha256).cmp(&(&b.id, &b.sha256)));
        lock
    }

    /// The pin of a plugin, if the lock lists it.
    pub fn pin_if_listed(&self, plugin: &PluginFile) -> Result<Option<Pin>> {
        if self.plugins.iter().any(|locked| locked.id == plugin.metadata().id) {
            return self.pin(plugin).map(Some);
        }
        Ok(None)
    }

    /// Reads the text of a lock file.
    pub fn parse(text: &str) -> Result<Self> {
        let help = "`logitfuse plugin lock` writes this file";
        let wrong = |what: String| Error::new(ErrorKind::InvalidData, what).with_help(help);
        let lock: Self = toml::from_str(text).map_err(|e| wrong(e.message().to_owned()))?;
        if lock.version != 1 {
            return Err(wrong(format!("version {} is newer than this logitfuse, which reads version 1", lock.version)));
        }
        for plugin in &lock.plugins {
            plugin.sha256.parse::<Hash>().map_err(|e| e.context(format_args!("plugin {}", plugin.id)))?;
        }
        Ok(lock)
    }

    /// Reads a lock file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, format!("{}: {e}", path.display())).with_help("`logitfuse plugin lock` writes this file")
        })?;
        Self::parse(&text).map_err(|e| e.context(path.display()))
    }

    /// The text of the file.
    pub fn to_toml(&self) -> Result<String> {
        let body =
            toml::to_string(self).map_err(|e| Error::new(ErrorKind::Internal, format!("logitfuse.lock: {e}")))?;
        Ok(format!(
            "# Written by `logitfuse plugin lock`, enforced by --locked. Commit it beside the experiment.\n{body}"
        ))
    }

    /// The pin of a plugin.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if the lock does not know the plugin.
    pub fn pin(&self, plugin: &PluginFile) -> Result<Pin> {
        let same = |locked: &&Locked| locked.id == plugin.metadata().id;
        let exact = self.plugins.iter().filter(same).find(|locked| locked.sha256 == plugin.hash().to_string());
        match exact.or_else(|| self.plugins.iter().find(same)) {
            Some(locked) => Ok(Pin { hash: locked.sha256.parse()?, origin: "logitfuse.lock".to_owned() }),
            None => Err(Error::new(
                ErrorKind::Incompatible,
                format!("{}: logitfuse.lock does not list plugin {}", plugin.path().display(), plugin.metadata().id),
            )
            .with_help("run `logitfuse plugin lock` if this plugin is meant to be used")),
        }
    }
}

impl Locked {
    fn new(plugin: &PluginFile) -> Self {
        let metadata = plugin.metadata();
        Self {
            id: metadata.id.clone(),
            version: metadata.version.clone(),
            license: metadata.license.clone(),
            strategies: metadata.strategies.iter().map(|strategy| strategy.info.id.clone()).collect(),
            file: plugin.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            sha256: plugin.hash().to_string(),
        }
    }
}

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::{Dependency, Metadata, object_file::ObjectFile, text};

/// More than any strategy weighs; a model's weights that are named by mistake are not read into memory.
const LARGEST: u64 = 512 << 20;

/// The sha256 of a file.
///
/// ```
/// use logitfuse_plugin_host::Hash;
///
/// let hash: Hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!(hash, Hash::of(b""));
/// assert!("e3b0".parse::<Hash>().is_err());
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its first twelve digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let pairs = digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?));
        if digits.len() == 64 && bytes.iter_mut().zip(pairs).all(|(byte, pair)| pair.map(|p| *byte = p).is_some()) {
            return Ok(Self(bytes));
        }
        Err(Error::new(ErrorKind::InvalidConfig, format!("{:?} is no sha256", text::printable(digits)))
            .with_help("a sha256 has 64 hexadecimal digits; `logitfuse plugin show FILE` prints it"))
    }
}

/// A plugin that was found and read, and not run.
///
/// It holds the file's bytes: what was examined and hashed is what [`load`](Self::load) loads, whatever happens to the
/// file in between.
#[derive(Clone, Debug)]
pub struct PluginFile {
    path: PathBuf,
    bytes: Arc<[u8]>,
    hash: Hash,
    metadata: Metadata,
    dependencies: Vec<Dependency>,
}

impl PluginFile {
    /// Reads and examines a file: what kind it is, whether this machine could load it, its metadata and ABI, its hash.
    /// No code of it runs.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::InvalidData`] for a file that is no plugin or is damaged,
    /// [`ErrorKind::Incompatible`] for a plugin of another ABI, system or processor.
    pub fn read(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let bytes = read(&path)?;
        Self::from_bytes(&path, bytes)
    }

    /// Examines bytes that were read from `path` already, which is only repeated.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::examine(path.to_owned(), bytes).map_err(|e| e.context(path.display()))
    }

    fn examine(path: PathBuf, bytes: Vec<u8>) -> Result<Self> {
        let object = ObjectFile::parse(&bytes)?;
        let Some(section) = object.metadata else {
            return Err(Error::new(ErrorKind::InvalidData, "no metadata: this library is no logitfuse plugin")
                .with_help(
                    "docs/writing-a-strategy.md shows how a library becomes one; `strip -R .lfmeta` takes it away",
                ));
        };
        let metadata = Metadata::parse(section)?;
        if !object.entries.contains(&1) {
            let (what, help) = match object.entries.last() {
                Some(major) => (
                    format!("it exports lf_plugin_entry_v{major}, and this host speaks lf_plugin_entry_v1"),
                    "use a newer logitfuse, or build the plugin with an older SDK",
                ),
                None => (
                    "the symbol lf_plugin_entry_v1 is missing".to_owned(),
                    "export it: `export!` does so in Rust, LF_EXPORT in C",
                ),
            };
            return Err(Error::new(ErrorKind::InvalidData, what).with_help(help));
        }
        let dependencies = object.dependencies;
        Ok(Self { hash: Hash::of(&bytes), path, bytes: bytes.into(), metadata, dependencies })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// What it says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The libraries that the loader loads with it, whose code runs as its own does.
    pub fn dependencies(&self) -> &[Dependency] {
        &self.dependencies
    }

    /// The names of those that are no part of the system: no hash covers them.
    pub fn uncovered(&self) -> Vec<&str> {
        self.dependencies.iter().filter(|dependency| !dependency.system).map(|d| d.name.as_str()).collect()
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, format!("{}: {e}", path.display())).with_help("name the .so, .dylib or .dll of a plugin")
    };
    let wrong = |what: &str| {
        Error::new(ErrorKind::InvalidData, format!("{}: {what}, not a shared library", path.display()))
            .with_help("name the .so, .dylib or .dll of a plugin")
    };
    // A pipe would block, and a folder opens on Unix.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(wrong(if about.is_dir() { "a folder" } else { "a device or pipe" }));
    }
    if about.len() > LARGEST {
        return Err(wrong(&format!("a file of {} MiB", about.len() >> 20)));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

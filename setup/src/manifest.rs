use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache::cannot_write;

const NAME: &str = "logitfuse-manifest.json";

/// The files of a finished folder and the recipe that made them. A folder with a manifest was made by logitfuse; the hashes
/// tell whether it is whole.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Names everything that decides the content; another recipe is another content.
    recipe: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

impl Manifest {
    /// Describes the files that lie directly in `dir`, and writes the description there.
    pub(crate) fn write(dir: &Path, recipe: &str) -> Result<()> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir).or_err(ErrorKind::Io, dir.display())? {
            let entry = entry.or_err(ErrorKind::Io, dir.display())?;
            let metadata = entry.metadata().or_err(ErrorKind::Io, entry.path().display())?;
            if metadata.is_file() {
                let sha256 = sha256_of(&entry.path())?;
                files.insert(entry.file_name().to_string_lossy().into_owned(), Entry { bytes: metadata.len(), sha256 });
            }
        }
        let manifest = Self { recipe: recipe.to_owned(), files };
        let text = serde_json::to_string_pretty(&manifest).or_err(ErrorKind::Internal, NAME)?;
        std::fs::write(dir.join(NAME), text + "\n").map_err(|e| cannot_write(dir, e))
    }

    /// Whether this crate made `dir`, however damaged it may be by now.
    pub(crate) fn exists_in(dir: &Path) -> bool {
        dir.join(NAME).is_file()
    }

    /// Whether `dir` was made by `recipe` and every file has its size: cheap enough for every start.
    pub(crate) fn sizes_match(dir: &Path, recipe: &str) -> bool {
        Self::read(dir).is_some_and(|manifest| {
            let has_size = |(name, entry): (&String, &Entry)| {
                dir.join(name).metadata().is_ok_and(|found| found.is_file() && found.len() == entry.bytes)
            };
            manifest.recipe == recipe && manifest.files.iter().all(has_size)
        })
    }

    /// Whether `dir` was made by `recipe` and every file has its sha256.
    pub(crate) fn hashes_match(dir: &Path, recipe: &str) -> bool {
        Self::sizes_match(dir, recipe)
            && Self::read(dir).is_some_and(|manifest| {
                manifest.files.iter().all(|(name, entry)| sha256_of(&dir.join(name)).is_ok_and(|h| h == entry.sha256))
            })
    }

    fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(NAME)).ok()?).ok()
    }
}

/// The sha256 of a file, in lower-case hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hasher.finalize())),
                n => hasher.update(&buffer[..n]),
            }
        }
    };
    hash().or_err(ErrorKind::Io, path.display())
}

/// Fails unless `path` has this sha256.
pub(crate) fn require_sha256(path: &Path, expected: &str) -> Result<()> {
    let found = sha256_of(path)?;
    if found == expected {
        return Ok(());
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Err(Error::new(ErrorKind::InvalidData, format!("{name}: sha256 is {found}, pinned is {expected}")).with_help(
        "the file was altered on its way or the package index serves another build; nothing was installed. \
         Try `python3 -m pip cache purge` and again",
    ))
}

/// The sha256 of some texts, in lower-case hexadecimal: a recipe for [`make_once`](crate::make_once).
///
/// ```
/// use logitfuse_setup::sha256_of_texts;
///
/// assert_ne!(sha256_of_texts(["ab", "c"]), sha256_of_texts(["a", "bc"]));
/// ```
pub fn sha256_of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.bin"), "abc").unwrap();
        Manifest::write(dir.path(), "recipe 1").unwrap();
        dir
    }

    #[test]
    fn a_whole_folder_is_recognised_and_another_recipe_is_not() {
        let dir = folder();
        assert!(Manifest::sizes_match(dir.path(), "recipe 1"));
        assert!(Manifest::hashes_match(dir.path(), "recipe 1"));
        assert!(!Manifest::sizes_match(dir.path(), "recipe 2"));
    }

    #[test]
    fn a_changed_byte_keeps_the_size_and_breaks_the_hash() {
        let dir = folder();
        std::fs::write(dir.path().join("a.bin"), "abd").unwrap();
        assert!(Manifest::sizes_match(dir.path(), "recipe 1"));
        assert!(!Manifest::hashes_match(dir.path(), "recipe 1"));
    }

    #[test]
    fn a_missing_file_or_a_torn_manifest_is_not_whole() {
        let dir = folder();
        std::fs::remove_file(dir.path().join("a.bin")).unwrap();
        assert!(!Manifest::sizes_match(dir.path(), "recipe 1"));
        std::fs::write(dir.path().join(NAME), "{\"recipe\":").unwrap();
        assert!(!Manifest::sizes_match(dir.path(), "recipe 1"));
        assert!(Manifest::exists_in(dir.path()));
    }

    #[test]
    fn sha256_is_the_published_one_of_abc() {
        let dir = folder();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let file = dir.path().join("a.bin");
        require_sha256(&file, abc).unwrap();
        let error = require_sha256(&file, &abc.replace('b', "c")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().starts_with("a.bin: sha256 is ba7816bf"));
    }
}

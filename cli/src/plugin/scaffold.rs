//! The files that `logitfuse plugin new` writes.

use std::path::{Path, PathBuf};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};

use crate::args::plugin::Language;

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../templates/plugin/rust/Cargo.toml.in")),
    ("build.rs", include_str!("../../templates/plugin/rust/build.rs")),
    ("src/lib.rs", include_str!("../../templates/plugin/rust/src/lib.rs")),
    ("src/strategy.rs", include_str!("../../templates/plugin/rust/src/strategy.rs")),
    ("README.md", include_str!("../../templates/plugin/rust/README.md")),
    (".gitignore", include_str!("../../templates/plugin/rust/gitignore")),
];

const C: &[(&str, &str)] = &[
    ("Makefile", include_str!("../../templates/plugin/c/Makefile")),
    ("strategy.c", include_str!("../../templates/plugin/c/strategy.c")),
    ("logitfuse_plugin.h", logitfuse_plugin_abi::HEADER),
    ("README.md", include_str!("../../templates/plugin/c/README.md")),
    (".gitignore", include_str!("../../templates/plugin/c/gitignore")),
];

/// The files of a new plugin: they build, and pass `plugin check` as they are.
#[derive(Clone, Debug)]
pub(crate) struct Scaffold {
    name: String,
    language: Language,
    sdk: Option<PathBuf>,
}

impl Scaffold {
    /// A plugin with one strategy of this id.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is not in kebab-case.
    pub(crate) fn new(name: &str, language: Language) -> Result<Self> {
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let whole = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-') && !name.contains("--");
        if whole && name.len() <= 64 && name.chars().all(kebab) {
            return Ok(Self { name: name.to_owned(), language, sdk: None });
        }
        Err(Error::new(ErrorKind::InvalidConfig, format!("{name:?} cannot be a strategy's id"))
            .with_help("use small letters, digits and single dashes, a letter first: my-rule"))
    }

    /// Says where the SDK's crate is; a plugin in Rust needs it.
    #[must_use]
    pub(crate) fn with_sdk(mut self, folder: &Path) -> Self {
        self.sdk = Some(folder.to_owned());
        self
    }

    /// Writes the files into a new folder, and returns their paths.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the folder exists, [`ErrorKind::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        if folder.exists() {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: exists already", folder.display()))
                .with_help("name another folder with --dir; nothing is overwritten"));
        }
        let files = if self.language == Language::Rust { RUST } else { C };
        let mut written = Vec::new();
        for (name, text) in files {
            let path = folder.join(name);
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).or_err(ErrorKind::Io, parent.display())?;
            std::fs::write(&path, self.fill(text)).or_err(ErrorKind::Io, path.display())?;
            written.push(path);
        }
        Ok(written)
    }

    fn fill(&self, text: &str) -> String {
        let sdk = match &self.sdk {
            // A TOML string, whatever the path holds.
            Some(folder) => format!("path = {}", toml::Value::from(folder.display().to_string())),
            None => format!("version = {:?}", env!("CARGO_PKG_VERSION")),
        };
        text.replace("{{name}}", &self.name).replace("{{lib}}", &self.name.replace('-', "_")).replace("{{sdk}}", &sdk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_in_c_brings_its_source_and_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let files = Scaffold::new("my-rule", Language::C).unwrap().write(&folder.path().join("my-rule")).unwrap();
        for name in ["strategy.c", "logitfuse_plugin.h"] {
            assert!(files.iter().any(|file| file.ends_with(name)), "{name}");
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for language in [Language::Rust, Language::C] {
            let scaffold = Scaffold::new("my-rule", language).unwrap().with_sdk(Path::new("/a \"b\"/sdk"));
            for (name, text) in RUST.iter().chain(C) {
                assert!(!scaffold.fill(text).contains("{{"), "{name}");
            }
        }
    }

    #[test]
    fn names_are_kebab_case() {
        for name in ["", "My", "a_b", "-a", "a-", "a--b", "1a", "../x", "ä"] {
            assert!(Scaffold::new(name, Language::C).is_err(), "{name}");
        }
    }
}

//! What a library file says of itself, read from its bytes. Nothing is executed.

use logitfuse_core::{Error, ErrorKind, Result};
use object::{Architecture, BinaryFormat, NameOrOrdinal, Object, ObjectKind, ObjectSection, ObjectSegment};

use crate::{Dependency, dependencies::dependencies};

/// The section that holds the metadata: `.lfmeta`, and `__lfmeta` as Mach-O writes names.
const SECTIONS: [&str; 2] = [".lfmeta", "__lfmeta"];
const ENTRY: &str = "lf_plugin_entry_v";

/// The parts of a library that the host looks at before it loads it.
pub(crate) struct ObjectFile<'a> {
    /// The metadata section, if there is one.
    pub(crate) metadata: Option<&'a [u8]>,
    /// The majors of the entry symbols that it exports, ascending: 1 is `lf_plugin_entry_v1`.
    pub(crate) entries: Vec<u32>,
    /// The libraries that are loaded with it.
    pub(crate) dependencies: Vec<Dependency>,
}

impl<'a> ObjectFile<'a> {
    /// Reads a library that this machine could load.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] for what is no library or is damaged, [`ErrorKind::Incompatible`] for a library of
    /// another system or processor. Messages do not begin with the file, which only the caller knows.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let wrong = |what: String, help: &str| Error::new(ErrorKind::InvalidData, what).with_help(help);
        if let Some(what) = known_stranger(bytes) {
            return Err(wrong(format!("{what}, not a shared library"), "name the .so, .dylib or .dll of a plugin"));
        }
        let damaged = |e: object::Error| {
            wrong(format!("damaged or truncated library: {e}"), "build or copy the file again; it may be incomplete")
        };
        let file = object::File::parse(bytes).map_err(damaged)?;
        same_machine(&file)?;
        if file.kind() != ObjectKind::Dynamic && file.format() != BinaryFormat::Pe {
            let what = format!("{:?} file, not a shared library", file.kind()).to_lowercase();
            return Err(wrong(what, "build a cdylib (Rust) or link with -shared (C)"));
        }
        for segment in file.segments() {
            let (start, len) = segment.file_range();
            if start.checked_add(len).is_none_or(|end| end > bytes.len() as u64) {
                let what = format!(
                    "truncated library: {} bytes, of which it needs {}",
                    bytes.len(),
                    start.saturating_add(len)
                );
                return Err(wrong(what, "copy the file again; it is incomplete"));
            }
        }
        let section = file.sections().find(|s| s.name().is_ok_and(|name| SECTIONS.contains(&name)));
        let metadata = section.map(|s| s.data().map_err(damaged)).transpose()?;
        let mut entries = Vec::new();
        for export in file.exports().map_err(damaged)? {
            if let NameOrOrdinal::Name(name) = export.map_err(damaged)?.name() {
                entries.extend(entry_major(name));
            }
        }
        entries.sort_unstable();
        entries.dedup();
        let dependencies = dependencies(&file).map_err(|what| {
            wrong(format!("damaged or truncated library: {what}"), "build or copy the file again; it may be incomplete")
        })?;
        Ok(Self { metadata, entries, dependencies })
    }
}

/// The major in `lf_plugin_entry_v1`; Mach-O puts an underscore before.
fn entry_major(symbol: &[u8]) -> Option<u32> {
    let symbol = str::from_utf8(symbol).ok()?;
    let symbol = symbol.strip_prefix('_').unwrap_or(symbol);
    symbol.strip_prefix(ENTRY)?.parse().ok()
}

/// Files that people name by mistake.
fn known_stranger(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("an empty file"),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => Some("a static library"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive"),
        [0x1f, 0x8b, ..] => Some("a gzip archive"),
        [0, b'a', b's', b'm', ..] => Some("a WebAssembly module"),
        [b'#', b'!', ..] => Some("a script"),
        [0x7f, b'E', b'L', b'F', ..]
        | [b'M', b'Z', ..]
        | [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..]
        | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => None,
        [0xca, 0xfe, 0xba, 0xbe, ..] => Some("a universal macOS library (extract one architecture with `lipo -thin`)"),
        _ => Some("a file of an unknown kind"),
    }
}

fn same_machine(file: &object::File<'_>) -> Result<()> {
    let system = match file.format() {
        BinaryFormat::Elf => "linux",
        BinaryFormat::MachO => "macos",
        BinaryFormat::Pe => "windows",
        _ => "another system",
    };
    let machine = match file.architecture() {
        Architecture::X86_64 => "x86_64".to_owned(),
        Architecture::Aarch64 => "aarch64".to_owned(),
        Architecture::I386 => "x86".to_owned(),
        Architecture::Riscv64 => "riscv64".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let (here_system, here_machine) = (std::env::consts::OS, std::env::consts::ARCH);
    let same_endianness = file.is_little_endian() == cfg!(target_endian = "little");
    if system == here_system && machine == here_machine && same_endianness {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Incompatible,
        format!("built for {machine}-{system}, and this is {here_machine}-{here_system}"),
    )
    .with_help(format!("build the plugin for {here_machine}-{here_system}")))
}

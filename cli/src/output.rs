//! stdout: data, and nothing else.

use std::io::{ErrorKind as IoKind, Write};

use logitfuse_core::{Error, ErrorKind, Result};

/// Writes and flushes, so that a reader sees every token as it comes.
pub(crate) fn write_all(bytes: &[u8]) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| {
        if e.kind() == IoKind::BrokenPipe {
            Error::new(ErrorKind::Io, "stdout was closed before everything was written")
                .with_help("let the reader read to the end, or write to a file")
        } else {
            Error::new(ErrorKind::Io, format!("stdout cannot be written: {e}"))
                .with_help("check what it is redirected to")
        }
    })
}

/// Writes one line.
pub(crate) fn line(text: &str) -> Result<()> {
    write_all(format!("{text}\n").as_bytes())
}

/// Writes a value as JSON: indented, or on one line.
pub(crate) fn json(value: &serde_json::Value, indented: bool) -> Result<()> {
    line(&if indented { format!("{value:#}") } else { value.to_string() })
}

/// Says something on stderr, unless asked to be quiet.
pub(crate) fn say(quiet: bool, text: &str) {
    if !quiet {
        talk(text);
    }
}

/// Writes one line to stderr. A stderr that cannot be written to leaves no place for an error.
pub(crate) fn talk(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes a title that divides the parts of a page.
pub(crate) fn title(text: &str) -> Result<()> {
    let bold = anstyle::Style::new().bold();
    line(&format!("\n{bold}{text}{bold:#}\n"))
}

//! Any text as an experiment, with any override.

#![no_main]

#[path = "laws.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;
use logitfuse_config::Overrides;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No files: what they hold is none of the input.
    if text.contains("extends") {
        return;
    }
    let mut parts = text.split('\0');
    let toml = parts.next().unwrap_or_default();
    let lines = |part: Option<&str>| part.into_iter().flat_map(str::lines).map(str::to_owned).collect();
    laws::hold(toml, &Overrides { set: lines(parts.next()), unset: lines(parts.next()) });
});

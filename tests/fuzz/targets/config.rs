//! Any text as an experiment, with any override: what is refused is refused with a place in it, and what is taken means the
//! same when it is written down and read again.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use logitfuse_config::{Diagnostics, Experiment, Overrides};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No files: what they hold is none of the input.
    if text.contains("extends") {
        return;
    }
    let mut parts = text.split('\0');
    let toml = parts.next().unwrap_or_default();
    let lines = |part: Option<&str>| part.into_iter().flat_map(str::lines).map(str::to_owned).collect();
    let overrides = Overrides { set: lines(parts.next()), unset: lines(parts.next()) };
    match Experiment::from_toml(toml, &overrides) {
        Ok(experiment) => {
            let resolved = experiment.resolved_toml();
            let again =
                Experiment::from_resolved(&resolved, Path::new("")).expect("what was taken once is taken again");
            assert_eq!(again.variants(), experiment.variants(), "{resolved}");
            for (a, b) in again.cells().iter().zip(experiment.cells()) {
                let values = |cell: &logitfuse_config::Cell| {
                    serde_json::to_string(&(&cell.config, &cell.task_config)).expect("it was read from TOML")
                };
                assert_eq!(values(a), values(b), "{resolved}");
            }
            assert_eq!(again.resolved_toml(), resolved);
        }
        Err(error) => {
            let found = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Diagnostics>());
            for one in &found.expect("what is wrong with a configuration is told as data").0 {
                assert!(!one.message.is_empty() && !one.message.contains('\n'));
                if let Some(place) = &one.place {
                    assert!(place.text().get(place.range()).is_some(), "{one}");
                }
            }
        }
    }
});

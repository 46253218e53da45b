// What must hold of every text that is read as an experiment: what is refused is refused with a place in it, and what is taken
// means the same when it is written down and read again.

use std::path::Path;

use logitfuse_config::{Cell, Diagnostics, Experiment, Overrides};

pub fn hold(toml: &str, overrides: &Overrides) {
    match Experiment::from_toml(toml, overrides) {
        Ok(experiment) => {
            let resolved = experiment.resolved_toml();
            let again = Experiment::from_resolved(&resolved, Path::new(""));
            let again = again.unwrap_or_else(|e| panic!("{e}: {resolved}\nwas taken as\n{toml}"));
            assert_eq!(again.variants(), experiment.variants(), "{resolved}\nwas taken as\n{toml}");
            for (a, b) in again.cells().iter().zip(experiment.cells()) {
                let values = |cell: &Cell| {
                    serde_json::to_string(&(&cell.config, &cell.task_config)).expect("it was read from TOML")
                };
                assert_eq!(values(a), values(b), "{resolved}");
            }
            assert_eq!(again.resolved_toml(), resolved);
            for one in experiment.idle_settings() {
                assert!(!one.message.contains('\n'));
            }
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
}

//! Group load: constructors, entry, table. That this code runs at all says that they let it.

use std::collections::BTreeSet;

use crate::{Outcome, context::unknown, subject::Subject};
use logitfuse_plugin_host::PluginFile;

pub(crate) const CASES: &[&str] = &["library", "capabilities"];

pub(crate) fn run(name: &str, subject: &Subject) -> Outcome {
    match name {
        "library" => again(subject),
        "capabilities" => capabilities(subject),
        _ => unknown(name),
    }
}

/// The same bytes under another name are the same library.
fn again(subject: &Subject) -> Outcome {
    PluginFile::read(subject.plugin.path()).and_then(|file| file.load()).map(drop).into()
}

fn capabilities(subject: &Subject) -> Outcome {
    let there: BTreeSet<&str> = subject.plugin.optional_functions(subject.index).into_iter().collect();
    let claimed: BTreeSet<&str> = subject.described.capabilities.iter().map(String::as_str).collect();
    let functions = ["commit", "rollback", "fork", "settle", "describe"];
    // Those of extensions may be there for other strategies of the plugin, so that not to name them is no fault.
    let of_extensions = ["begin", "read_prompt", "calibrate"];
    if let Some(name) = of_extensions.iter().find(|name| claimed.contains(**name) && !there.contains(**name)) {
        return Outcome::Failed(format!(
            "the metadata claim {name}, and the plugin's extensions have no such function"
        ));
    }
    if let Some(name) = functions.iter().find(|name| claimed.contains(**name) && !there.contains(**name)) {
        return Outcome::Failed(format!("the metadata claim {name}, and the table has no such function"));
    }
    if let Some(name) = functions.iter().find(|name| there.contains(**name) && !claimed.contains(**name)) {
        return Outcome::Failed(format!("the table has {name}, and the metadata's capabilities do not say so"));
    }
    if there.contains("commit") && !(there.contains("rollback") && there.contains("fork")) {
        return Outcome::Warning("it has a memory and lacks rollback or fork: no speculation, no search".to_owned());
    }
    Outcome::passed()
}

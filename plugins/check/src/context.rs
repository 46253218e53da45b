//! What a case is given.

use logitfuse_plugin_host::PluginStrategy;

use crate::{
    Outcome,
    subject::{RoleCounts, Subject},
};

/// What all groups from `memory` on are given.
pub(crate) type CaseContext<'a> = (&'a Subject, &'a PluginStrategy, &'a [RoleCounts]);

pub(crate) fn unknown(name: &str) -> Outcome {
    Outcome::Skipped(format!("this version has no case {name}"))
}

//! Whose fault an error is, and faults of calls that can return none.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use logitfuse_core::Error;

use crate::{FpControl, LogLevel, fenv::control_bits_changed, host_table::tell};

/// So many are kept; a plugin that repeats one is told once.
const MOST: usize = 64;

static FAULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The source of an error that a plugin's call gave.
#[derive(Debug)]
struct Failure;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plugin failed")
    }
}

impl std::error::Error for Failure {}

/// The same error, as the failure of a plugin.
pub(crate) fn of_plugin(error: Error) -> Error {
    error.with_source(Failure)
}

/// Whether an error is the failure of a plugin in the middle of a text: a call of its that failed, a row that is none. It ends
/// that text and says nothing of others.
pub fn is_plugin_failure(error: &Error) -> bool {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Failure>()).is_some()
}

/// Calls a function that returns nothing, such as `destroy`. What it leaves changed is restored, logged and kept for
/// [`faults`].
pub(crate) fn guard_silent(plugin: &str, call: &str, function: impl FnOnce()) {
    let ((), changed) = FpControl::guard(function);
    if !changed {
        return;
    }
    let fault = format!("plugin {plugin}: {call}: {}", control_bits_changed());
    tell(LogLevel::Error, plugin, &format!("{call}: {}", control_bits_changed()));
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    if faults.len() < MOST && !faults.contains(&fault) {
        faults.push(fault);
    }
}

/// Faults of calls that can return no error, `state_free` and `destroy`, since this process began; each once.
pub fn faults() -> Vec<String> {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

//! Ctrl-C.

use logitfuse_core::{ErrorKind, Result, ResultExt};
use logitfuse_engine::Cancel;
use logitfuse_onnx::Runtime;

/// Exit status of a command that Ctrl-C ended, as shells count it.
pub(crate) const INTERRUPTED: u8 = 130;

/// A flag that the first Ctrl-C sets: models stop between two nodes of their graphs, also while they are opened, and what
/// there is gets written. A second one ends the process at once.
pub(crate) fn cancel_on_interrupt() -> Result<Cancel> {
    let cancel = Cancel::new();
    let flag = cancel.clone();
    ctrlc::set_handler(move || {
        if flag.is_cancelled() {
            #[expect(clippy::exit, reason = "the user asked twice, and a handler has nowhere to return to")]
            std::process::exit(i32::from(INTERRUPTED));
        }
        flag.cancel();
        if let Some(runtime) = Runtime::current() {
            runtime.interrupt();
        }
    })
    .or_err(ErrorKind::Io, "Ctrl-C cannot be handled")?;
    Ok(cancel)
}

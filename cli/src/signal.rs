//! Signals: Ctrl-C, and the limit on the size of files.

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

/// A file that has reached the limit on its size (`ulimit -f`) is an error like that of a full disk, with the file's name. Unasked, the system ends the process by a signal, without a word.
///
/// To be called while there is one thread: the others inherit it.
#[cfg(unix)]
pub(crate) fn make_file_limits_errors() -> Result<()> {
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGXFSZ);
    signals.thread_block().or_err(ErrorKind::Io, "the signal of the limit on files cannot be blocked")
}

#[cfg(not(unix))]
pub(crate) fn make_file_limits_errors() -> Result<()> {
    Ok(())
}

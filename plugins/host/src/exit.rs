//! The end of a process in which plugins have run.

#![expect(unsafe_code, reason = "ends the process without its exit handlers")]

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

static RAN: AtomicBool = AtomicBool::new(false);

/// Says that code of a plugin runs from here on.
pub(crate) fn plugins_run() {
    RAN.store(true, Ordering::Relaxed);
}

/// Ends the process with this status if code of a plugin has run in it, and returns if none has. Exit handlers and destructors
/// do not run, for a plugin may have added some that set another status or crash; what was written is flushed. The last thing that a
/// program does whose exit status is an answer.
pub fn exit_past_plugins(status: u8) {
    if !RAN.load(Ordering::Relaxed) {
        return;
    }
    // Whoever read stdout may be gone.
    let _ = std::io::stdout().flush();
    #[cfg(unix)]
    // SAFETY: a null stream flushes all those of C, which plugins may have written to. `_exit` can be called at any time; nothing
    // of this process is used afterwards.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::_exit(i32::from(status));
    }
    #[cfg(not(unix))]
    #[expect(clippy::exit, reason = "the end of the program is what is asked for")]
    std::process::exit(i32::from(status));
}

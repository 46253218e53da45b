//! What a strategy logs, the host hears.
//!
//! A shared library has a `log` crate of its own, to which no logger of the host is known.

#![expect(unsafe_code, reason = "calls a function of the host")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use logitfuse_plugin_abi::{LF_LOG_DEBUG, LF_LOG_ERROR, LF_LOG_INFO, LF_LOG_TRACE, LF_LOG_WARN, lf_host_v1, lf_str};

/// Forwards to the host that entered last.
struct Bridge {
    host: AtomicPtr<lf_host_v1>,
}

static BRIDGE: Bridge = Bridge { host: AtomicPtr::new(ptr::null_mut()) };

/// Forwards from now on.
///
/// # Safety
/// `host` points to an `lf_host_v1` that stays valid for the rest of the process.
pub(crate) unsafe fn connect(host: *const lf_host_v1) {
    BRIDGE.host.store(host.cast_mut(), Ordering::Release);
    // Fails if the plugin has a logger of its own, which then is its wish, or on a second entry.
    if log::set_logger(&BRIDGE).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

impl Log for Bridge {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => LF_LOG_ERROR,
            Level::Warn => LF_LOG_WARN,
            Level::Info => LF_LOG_INFO,
            Level::Debug => LF_LOG_DEBUG,
            Level::Trace => LF_LOG_TRACE,
        };
        let host = self.host.load(Ordering::Acquire);
        if host.is_null() {
            return;
        }
        // SAFETY: `connect` was given a host that stays valid, and the entry checked that it reaches beyond these members.
        let (ctx, log) = unsafe { ((*host).ctx, (*host).log) };
        let Some(log) = log else { return };
        let text = record.args().to_string();
        let message = lf_str { ptr: text.as_ptr().cast(), len: text.len() as u64 };
        // SAFETY: the host's own function with its own context; the text lives until it returns.
        unsafe { log(ctx, level, message) };
    }

    fn flush(&self) {}
}

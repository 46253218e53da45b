//! Panics are caught before they reach the host.

#![expect(unsafe_code, reason = "reports to a caller in C")]

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use logitfuse_plugin_abi::{LF_OK, lf_error, lf_status};

use crate::failure::Failure;

thread_local! {
    /// How many guarded calls this thread is in: a strategy may call another plugin's.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the last panic in a guarded call said.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one entry of the table; its status, and whether it panicked.
///
/// # Safety
/// `err` is as [`Failure::report`] wants it.
pub(crate) unsafe fn call(err: *mut lf_error, body: impl FnOnce() -> Result<(), Failure>) -> (lf_status, bool) {
    let (outcome, panicked) = match caught(body) {
        Ok(outcome) => (outcome, false),
        Err(panic) => (Err(Failure::panic(panic)), true),
    };
    match outcome {
        Ok(()) => (LF_OK, panicked),
        // SAFETY: the caller vouches for `err`.
        Err(failure) => (unsafe { failure.report(err) }, panicked),
    }
}

/// What `body` returns, or what it panicked with and where.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| if in_guard() { remember(info) } else { previous(info) }));
    });
    let enter = |by: i32| DEPTH.try_with(|depth| depth.set(depth.get().saturating_add_signed(by)));
    let _ = enter(1);
    // Unwind safe: the object of a call that panicked is marked as poisoned, and not used again.
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    let _ = enter(-1);
    outcome.map_err(|payload| {
        let remembered = LAST.try_with(RefCell::take).ok().flatten();
        let text = remembered.unwrap_or_else(|| format!("panicked: {}", message(payload.as_ref())));
        // A payload may be of any type, and its destructor may panic in turn.
        mem::forget(payload);
        text
    })
}

fn in_guard() -> bool {
    DEPTH.try_with(Cell::get).is_ok_and(|depth| depth > 0)
}

fn remember(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let text = format!("panicked{place}: {}", message(info.payload()));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        log::error!("{text}\n{trace}");
    }
    let _ = LAST.try_with(|last| last.replace(Some(text)));
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

//! What the opaque pointers of the table point to.

#![expect(unsafe_code, reason = "objects that a host in C holds")]

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use logitfuse_plugin_abi::{lf_error, lf_status};

use crate::failure::Failure;
use crate::guard;

/// An object in the host's hands. A panic in one of its calls poisons it: its state is unknown, so every
/// later call is refused, and its memory is given up rather than dropped.
pub(crate) struct Handle<T> {
    object: T,
    poisoned: AtomicBool,
}

impl<T> Handle<T> {
    /// Gives an object to the host, which gives it back to [`take_back`](Self::take_back).
    ///
    /// # Safety
    /// `out` is null or points to a pointer that this call may write.
    pub(crate) unsafe fn hand_out<C>(out: *mut *mut C, object: T) -> Result<(), Failure> {
        if out.is_null() || !out.is_aligned() {
            return Err(Failure::argument("out: null or misaligned"));
        }
        let handle = Box::new(Self { object, poisoned: AtomicBool::new(false) });
        // SAFETY: checked above; the caller vouches for the memory.
        unsafe { out.write(Box::into_raw(handle).cast()) };
        Ok(())
    }

    /// Drops an object.
    ///
    /// # Safety
    /// `this` is null or what [`hand_out`](Self::hand_out) gave away for this `T`, and is not used any more.
    pub(crate) unsafe fn take_back<C>(this: *mut C) {
        if this.is_null() {
            return;
        }
        // SAFETY: it came out of a box, and this is its end.
        let handle = unsafe { Box::from_raw(this.cast::<Self>()) };
        if handle.poisoned.load(Ordering::Relaxed) {
            mem::forget(handle);
        } else if let Err(panic) = guard::caught(|| drop(handle)) {
            log::error!("while an object was freed: {panic}");
        }
    }

    /// A call that other calls may run beside.
    ///
    /// # Safety
    /// `this` is null or what [`hand_out`](Self::hand_out) gave away for this `T`; `err` is as [`Failure::report`] wants it.
    pub(crate) unsafe fn shared<C>(
        this: *const C,
        err: *mut lf_error,
        body: impl FnOnce(&T) -> Result<(), Failure>,
    ) -> lf_status {
        // SAFETY: the caller vouches for `this` and `err`; only the flag, which is atomic, ever changes beside this call.
        unsafe {
            match this.cast::<Self>().as_ref() {
                Some(handle) => guard(&handle.poisoned, err, || body(&handle.object)),
                None => no_object(err),
            }
        }
    }

    /// A call that no other call on this object runs beside.
    ///
    /// # Safety
    /// As [`shared`](Self::shared), and no other call on `this` is under way.
    pub(crate) unsafe fn exclusive<C>(
        this: *mut C,
        err: *mut lf_error,
        body: impl FnOnce(&mut T) -> Result<(), Failure>,
    ) -> lf_status {
        // SAFETY: the caller vouches for `this`, that it is used here only, and for `err`.
        unsafe {
            match this.cast::<Self>().as_mut() {
                Some(handle) => guard(&handle.poisoned, err, || body(&mut handle.object)),
                None => no_object(err),
            }
        }
    }
}

/// # Safety
/// `err` is as [`Failure::report`] wants it.
unsafe fn guard(poisoned: &AtomicBool, err: *mut lf_error, body: impl FnOnce() -> Result<(), Failure>) -> lf_status {
    let body = || {
        if poisoned.load(Ordering::Relaxed) { Err(Failure::panic("poisoned by an earlier panic")) } else { body() }
    };
    // SAFETY: the caller vouches for `err`.
    let (status, panicked) = unsafe { guard::call(err, body) };
    if panicked {
        poisoned.store(true, Ordering::Relaxed);
    }
    status
}

/// # Safety
/// `err` is as [`Failure::report`] wants it.
unsafe fn no_object(err: *mut lf_error) -> lf_status {
    // SAFETY: the caller vouches for `err`.
    unsafe { Failure::argument("the object is null").report(err) }
}

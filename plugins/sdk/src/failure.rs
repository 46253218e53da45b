//! What a call reports instead of a result.

#![expect(unsafe_code, reason = "writes into the buffers of a caller in C")]

use std::ptr;

use logitfuse_core::{Error, ErrorKind};
use logitfuse_plugin_abi::{
    LF_E_ARGUMENT, LF_E_CANCELLED, LF_E_CONFIG, LF_E_INCOMPATIBLE, LF_E_INTERNAL, LF_E_IO, LF_E_NUMERIC, LF_E_PANIC,
    LF_E_UNSUPPORTED, has, lf_buf, lf_error, lf_status,
};

use crate::table::struct_size;

/// A status with its texts.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: lf_status,
    path: String,
    message: String,
    help: String,
}

impl Failure {
    fn new(status: lf_status, message: String) -> Self {
        Self { status, path: String::new(), message, help: String::new() }
    }

    /// The caller broke the specification.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(LF_E_ARGUMENT, message.into())
    }

    /// The strategy panicked.
    pub(crate) fn panic(message: impl Into<String>) -> Self {
        Self::new(LF_E_PANIC, message.into())
    }

    /// Tells the caller, as far as its buffers reach.
    ///
    /// # Safety
    /// `err` is null or points to an `lf_error` of at least `struct_size` bytes that this call may write, whose buffers
    /// are null or have `cap` bytes that this call may write.
    pub(crate) unsafe fn report(&self, err: *mut lf_error) -> lf_status {
        if err.is_null() || !err.is_aligned() {
            return self.status;
        }
        // SAFETY: not null, aligned, and `struct_size` is the first member of every `lf_error`.
        let size = unsafe { (&raw const (*err).struct_size).read() };
        if has!(size, lf_error, message) {
            // SAFETY: the struct reaches to the member's end, and the caller vouches for the buffer.
            unsafe { write(&raw mut (*err).message, &self.message) };
        }
        if has!(size, lf_error, path) {
            // SAFETY: as above.
            unsafe { write(&raw mut (*err).path, &self.path) };
        }
        if has!(size, lf_error, help) {
            // SAFETY: as above.
            unsafe { write(&raw mut (*err).help, &self.help) };
        }
        self.status
    }
}

impl Failure {
    /// For a caller in Rust: what the host did wrong in an answer.
    pub(crate) fn into_error(self) -> Error {
        Error::new(ErrorKind::Internal, self.message)
    }
}

/// Buffers for the error of a call into the host.
pub(crate) struct ErrorBuffers {
    message: [u8; 1024],
    help: [u8; 512],
}

impl ErrorBuffers {
    pub(crate) fn new() -> Self {
        Self { message: [0; 1024], help: [0; 512] }
    }

    /// An empty error over these buffers, for one call.
    pub(crate) fn lend(&mut self) -> lf_error {
        let buffer = |bytes: &mut [u8]| lf_buf { ptr: bytes.as_mut_ptr().cast(), cap: bytes.len() as u64, len: 0 };
        lf_error {
            struct_size: struct_size::<lf_error>(),
            reserved: 0,
            message: buffer(&mut self.message),
            path: lf_buf { ptr: ptr::null_mut(), cap: 0, len: 0 },
            help: buffer(&mut self.help),
        }
    }

    /// The error that the host wrote, of a kind that becomes the same status again.
    pub(crate) fn read(&self, said: &lf_error, status: lf_status) -> Error {
        let text = |bytes: &[u8], len: u64| {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let kind = match status {
            LF_E_CONFIG => ErrorKind::InvalidConfig,
            LF_E_INCOMPATIBLE => ErrorKind::Incompatible,
            LF_E_UNSUPPORTED => ErrorKind::Unsupported,
            LF_E_NUMERIC => ErrorKind::Numeric,
            LF_E_CANCELLED => ErrorKind::Cancelled,
            LF_E_IO => ErrorKind::Io,
            _ => ErrorKind::Internal,
        };
        let (message, help) = (text(&self.message, said.message.len), text(&self.help, said.help.len));
        let error = Error::new(kind, if message.is_empty() { format!("the host returned {status}") } else { message });
        if help.is_empty() { error } else { error.with_help(help) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidConfig => LF_E_CONFIG,
            ErrorKind::Incompatible => LF_E_INCOMPATIBLE,
            ErrorKind::Unsupported => LF_E_UNSUPPORTED,
            ErrorKind::Numeric => LF_E_NUMERIC,
            ErrorKind::Cancelled => LF_E_CANCELLED,
            ErrorKind::Io | ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::Backend => LF_E_IO,
            _ => LF_E_INTERNAL,
        };
        let help = error.help().unwrap_or_default().to_owned();
        let mut failure = Self { help, ..Self::new(status, error.to_string()) };
        if status == LF_E_CONFIG {
            // `core::params` begins its messages with the pointer, or with `params` for all of them.
            let text = failure.message.split_once(": ").map(|(path, rest)| (path.to_owned(), rest.to_owned()));
            if let Some((path, rest)) = text.filter(|(path, _)| path == "params" || path.starts_with('/')) {
                failure.path = if path == "params" { String::new() } else { path };
                failure.message = rest;
            }
        }
        failure
    }
}

/// Writes as much of `text` as fits, cut between characters.
///
/// # Safety
/// `buf` points to an `lf_buf` that this call may write; its `ptr` is null or has `cap` bytes that this call may write.
pub(crate) unsafe fn write(buf: *mut lf_buf, text: &str) {
    // SAFETY: the caller vouches for `buf`.
    let lf_buf { ptr, cap, .. } = unsafe { buf.read() };
    let fits = text.floor_char_boundary(usize::try_from(cap).unwrap_or(usize::MAX));
    if !ptr.is_null() && fits > 0 {
        // SAFETY: `fits` is at most `cap`, which the caller vouches for, and at most the length of `text`; a text of ours
        // and a buffer of the caller do not overlap.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), ptr.cast(), fits) };
    }
    // SAFETY: the caller vouches for `buf`.
    unsafe { (*buf).len = text.len() as u64 };
}

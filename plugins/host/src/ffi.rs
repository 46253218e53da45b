//! Text and errors between host and plugin.

#![expect(unsafe_code, reason = "reads and writes memory that a plugin points to")]

use std::slice;

use logitfuse_core::{Error, ErrorKind, params};
use logitfuse_plugin_abi::{
    LF_E_CANCELLED, LF_E_CONFIG, LF_E_INCOMPATIBLE, LF_E_INTERNAL, LF_E_IO, LF_E_NUMERIC, LF_E_PANIC, LF_E_STATE,
    LF_E_UNSUPPORTED, has, lf_buf, lf_error, lf_status, lf_str,
};

use crate::text;

/// A text that is borrowed for a call.
pub(crate) fn lend(text: &str) -> lf_str {
    lf_str { ptr: text.as_ptr().cast(), len: text.len() as u64 }
}

/// The bytes of a text of the plugin; `None` for a pointer or length that cannot be one.
///
/// # Safety
/// If `text.ptr` is not null, `text.len` bytes behind it can be read for `'a`.
pub(crate) unsafe fn bytes<'a>(text: lf_str) -> Option<&'a [u8]> {
    let len = usize::try_from(text.len).ok().filter(|&len| isize::try_from(len).is_ok())?;
    match (text.ptr.is_null(), len) {
        (_, 0) => Some(&[]),
        (true, _) => None,
        // SAFETY: not null, and the caller promises `len` readable bytes; `u8` has no alignment, and `len` fits an `isize`.
        (false, len) => Some(unsafe { slice::from_raw_parts(text.ptr.cast::<u8>(), len) }),
    }
}

/// Writes as much of `text` as fits, cut between characters, and how long all of it is.
///
/// # Safety
/// If `to.ptr` is not null, `to.cap` bytes behind it can be written.
pub(crate) unsafe fn write(text: &str, to: &mut lf_buf) {
    let cap = usize::try_from(to.cap).unwrap_or(usize::MAX);
    if !to.ptr.is_null() {
        let cut = text.floor_char_boundary(cap.min(text.len()));
        // SAFETY: `cut <= to.cap`, and the caller promises that many writable bytes; the host's own text cannot overlap
        // a buffer of the plugin.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to.ptr.cast::<u8>(), cut) };
    }
    to.len = text.len() as u64;
}

/// Fills in an error for the plugin; `path` is a JSON pointer.
///
/// # Safety
/// `err` is null, or points to an `lf_error` of at least the size that it states, whose buffers can be written.
pub(crate) unsafe fn fail(err: *mut lf_error, status: lf_status, path: &str, message: &str) -> lf_status {
    if err.is_null() || !err.is_aligned() {
        return status;
    }
    // SAFETY: not null and aligned, so `struct_size`, its first member, can be read as the caller promises.
    let size = unsafe { (*err).struct_size };
    if has!(size, lf_error, path) {
        // SAFETY: both members lie within the size that the struct states, and the caller promises that their buffers can
        // be written. The borrows end with each call.
        unsafe {
            write(message, &mut (*err).message);
            write(path, &mut (*err).path);
        }
    }
    status
}

/// Buffers that a plugin writes its error into.
pub(crate) struct ErrorBuffers {
    message: [u8; 2048],
    path: [u8; 512],
    help: [u8; 1024],
}

impl ErrorBuffers {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self { message: [0; 2048], path: [0; 512], help: [0; 1024] })
    }

    /// An empty error over these buffers, for one call.
    pub(crate) fn lend(&mut self) -> lf_error {
        fn buffer(bytes: &mut [u8]) -> lf_buf {
            lf_buf { ptr: bytes.as_mut_ptr().cast(), cap: bytes.len() as u64, len: 0 }
        }
        lf_error {
            struct_size: size_u32::<lf_error>(),
            reserved: 0,
            message: buffer(&mut self.message),
            path: buffer(&mut self.path),
            help: buffer(&mut self.help),
        }
    }

    /// The failure of a call with a status that is not `LF_OK`. `call` names it, for a plugin that writes no message.
    pub(crate) fn read(&self, err: &lf_error, status: lf_status, call: &str) -> Failure {
        // The plugin may have changed pointers and capacities; only its lengths are used, as far as they fit.
        let text = |buffer: &[u8], len: u64| {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
            text::printable(&buffer[..len])
        };
        let mut message = text(&self.message, err.message.len);
        if message.is_empty() {
            message = format!("{call} returned {status} without a message, which is a fault of the plugin");
        }
        let help = text(&self.help, err.help.len);
        Failure { status, path: text(&self.path, err.path.len), message, help: (!help.is_empty()).then_some(help) }
    }
}

/// The size of a struct as its `struct_size` says it.
pub(crate) const fn size_u32<T>() -> u32 {
    let size = size_of::<T>();
    assert!(size < u32::MAX as usize);
    #[expect(clippy::cast_possible_truncation, reason = "asserted in the line before")]
    let size = size as u32;
    size
}

/// A call that failed, with the texts of the plugin.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: lf_status,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Failure {
    /// As an error. One of a parameter begins with its JSON pointer, as those of built-in strategies do.
    pub(crate) fn into_error(self) -> Error {
        let error = match self.status {
            LF_E_CONFIG => params::invalid(&self.path, self.message),
            LF_E_PANIC => Error::new(ErrorKind::Backend, format!("panicked: {}", self.message)),
            _ => Error::new(self.kind(), self.message),
        };
        match self.help {
            Some(help) => error.with_help(help),
            None if self.status == LF_E_PANIC => {
                error.with_help("this is a bug of the plugin; report it to its author")
            }
            None => error,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self.status {
            LF_E_CONFIG => ErrorKind::InvalidConfig,
            LF_E_INCOMPATIBLE => ErrorKind::Incompatible,
            LF_E_UNSUPPORTED => ErrorKind::Unsupported,
            LF_E_STATE => ErrorKind::Internal,
            LF_E_NUMERIC => ErrorKind::Numeric,
            LF_E_CANCELLED => ErrorKind::Cancelled,
            LF_E_IO => ErrorKind::Io,
            _ => ErrorKind::Backend,
        }
    }
}

/// The status by which the host reports an error of this kind to a plugin.
pub(crate) fn status_of(kind: ErrorKind) -> lf_status {
    match kind {
        ErrorKind::InvalidConfig => LF_E_CONFIG,
        ErrorKind::Incompatible => LF_E_INCOMPATIBLE,
        ErrorKind::Unsupported => LF_E_UNSUPPORTED,
        ErrorKind::Numeric => LF_E_NUMERIC,
        ErrorKind::Cancelled => LF_E_CANCELLED,
        ErrorKind::Io | ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::Backend => LF_E_IO,
        _ => LF_E_INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_buffers_are_cut() {
        let mut buffers = ErrorBuffers::new();
        let mut err = buffers.lend();
        err.message.len = u64::MAX;
        err.message.ptr = std::ptr::without_provenance_mut(8);
        err.path.len = 7;
        let failure = buffers.read(&err, 99, "fuse");
        assert_eq!(failure.path.matches("\\u{0}").count(), 7);
        assert_eq!(failure.into_error().kind(), ErrorKind::Backend);
    }

    #[test]
    fn an_empty_message_is_replaced() {
        let mut buffers = ErrorBuffers::new();
        let err = buffers.lend();
        let error = buffers.read(&err, 7, "create").into_error();
        assert_eq!(error.to_string(), "create returned 7 without a message, which is a fault of the plugin");
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut room = [0_u8; 4];
        let mut buffer = lf_buf { ptr: room.as_mut_ptr().cast(), cap: 4, len: 0 };
        // SAFETY: `buffer` is over four bytes of `room`.
        unsafe { write("aéé", &mut buffer) };
        assert_eq!((buffer.len, &room[..]), (5, "aé\0".as_bytes()));
    }
}

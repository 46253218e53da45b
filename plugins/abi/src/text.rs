//! Text and errors that cross the C interface.

use core::ffi::c_char;

/// UTF-8, not terminated, borrowed. Frozen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_str {
    /// May be null if `len` is 0.
    pub ptr: *const c_char,
    /// Bytes.
    pub len: u64,
}

/// Where to write text: at most `cap` bytes, and into `len` how many the whole text has. Frozen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_buf {
    /// May be null if `cap` is 0.
    pub ptr: *mut c_char,
    /// Bytes that may be written.
    pub cap: u64,
    /// Bytes that the text has; preset to 0.
    pub len: u64,
}

/// Made by the caller, filled in by who fails.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_error {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// One line: what is wrong.
    pub message: lf_buf,
    /// The JSON pointer of the parameter that is wrong.
    pub path: lf_buf,
    /// One line: what to do about it.
    pub help: lf_buf,
}

impl lf_str {
    /// Borrows a text that lives for ever.
    pub const fn of(text: &'static str) -> Self {
        Self { ptr: text.as_ptr().cast(), len: text.len() as u64 }
    }
}

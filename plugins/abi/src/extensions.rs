//! Structs of functions that are found by name.

use core::ffi::c_void;

use crate::{lf_buf, lf_error, lf_out, lf_state, lf_status, lf_step, lf_str};

/// The name of [`lf_config_v1`].
pub const EXT_CONFIG: &str = "lf.config/1";
/// The name of [`lf_batch_v1`].
pub const EXT_BATCH: &str = "lf.batch/1";

/// A typed getter of [`lf_config_v1`].
type Get<T> = unsafe extern "C" fn(
    ctx: *mut c_void,
    params: lf_str,
    pointer: lf_str,
    out: *mut T,
    err: *mut lf_error,
) -> lf_status;

/// Of the host, stable: typed values out of the parameters, by JSON pointer. An absent value leaves `out` as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_config_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The first argument of the functions.
    pub ctx: *mut c_void,
    /// A number.
    pub get_f64: Option<Get<f64>>,
    /// A whole number.
    pub get_i64: Option<Get<i64>>,
    /// 0 or 1.
    pub get_bool: Option<Get<u32>>,
    /// A text.
    pub get_str: Option<Get<lf_buf>>,
    /// The number of elements of an array or members of an object.
    pub count: Option<Get<u64>>,
    /// Refuses an object that has other members than these.
    pub only_keys: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            params: lf_str,
            pointer: lf_str,
            names: *const lf_str,
            n_names: u64,
            err: *mut lf_error,
        ) -> lf_status,
    >,
}

/// Of the plugin, draft: one call for several states of one strategy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_batch_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Same results as `n` calls of `fuse`, bit for bit.
    pub fuse: Option<
        unsafe extern "C" fn(
            n: u64,
            states: *const *mut lf_state,
            steps: *const *const lf_step,
            outs: *const *mut lf_out,
            statuses: *mut lf_status,
            errs: *const *mut lf_error,
        ) -> lf_status,
    >,
}

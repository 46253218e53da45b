//! The tables: what the host offers, what a plugin offers.

use core::ffi::c_void;

use crate::{lf_buf, lf_error, lf_out, lf_session, lf_status, lf_step, lf_str};

/// A strategy with parsed parameters. Only the plugin knows what it is.
#[repr(C)]
#[derive(Debug)]
pub struct lf_instance {
    private: [u8; 0],
}

/// What varies with one sequence. Only the plugin knows what it is.
#[repr(C)]
#[derive(Debug)]
pub struct lf_state {
    private: [u8; 0],
}

/// What the host offers; valid for the rest of the process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_host_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// The newest minor that the host knows.
    pub abi_minor: u32,
    /// The first argument of the functions.
    pub ctx: *mut c_void,
    /// `[any]` A line for the log.
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: u32, message: lf_str)>,
    /// `[any]` A struct of functions by its name, or null.
    pub get_extension: Option<unsafe extern "C" fn(ctx: *mut c_void, name: lf_str) -> *const c_void>,
}

/// One strategy of a plugin.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_strategy_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// That of the metadata.
    pub id: lf_str,
    /// `[any]` Required. Makes an instance from parameters.
    pub create: Option<
        unsafe extern "C" fn(
            host: *const lf_host_v1,
            params: lf_str,
            out: *mut *mut lf_instance,
            err: *mut lf_error,
        ) -> lf_status,
    >,
    /// `[once]` Required. All states are gone.
    pub destroy: Option<unsafe extern "C" fn(this: *mut lf_instance)>,
    /// `[any]` Required. A fresh state for one sequence.
    pub state_new: Option<
        unsafe extern "C" fn(
            this: *const lf_instance,
            session: *const lf_session,
            out: *mut *mut lf_state,
            err: *mut lf_error,
        ) -> lf_status,
    >,
    /// `[once]` Required.
    pub state_free: Option<unsafe extern "C" fn(this: *mut lf_state)>,
    /// `[state]` Required. Fuses the rows of the next position.
    pub fuse: Option<
        unsafe extern "C" fn(
            this: *mut lf_state,
            step: *const lf_step,
            out: *mut lf_out,
            err: *mut lf_error,
        ) -> lf_status,
    >,
    /// `[state]` These tokens are final. Absent: the strategy has no memory.
    pub commit:
        Option<unsafe extern "C" fn(this: *mut lf_state, tokens: *const u32, n: u64, err: *mut lf_error) -> lf_status>,
    /// `[state]` Undoes the last `n` committed tokens.
    pub rollback: Option<unsafe extern "C" fn(this: *mut lf_state, n: u64, err: *mut lf_error) -> lf_status>,
    /// `[state]` An independent copy.
    pub state_fork:
        Option<unsafe extern "C" fn(this: *const lf_state, out: *mut *mut lf_state, err: *mut lf_error) -> lf_status>,
    /// `[state]` Offers the lead's row alone. Absent: never settled.
    pub settle: Option<
        unsafe extern "C" fn(
            this: *mut lf_state,
            lead: *const lf_step,
            out: *mut lf_out,
            settled: *mut u32,
            err: *mut lf_error,
        ) -> lf_status,
    >,
    /// `[any]` The metadata of this instance. Absent: those of the plugin hold.
    pub describe:
        Option<unsafe extern "C" fn(this: *const lf_instance, json: *mut lf_buf, err: *mut lf_error) -> lf_status>,
}

/// What the entry returns; constant, and valid for the rest of the process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_plugin_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// The oldest minor that the plugin can do with.
    pub abi_minor: u32,
    /// The exported metadata without the NULs at their end.
    pub meta: lf_str,
    /// How many strategies there are.
    pub n_strategies: u64,
    /// In the order of the metadata.
    pub strategies: *const *const lf_strategy_v1,
    /// `[any]` A struct of functions by its name, or null.
    pub get_extension: Option<unsafe extern "C" fn(name: lf_str) -> *const c_void>,
}

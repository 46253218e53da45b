//! Structs of functions that are found by name.

use core::ffi::c_void;

use crate::{lf_buf, lf_error, lf_instance, lf_out, lf_session, lf_state, lf_status, lf_step, lf_str, lf_strategy_v1};

/// The name of [`lf_config_v1`].
pub const EXT_CONFIG: &str = "lf.config/1";
/// The name of [`lf_batch_v1`].
pub const EXT_BATCH: &str = "lf.batch/1";
/// The name of [`lf_prompt_v1`].
pub const EXT_PROMPT: &str = "lf.prompt/1";
/// The name of [`lf_calibration_v1`].
pub const EXT_CALIBRATION: &str = "lf.calibration/1";

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

/// How probable a prompt was under the source of one row. Frozen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_prompt_score {
    /// The sum over the tokens that count, in nats.
    pub log_prob: f64,
    /// How many tokens count.
    pub tokens: u64,
}

/// Of the plugin, stable: what a state is told of the prompt.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_prompt_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// `[state]` Required. The prompt is over; `step` is the first position to generate.
    pub begin: Option<
        unsafe extern "C" fn(
            strategy: *const lf_strategy_v1,
            this: *mut lf_state,
            step: *const lf_step,
            scores: *const lf_prompt_score,
            n_scores: u64,
            err: *mut lf_error,
        ) -> lf_status,
    >,
    /// `[state]` The rows of one position within the prompt, and the token that follows there.
    pub read_prompt: Option<
        unsafe extern "C" fn(
            strategy: *const lf_strategy_v1,
            this: *mut lf_state,
            step: *const lf_step,
            next: u32,
            err: *mut lf_error,
        ) -> lf_status,
    >,
}

/// The row at the end of one calibration prompt under one binding. Frozen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_calibration_row {
    /// Which prompt, from 0.
    pub prompt: u32,
    /// A place in [`lf_session::bindings`].
    pub binding: u32,
    /// [`lf_session::width`] values.
    pub logits: *const f32,
    /// log Σ exp(logits), in nats.
    pub log_normaliser: f64,
}

/// What a calibration call is answered with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_calibration_rows {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// How many prompts there were.
    pub n_prompts: u32,
    /// Prompt by prompt.
    pub rows: *const lf_calibration_row,
    /// How many.
    pub n_rows: u64,
}

/// The sources, for the length of one call of [`lf_calibration_v1::calibrate`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_calibration_source {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The first argument of the function.
    pub ctx: *mut c_void,
    /// Runs the prompts of one binding of the calibration's role.
    pub rows_after: Option<
        unsafe extern "C" fn(
            ctx: *mut c_void,
            binding: u32,
            out: *mut lf_calibration_rows,
            err: *mut lf_error,
        ) -> lf_status,
    >,
}

/// Of the plugin, stable: a strategy that is fitted to its sources.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_calibration_v1 {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// `[any]` Makes a fitted instance.
    pub calibrate: Option<
        unsafe extern "C" fn(
            strategy: *const lf_strategy_v1,
            this: *const lf_instance,
            session: *const lf_session,
            source: *const lf_calibration_source,
            out: *mut *mut lf_instance,
            err: *mut lf_error,
        ) -> lf_status,
    >,
}

//! What the plugin's `get_extension` finds: `lf.prompt/1` and `lf.calibration/1`. All strategies have objects of the same
//! types here, so that no function needs to be told which strategy it is called for.
//!
//! Safety, for all functions: pointers are null or as `logitfuse_plugin.h` says, which the host promises by calling.

#![expect(unsafe_code, reason = "called by a host in C, with pointers")]

use std::ffi::c_void;
use std::ptr;

use logitfuse_core::{CalibrationRows, FusionStep, PromptScore, Result};
use logitfuse_plugin_abi::{
    EXT_CALIBRATION, EXT_PROMPT, LF_OK, lf_calibration_row, lf_calibration_rows, lf_calibration_source,
    lf_calibration_v1, lf_error, lf_instance, lf_prompt_score, lf_prompt_v1, lf_session, lf_state, lf_status, lf_step,
    lf_str, lf_strategy_v1,
};
use smallvec::SmallVec;

use crate::arguments::{array, read, text};
use crate::calls::{rows_of, session_info};
use crate::failure::{ErrorBuffers, Failure};
use crate::handle::Handle;
use crate::objects::{Instance, Sequence};
use crate::table::struct_size;

static PROMPT: lf_prompt_v1 = lf_prompt_v1 {
    struct_size: struct_size::<lf_prompt_v1>(),
    reserved: 0,
    begin: Some(begin),
    read_prompt: Some(read_prompt),
};

static CALIBRATION: lf_calibration_v1 =
    lf_calibration_v1 { struct_size: struct_size::<lf_calibration_v1>(), reserved: 0, calibrate: Some(calibrate) };

pub(crate) unsafe extern "C" fn get(name: lf_str) -> *const c_void {
    // SAFETY: the name is borrowed for this call.
    match unsafe { text("name", name) } {
        Ok(EXT_PROMPT) => (&raw const PROMPT).cast(),
        Ok(EXT_CALIBRATION) => (&raw const CALIBRATION).cast(),
        _ => ptr::null(),
    }
}

unsafe extern "C" fn read_prompt(
    _strategy: *const lf_strategy_v1,
    this: *mut lf_state,
    step: *const lf_step,
    next: u32,
    err: *mut lf_error,
) -> lf_status {
    let body = |Sequence { state, shape }: &mut Sequence| {
        // SAFETY: null or the host's, for this call.
        let (rows, committed) = unsafe { rows_of(&read(step)?, *shape)? };
        Ok(state.read_prompt(&FusionStep::new(&rows, committed), next)?)
    };
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::exclusive(this, err, body) }
}

unsafe extern "C" fn begin(
    _strategy: *const lf_strategy_v1,
    this: *mut lf_state,
    step: *const lf_step,
    scores: *const lf_prompt_score,
    n_scores: u64,
    err: *mut lf_error,
) -> lf_status {
    let body = |Sequence { state, shape }: &mut Sequence| {
        // SAFETY: null or the host's, for this call.
        let (rows, committed) = unsafe { rows_of(&read(step)?, *shape)? };
        if n_scores != 0 && n_scores != shape.rows as u64 {
            return Err(Failure::argument(format!("n_scores: {n_scores}, and the session has {} rows", shape.rows)));
        }
        // SAFETY: as many scores as the host says, for this call.
        let scores = unsafe { array("scores", scores, n_scores)? };
        let score = |score: &lf_prompt_score| PromptScore {
            log_prob: score.log_prob,
            tokens: usize::try_from(score.tokens).unwrap_or(usize::MAX),
        };
        let scores: SmallVec<[PromptScore; 16]> = scores.iter().map(score).collect();
        Ok(state.begin(&FusionStep::new(&rows, committed), &scores)?)
    };
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::exclusive(this, err, body) }
}

unsafe extern "C" fn calibrate(
    _strategy: *const lf_strategy_v1,
    this: *const lf_instance,
    session: *const lf_session,
    source: *const lf_calibration_source,
    out: *mut *mut lf_instance,
    err: *mut lf_error,
) -> lf_status {
    let body = |instance: &Instance| {
        // SAFETY: session and source are null or the host's, for this call.
        let (session, source) = unsafe { (session_info(session)?, read(source)?) };
        let width = session.vocabulary.width();
        let bindings = session.bindings.len();
        // SAFETY: the source's own function and context, within the call that they were lent to.
        let mut rows_after = |binding: usize| unsafe { rows_after(&source, binding, bindings, width) };
        let strategy = instance.strategy.calibrated(&session, &mut rows_after)?;
        // SAFETY: `out` is null or the host's pointer to a pointer.
        unsafe { Handle::hand_out(out, Instance { strategy }) }
    };
    // SAFETY: null or from `create` or `calibrate`, and not destroyed; `err` is the host's, or null.
    unsafe { Handle::shared(this, err, body) }
}

/// Asks the host for the rows after one binding's prompts, and copies them.
///
/// # Safety
/// `source` was lent to the call of `calibrate` that is under way.
unsafe fn rows_after(
    source: &lf_calibration_source,
    binding: usize,
    bindings: usize,
    width: usize,
) -> Result<CalibrationRows> {
    let ask =
        source.rows_after.ok_or_else(|| Failure::argument("lf_calibration_source.rows_after: null").into_error())?;
    let mut answer = lf_calibration_rows {
        struct_size: struct_size::<lf_calibration_rows>(),
        n_prompts: 0,
        rows: ptr::null(),
        n_rows: 0,
    };
    let mut buffers = ErrorBuffers::new();
    let mut err = buffers.lend();
    let wanted = u32::try_from(binding).unwrap_or(u32::MAX);
    // SAFETY: the host's function with its own context, in the call that it was lent to; answer and error live here.
    let status = unsafe { ask(source.ctx, wanted, &raw mut answer, &raw mut err) };
    if status != LF_OK {
        return Err(buffers.read(&err, status));
    }
    let wrong = |what: &str| Failure::argument(format!("lf_calibration_rows: {what}")).into_error();
    // SAFETY: as many rows as the host says, valid until the next call.
    let rows = unsafe { array::<lf_calibration_row>("lf_calibration_rows.rows", answer.rows, answer.n_rows) };
    let rows = rows.map_err(Failure::into_error)?;
    if u64::from(answer.n_prompts) > answer.n_rows.max(1 << 16) {
        return Err(wrong("more prompts than rows"));
    }
    let mut copied = CalibrationRows::new(answer.n_prompts as usize);
    for row in rows {
        let (prompt, binding) = (row.prompt as usize, row.binding as usize);
        if prompt >= copied.prompts() || binding >= bindings {
            return Err(wrong("a row of a prompt or binding that does not exist"));
        }
        // SAFETY: `width` logits by the header, valid until the next call.
        let logits = unsafe { array::<f32>("lf_calibration_row.logits", row.logits, width as u64) };
        copied.push(prompt, binding, logits.map_err(Failure::into_error)?);
    }
    Ok(copied)
}

//! The functions of the table.
//!
//! Each one checks its pointers, calls the strategy under the guard, and reports. Safety, for all of them: pointers are
//! null or as `logitfuse_plugin.h` says, which the host promises by calling.

#![expect(unsafe_code, reason = "called by a host in C, with pointers")]

use std::sync::Arc;

use logitfuse_core::{
    FusedRow, FusionStep, FusionStrategy, Result, RoleBinding, RoleRow, SessionInfo, SharedVocabulary,
};
use logitfuse_plugin_abi::{
    lf_binding, lf_buf, lf_error, lf_host_v1, lf_instance, lf_out, lf_row, lf_session, lf_state, lf_status, lf_step,
    lf_str,
};
use serde_json::Value;
use smallvec::SmallVec;

use crate::arguments::{array, array_mut, read, text};
use crate::failure::{Failure, write};
use crate::handle::Handle;
use crate::objects::{Instance, Sequence, Shape};
use crate::{guard, metadata};

/// How a strategy is made; `export!` implements it.
pub trait Make {
    /// What is made.
    type Strategy: FusionStrategy + 'static;

    /// Makes it from parameters.
    fn make(params: &Value) -> Result<Self::Strategy>;
}

/// Rows of a step; more than this many allocate.
pub(crate) type Rows<'a> = SmallVec<[RoleRow<'a>; 16]>;

pub(crate) unsafe extern "C" fn create<M: Make>(
    _host: *const lf_host_v1,
    params: lf_str,
    out: *mut *mut lf_instance,
    err: *mut lf_error,
) -> lf_status {
    let body = || {
        // SAFETY: the text is borrowed for this call.
        let params = unsafe { text("params", params)? };
        let params = serde_json::from_str(params).map_err(|e| Failure::argument(format!("params: {e}")))?;
        let strategy = Arc::new(M::make(&params)?);
        // SAFETY: `out` is null or the host's pointer to a pointer.
        unsafe { Handle::hand_out(out, Instance { strategy }) }
    };
    // SAFETY: `err` is the host's, or null.
    unsafe { guard::call(err, body).0 }
}

pub(crate) unsafe extern "C" fn destroy(this: *mut lf_instance) {
    // SAFETY: null or from `create`; no call on it or its states is under way or follows.
    unsafe { Handle::<Instance>::take_back(this) };
}

pub(crate) unsafe extern "C" fn state_new(
    this: *const lf_instance,
    session: *const lf_session,
    out: *mut *mut lf_state,
    err: *mut lf_error,
) -> lf_status {
    let body = |instance: &Instance| {
        // SAFETY: null or the host's, for this call.
        let sequence = instance.start(&unsafe { session_info(session)? })?;
        // SAFETY: `out` is null or the host's pointer to a pointer.
        unsafe { Handle::hand_out(out, sequence) }
    };
    // SAFETY: null or from `create`, and not destroyed; `err` is the host's, or null.
    unsafe { Handle::shared(this, err, body) }
}

pub(crate) unsafe extern "C" fn state_free(this: *mut lf_state) {
    // SAFETY: null or from `state_new` or `state_fork`; no call on it is under way or follows.
    unsafe { Handle::<Sequence>::take_back(this) };
}

pub(crate) unsafe extern "C" fn fuse(
    this: *mut lf_state,
    step: *const lf_step,
    out: *mut lf_out,
    err: *mut lf_error,
) -> lf_status {
    let body = |Sequence { state, shape }: &mut Sequence| {
        // SAFETY: step and out are null or the host's, for this call.
        let (rows, committed, mut out) = unsafe { position(step, out, *shape)? };
        Ok(state.fuse(&FusionStep::new(&rows, committed), &mut out)?)
    };
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::exclusive(this, err, body) }
}

pub(crate) unsafe extern "C" fn settle(
    this: *mut lf_state,
    lead: *const lf_step,
    out: *mut lf_out,
    settled: *mut u32,
    err: *mut lf_error,
) -> lf_status {
    let body = |Sequence { state, shape }: &mut Sequence| {
        // SAFETY: lead and out are null or the host's, for this call.
        let (rows, committed, mut out) = unsafe { position(lead, out, Shape { rows: 1, ..*shape })? };
        // SAFETY: null or the host's, for this call.
        let settled = unsafe { array_mut("settled", settled, 1)? };
        settled[0] = u32::from(state.early_exit(&rows[0], committed, &mut out)?);
        Ok(())
    };
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::exclusive(this, err, body) }
}

pub(crate) unsafe extern "C" fn commit(
    this: *mut lf_state,
    tokens: *const u32,
    n: u64,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: `n` tokens of the host's, for this call.
    let body = |sequence: &mut Sequence| Ok(sequence.state.commit(unsafe { array("tokens", tokens, n)? })?);
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::exclusive(this, err, body) }
}

pub(crate) unsafe extern "C" fn rollback(this: *mut lf_state, n: u64, err: *mut lf_error) -> lf_status {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::exclusive(this, err, |sequence: &mut Sequence| Ok(sequence.state.rollback(n)?)) }
}

pub(crate) unsafe extern "C" fn state_fork(
    this: *const lf_state,
    out: *mut *mut lf_state,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: `out` is null or the host's pointer to a pointer.
    let body = |sequence: &Sequence| unsafe { Handle::hand_out(out, sequence.fork()?) };
    // SAFETY: null or a state that is not freed, with no other call under way; `err` is the host's, or null.
    unsafe { Handle::shared(this, err, body) }
}

pub(crate) unsafe extern "C" fn describe(this: *const lf_instance, json: *mut lf_buf, err: *mut lf_error) -> lf_status {
    let body = |instance: &Instance| {
        if json.is_null() || !json.is_aligned() {
            return Err(Failure::argument("json: null or misaligned"));
        }
        let text = metadata::describe(instance.strategy.info())?.to_string();
        // SAFETY: checked above; the host's buffer, for this call.
        unsafe { write(json, &text) };
        Ok(())
    };
    // SAFETY: null or from `create`, and not destroyed; `err` is the host's, or null.
    unsafe { Handle::shared(this, err, body) }
}

/// A session, as core wants it.
///
/// # Safety
/// `session` is null or as the header says.
pub(crate) unsafe fn session_info(session: *const lf_session) -> Result<SessionInfo, Failure> {
    // SAFETY: the caller vouches for the session.
    let session = unsafe { read(session)? };
    // SAFETY: as many bindings and ids as the session says, for this call.
    let (bindings, masked) = unsafe {
        (
            array::<lf_binding>("lf_session.bindings", session.bindings, session.n_rows.into())?,
            array::<u32>("lf_session.masked", session.masked, session.n_masked)?,
        )
    };
    let bindings = bindings.iter().map(|binding| {
        // SAFETY: texts of the session, for this call.
        let (role, source) = unsafe { (text("role", binding.role)?, text("source", binding.source)?) };
        Ok(RoleBinding { role: role.to_owned(), source: source.to_owned() })
    });
    let bindings = bindings.collect::<Result<Vec<_>, Failure>>()?;
    // Token ids are u32.
    let wrong = || Failure::argument(format!("lf_session.width: {} is not the length of a row", session.width));
    let width = u32::try_from(session.width).ok().filter(|&width| width > 0).ok_or_else(wrong)? as usize;
    let vocabulary = SharedVocabulary::new(width, masked.iter().copied());
    if vocabulary.width() != width {
        return Err(Failure::argument("lf_session.masked: holds the last id; rows end at an id that exists"));
    }
    Ok(SessionInfo::new(bindings, vocabulary))
}

fn agrees(what: &str, is: u64, should: usize) -> Result<(), Failure> {
    let wrong = || Failure::argument(format!("{what}: {is}, and the session says {should}"));
    if is == should as u64 { Ok(()) } else { Err(wrong()) }
}

/// The rows of a step and its committed tokens, as core wants them.
///
/// # Safety
/// What the step points to is as the header says, for `'a`.
pub(crate) unsafe fn rows_of<'a>(step: &lf_step, shape: Shape) -> Result<(Rows<'a>, &'a [u32]), Failure> {
    agrees("lf_step.n_rows", step.n_rows.into(), shape.rows)?;
    agrees("lf_step.width", step.width, shape.width)?;
    // SAFETY: as many rows and tokens as the step says, for `'a`.
    let (rows, committed) = unsafe {
        (
            array::<lf_row>("lf_step.rows", step.rows, step.n_rows.into())?,
            array::<u32>("lf_step.committed", step.committed, step.n_committed)?,
        )
    };
    let rows = rows.iter().map(|row| {
        // SAFETY: `width` logits, for `'a`, which the caller vouches for and which are not written.
        let logits = unsafe { array("lf_row.logits", row.logits, step.width)? };
        Ok(RoleRow::new(logits, row.log_normaliser, row.sequence_log_prob))
    });
    Ok((rows.collect::<Result<Rows<'a>, Failure>>()?, committed))
}

/// A step and where its answer goes, as core wants them.
///
/// # Safety
/// Both are null or as the header says, for `'a`.
unsafe fn position<'a>(
    step: *const lf_step,
    out: *mut lf_out,
    shape: Shape,
) -> Result<(Rows<'a>, &'a [u32], FusedRow<'a>), Failure> {
    // SAFETY: the caller vouches for both.
    let (step, out) = unsafe { (read(step)?, read(out.cast_const())?) };
    agrees("lf_out.width", out.width, shape.width)?;
    if out.n_trace != 0 {
        agrees("lf_out.n_trace", out.n_trace.into(), shape.columns)?;
    }
    // SAFETY: as many rows and tokens as the step says, for `'a`.
    let (rows, committed) = unsafe { rows_of(&step, shape)? };
    let bytes = size_of_val(rows.first().map_or(&[][..], RoleRow::logits)) as u64;
    if rows.iter().any(|row| (row.logits().as_ptr().addr().abs_diff(out.logits.addr()) as u64) < bytes) {
        return Err(Failure::argument("lf_out.logits: overlaps a row"));
    }
    // SAFETY: `width` logits and `n_trace` columns, for `'a`, accessed through these slices only.
    let fused = unsafe {
        FusedRow {
            logits: array_mut("lf_out.logits", out.logits, out.width)?,
            trace: array_mut("lf_out.trace", out.trace, out.n_trace.into())?,
        }
    };
    Ok((rows, committed, fused))
}

//! A strategy fitted to its sources by the plugin: `lf.calibration/1`.

#![expect(unsafe_code, reason = "calls a function of a plugin, and is called back with pointers of ours")]

use std::{
    any::Any,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
};

use logitfuse_core::{CalibrationRows, Error, ErrorKind, Result};
use logitfuse_plugin_abi::{
    LF_E_ARGUMENT, LF_E_INTERNAL, LF_OK, has, lf_calibration_row, lf_calibration_rows, lf_calibration_source, lf_error,
    lf_instance, lf_status,
};

use crate::{
    FpControl,
    ffi::{self, ErrorBuffers, size_u32},
    strategy::{Session, Shared},
};

/// A function that runs the calibration prompts of one binding.
pub(crate) type RowsAfter<'a> = &'a mut dyn FnMut(usize) -> Result<CalibrationRows>;

/// What `rows_after` is given as its `ctx`.
struct Context<'a> {
    rows_after: RowsAfter<'a>,
    bindings: usize,
    width: usize,
    /// The floating-point control bits that models run under.
    control: FpControl,
    /// Whether the plugin had changed them when it called back.
    changed: bool,
    /// The last answer, which the plugin may read until the next one: what it points to, and the list of pointers.
    answer: (CalibrationRows, Vec<lf_calibration_row>),
    /// The first failure, which is the reason whatever the plugin says of it.
    failure: Option<Error>,
    /// A panic of `rows_after`, which must not unwind through the plugin.
    panic: Option<Box<dyn Any + Send>>,
}

/// Calls `calibrate`; the fitted instance as the plugin returns it, and whether it changed the floating-point control bits.
pub(crate) fn calibrate(
    shared: &Shared,
    session: &Session,
    rows_after: RowsAfter<'_>,
) -> Result<(*mut lf_instance, bool)> {
    let call = "calibrate";
    let function = shared
        .extensions
        .calibration
        .calibrate
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a plugin without calibrate is calibrated"))?;
    let mut context = Context {
        rows_after,
        bindings: session.bindings(),
        width: session.width,
        control: FpControl::now(),
        changed: false,
        answer: (CalibrationRows::new(0), Vec::new()),
        failure: None,
        panic: None,
    };
    let mut buffers = ErrorBuffers::new();
    let mut instance: *mut lf_instance = ptr::null_mut();
    let (status, changed, err) = session.with_c(|session| {
        let source = lf_calibration_source {
            struct_size: size_u32::<lf_calibration_source>(),
            reserved: 0,
            ctx: ptr::from_mut(&mut context).cast(),
            rows_after: Some(answer),
        };
        let mut err = buffers.lend();
        let (status, changed) = FpControl::guard(|| {
            // SAFETY: a function of the plugin that made this instance; session and source, with the context behind it, live
            // for the call, and nothing else uses the context meanwhile.
            unsafe {
                function(
                    shared.original,
                    shared.instance.as_ptr(),
                    session,
                    &raw const source,
                    &raw mut instance,
                    &raw mut err,
                )
            }
        });
        (status, changed, err)
    });
    if let Some(panic) = context.panic {
        resume_unwind(panic);
    }
    if let Some(failure) = context.failure {
        return Err(failure);
    }
    if status != LF_OK {
        let error = buffers.read(&err, status, call).into_error();
        return Err(if status == logitfuse_plugin_abi::LF_E_PANIC { shared.in_call(error, call) } else { error });
    }
    Ok((instance, changed || context.changed))
}

unsafe extern "C" fn answer(
    ctx: *mut c_void,
    binding: u32,
    out: *mut lf_calibration_rows,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: `calibrate` made `ctx` of a context that lives as long as the call that the plugin is in, and by the ABI the
    // plugin calls on that thread, so that nothing else uses it.
    let Some(context) = (unsafe { ctx.cast::<Context<'_>>().as_mut() }) else { return LF_E_ARGUMENT };
    if out.is_null() || !out.is_aligned() {
        // SAFETY: by the ABI `err` is null or an error of the plugin.
        return unsafe { ffi::fail(err, LF_E_ARGUMENT, "", "rows_after was given no place to write to") };
    }
    // SAFETY: not null and aligned, and `struct_size` is the first member.
    let size = unsafe { (&raw const (*out).struct_size).read() };
    let wrong = if !has!(size, lf_calibration_rows, n_rows) {
        Some("rows_after: struct_size of lf_calibration_rows is too small")
    } else if binding as usize >= context.bindings {
        Some("rows_after: there is no such binding")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        // SAFETY: as above.
        return unsafe { ffi::fail(err, LF_E_ARGUMENT, "", wrong) };
    }
    // Models must not run under what the plugin has changed so far.
    context.changed |= context.control.restore_if_changed();
    match catch_unwind(AssertUnwindSafe(|| context.run(binding as usize))) {
        Ok(Ok(())) => {
            let (rows, list) = &context.answer;
            // SAFETY: not null, aligned, and the plugin says that the struct reaches to the end of `n_rows`.
            unsafe {
                (*out).n_prompts = u32::try_from(rows.prompts()).unwrap_or(u32::MAX);
                (*out).rows = list.as_ptr();
                (*out).n_rows = list.len() as u64;
            }
            LF_OK
        }
        Ok(Err(e)) => {
            // SAFETY: as above.
            let status = unsafe { ffi::fail(err, ffi::status_of(e.kind()), "", &e.to_string()) };
            context.failure.get_or_insert(e);
            status
        }
        Err(panic) => {
            context.panic.get_or_insert(panic);
            LF_E_INTERNAL
        }
    }
}

impl Context<'_> {
    /// Runs the prompts of a binding, and keeps what they gave.
    fn run(&mut self, binding: usize) -> Result<()> {
        let rows = (self.rows_after)(binding)?;
        let mut list = Vec::new();
        for prompt in 0..rows.prompts() {
            for binding in 0..self.bindings {
                let Some(row) = rows.row(prompt, binding) else { continue };
                if row.logits().len() != self.width {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        "a calibration row of another width than the session's",
                    ));
                }
                list.push(lf_calibration_row {
                    prompt: u32::try_from(prompt).unwrap_or(u32::MAX),
                    binding: u32::try_from(binding).unwrap_or(u32::MAX),
                    logits: row.logits().as_ptr(),
                    log_normaliser: row.log_normaliser,
                });
            }
        }
        // Moving the rows does not move the logits, which the list points to.
        self.answer = (rows, list);
        Ok(())
    }
}

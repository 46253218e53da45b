//! Sizes and offsets of every struct, as text: what the golden file `layout/v1.txt` is compared with.

use core::fmt::{self, Write};
use core::mem::{align_of, size_of};

use crate::{
    lf_batch_v1, lf_binding, lf_buf, lf_calibration_row, lf_calibration_rows, lf_calibration_source, lf_calibration_v1,
    lf_config_v1, lf_error, lf_host_v1, lf_out, lf_plugin_v1, lf_prompt_score, lf_prompt_v1, lf_row, lf_session,
    lf_step, lf_str, lf_strategy_v1,
};

/// The size of what a closure that picks a member returns.
#[doc(hidden)]
pub const fn size_of_member<S, T>(_pick: fn(&S) -> &T) -> usize {
    size_of::<T>()
}

/// Writes a line for every struct and every member, as this compiler lays them out.
///
/// # Errors
/// Only those of `out`.
///
/// ```
/// let mut text = String::new();
/// logitfuse_plugin_abi::layout::write(&mut text)?;
/// assert!(text.contains("lf_row size 24 align 8\nlf_row.logits offset 0 size 8\n"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
pub fn write(out: &mut dyn Write) -> fmt::Result {
    macro_rules! structs {
        ($($struct:ident { $($member:ident),* })*) => {$(
            let name = stringify!($struct);
            writeln!(out, "{name} size {} align {}", size_of::<$struct>(), align_of::<$struct>())?;
            $(
                let (offset, end) = (core::mem::offset_of!($struct, $member), crate::end_of!($struct, $member));
                writeln!(out, "{name}.{} offset {offset} size {}", stringify!($member), end - offset)?;
            )*
        )*};
    }
    structs! {
        lf_str { ptr, len }
        lf_buf { ptr, cap, len }
        lf_error { struct_size, reserved, message, path, help }
        lf_host_v1 { struct_size, abi_minor, ctx, log, get_extension }
        lf_binding { role, source }
        lf_session { struct_size, n_rows, bindings, width, masked, n_masked }
        lf_row { logits, log_normaliser, sequence_log_prob }
        lf_step { struct_size, n_rows, rows, width, committed, n_committed }
        lf_out { struct_size, n_trace, logits, width, trace }
        lf_strategy_v1 {
            struct_size, reserved, id, create, destroy, state_new, state_free, fuse, commit, rollback, state_fork, settle,
            describe
        }
        lf_plugin_v1 { struct_size, abi_minor, meta, n_strategies, strategies, get_extension }
        lf_config_v1 { struct_size, reserved, ctx, get_f64, get_i64, get_bool, get_str, count, only_keys }
        lf_batch_v1 { struct_size, reserved, fuse }
        lf_prompt_score { log_prob, tokens }
        lf_prompt_v1 { struct_size, reserved, begin, read_prompt }
        lf_calibration_row { prompt, binding, logits, log_normaliser }
        lf_calibration_rows { struct_size, n_prompts, rows, n_rows }
        lf_calibration_source { struct_size, reserved, ctx, rows_after }
        lf_calibration_v1 { struct_size, reserved, calibrate }
    }
    Ok(())
}

//! The rows of a role, and the divergences of the result from the base.

use logitfuse_core::{
    Error, ErrorKind, Result, RoleRow, SessionInfo,
    numerics::{kl_both, log_sum_exp},
};

/// The one row of a role; `help` names the roles of the strategy.
pub(crate) fn one(session: &SessionInfo, role: &str, help: &str) -> Result<usize> {
    match session.rows_of(role).collect::<Vec<usize>>()[..] {
        [row] => Ok(row),
        ref rows => {
            let what = format!("{role}: one source takes this role, not {}", rows.len());
            Err(Error::new(ErrorKind::Incompatible, what).with_help(help))
        }
    }
}

/// The rows of a role that several may take.
pub(crate) fn some(session: &SessionInfo, role: &str, help: &str) -> Result<Vec<usize>> {
    let rows: Vec<usize> = session.rows_of(role).collect();
    if rows.is_empty() {
        return Err(Error::new(ErrorKind::Incompatible, format!("{role}: no source takes this role")).with_help(help));
    }
    Ok(rows)
}

/// The fused row's log-normaliser, KL(fused‖base) and KL(base‖fused).
pub(crate) fn distances(fused: &[f32], base: &RoleRow<'_>) -> (f64, [f64; 2]) {
    let normaliser = log_sum_exp(fused);
    let (fused_base, base_fused) = kl_both(fused, normaliser, base.logits(), base.log_normaliser);
    (normaliser, [fused_base, base_fused])
}

/// Writes the columns of a trace.
pub(crate) fn write_trace(trace: &mut [f64], values: impl IntoIterator<Item = f64>) {
    for (column, value) in trace.iter_mut().zip(values) {
        *column = value;
    }
}

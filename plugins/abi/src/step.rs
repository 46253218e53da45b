//! What is known of a run and of a position.

use crate::lf_str;

/// One row of every step: which role it plays and which source yields it. Frozen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_binding {
    /// A name of the metadata's roles.
    pub role: lf_str,
    /// The source's name.
    pub source: lf_str,
}

/// What is known before the first step and stays so for a whole run.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_session {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// Rows of every step.
    pub n_rows: u32,
    /// One per row, grouped by role, in the order of the metadata's roles.
    pub bindings: *const lf_binding,
    /// The length of every row.
    pub width: u64,
    /// Ids below `width` that are `-inf` in every row, ascending; may be null if there is none.
    pub masked: *const u32,
    /// How many.
    pub n_masked: u64,
}

/// What one source says of the next token. Frozen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_row {
    /// [`lf_step::width`] values.
    pub logits: *const f32,
    /// log Σ exp(logits), in nats.
    pub log_normaliser: f64,
    /// Log-probability in nats of the committed tokens under this source.
    pub sequence_log_prob: f64,
}

/// One position.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_step {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// How many rows there are.
    pub n_rows: u32,
    /// In the order of [`lf_session::bindings`].
    pub rows: *const lf_row,
    /// That of the session.
    pub width: u64,
    /// Tokens generated so far; may be null if there is none.
    pub committed: *const u32,
    /// How many.
    pub n_committed: u64,
}

/// Where the answer goes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lf_out {
    /// What its maker's `sizeof` is.
    pub struct_size: u32,
    /// The number of trace columns, or 0 if they were not requested.
    pub n_trace: u32,
    /// `width` values, all to be written; they overlap no row.
    pub logits: *mut f32,
    /// That of the step.
    pub width: u64,
    /// `n_trace` values, preset to NaN; may be null if there is none.
    pub trace: *mut f64,
}

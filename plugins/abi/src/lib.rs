//! The C interface between logitfuse and a fusion strategy in a shared library: `logitfuse_plugin.h` and its mirror
//! in Rust.
//!
//! # Why a C header
//!
//! A strategy should be writable in Rust, C, C++, Zig or anything else that can export two symbols, and should keep working
//! when either side is rebuilt with another compiler. So the interface is a flat table of C functions, and the header, in
//! `include/` and here as [`HEADER`], **is the specification**: who owns what, which thread may call what, what may grow.
//! The types of this crate repeat its declarations name by name, without their comments; a golden file (`layout/v1.txt`)
//! is compared with both, so neither can drift.
//!
//! Authors in Rust want `logitfuse-plugin`, which turns the ordinary core traits into this table and has the `unsafe` code
//! that this needs. Authors in other languages want the header. Hosts want `logitfuse-plugin-host`.
//!
//! # Example
//!
//! Structs grow at their end, so a reader asks whether a member is there before it touches it:
//!
//! ```
//! use logitfuse_plugin_abi::{end_of, has, lf_strategy_v1};
//!
//! // A plugin of an earlier day, whose table ends behind `fuse`.
//! let struct_size = end_of!(lf_strategy_v1, fuse) as u32;
//! assert!(has!(struct_size, lf_strategy_v1, fuse));
//! assert!(!has!(struct_size, lf_strategy_v1, rollback));
//! ```
//!
//! # Where ABI 1.0 differs from its first draft, and why
//!
//! | draft | now | because |
//! |---|---|---|
//! | `create(params, session)` | `create(params)`, `state_new(session)` | parameters are checked, and roles known, before sources are wired to them: core's `FusionStrategy` exists before its session |
//! | rows are bare logits | [`lf_row`] carries the log-normaliser and the sequence's log-probability, both f64 | the engine has computed them already; a strategy that recomputed them could neither be as fast as a built-in one nor equal it to the bit |
//! | roles, laws and equation in the metadata only | also [`describe`](lf_strategy_v1::describe) | they may depend on parameters: in-context fusion has two roles or three, by mode |
//! | – | [`settle`](lf_strategy_v1::settle) | core's `FusionState::early_exit`: a step that one row decides spares the other models |
//! | `n_diag` is what the metadata say | `n_trace` may be 0 | columns cost passes over the vocabulary, which are spared where no trace was requested |
//! | vocabulary as a number | also the ids [`masked`](lf_session::masked) below it | rows arrive masked, but a strategy that renormalises over ids or builds tables of them needs to know which exist |
//! | `dtype`, `f16-input` | f32 only | a source widens its logits once for all readers; an extension can offer f16 later without burdening every plugin now |
//! | scratch memory lent by the host | none | its size depends on the session, and a state that owns its scratch is simpler and as fast |
//! | `cancel` | none | a step takes microseconds to milliseconds; a plain flag that another thread writes is a data race in C |
//! | `state_reset` | none | `state_free` and `state_new` say the same |
//! | message and path | also `help` | every error of logitfuse has a line that says what to do |
//! | eight statuses | ten | `LF_E_INCOMPATIBLE` and `LF_E_IO` are kinds that users meet and act on |
//! | – | `lf.prompt/1`, `lf.calibration/1` | what built-in strategies are told of prompts; extensions, because the tables of plugins that are built stay as they are |
//! | – | `lf.config/1`: an absent key is `LF_OK` and leaves the default; `only_keys` | the common case is one line of C, and a misspelt key is an error |
//!
//! # Reference
//!
//! * Tables: [`lf_plugin_v1`], [`lf_strategy_v1`], [`lf_host_v1`]. Arguments: [`lf_session`], [`lf_step`], [`lf_row`],
//!   [`lf_out`], [`lf_error`]. Extensions: [`lf_config_v1`], [`lf_prompt_v1`],
//!   [`lf_calibration_v1`], [`lf_batch_v1`].
//! * Symbols: [`ENTRY_SYMBOL`], [`META_SYMBOL`], [`META_SECTION`]; what a blob of metadata begins with: [`META_MAGIC`].
//! * [`has!`] and [`end_of!`] for prefixes, [`layout`] for tests.
//!
//! Pointers are `Option<unsafe extern "C" fn …>`: whatever a library put into its table, reading it is defined.

#![no_std]
#![deny(missing_docs)]
#![expect(non_camel_case_types, reason = "the names are those of the header")]

mod extensions;
pub mod layout;
mod plugin;
mod step;
mod text;

pub use extensions::{
    EXT_BATCH, EXT_CALIBRATION, EXT_CONFIG, EXT_PROMPT, lf_batch_v1, lf_calibration_row, lf_calibration_rows,
    lf_calibration_source, lf_calibration_v1, lf_config_v1, lf_prompt_score, lf_prompt_v1,
};
pub use plugin::{lf_host_v1, lf_instance, lf_plugin_v1, lf_state, lf_strategy_v1};
pub use step::{lf_binding, lf_out, lf_row, lf_session, lf_step};
pub use text::{lf_buf, lf_error, lf_str};

/// The text of `logitfuse_plugin.h`: the specification.
pub const HEADER: &str = include_str!("../include/logitfuse_plugin.h");

/// The major version, which is part of the entry's name.
pub const ABI_MAJOR: u32 = 1;
/// The newest minor version that this crate describes.
pub const ABI_MINOR: u32 = 0;

/// The function that a plugin exports; its type is [`lf_plugin_entry`].
pub const ENTRY_SYMBOL: &str = "lf_plugin_entry_v1";
/// The metadata that a plugin exports.
pub const META_SYMBOL: &str = "LF_PLUGIN_META";
/// The section of an ELF or PE file that holds the metadata; in Mach-O `__DATA,__lfmeta`.
pub const META_SECTION: &str = ".lfmeta";
/// What the metadata begin with.
pub const META_MAGIC: &[u8; 8] = b"LFMETA01";

/// The type of `lf_plugin_entry_v1`.
pub type lf_plugin_entry = unsafe extern "C" fn(host: *const lf_host_v1, err: *mut lf_error) -> *const lf_plugin_v1;

/// What a call returns.
pub type lf_status = i32;

/// Done.
pub const LF_OK: lf_status = 0;
/// The call breaks the specification.
pub const LF_E_ARGUMENT: lf_status = 1;
/// A parameter is wrong.
pub const LF_E_CONFIG: lf_status = 2;
/// Parameters and session do not fit together.
pub const LF_E_INCOMPATIBLE: lf_status = 3;
/// Valid, and not possible here.
pub const LF_E_UNSUPPORTED: lf_status = 4;
/// A verb came at the wrong time.
pub const LF_E_STATE: lf_status = 5;
/// No row can be computed from these rows.
pub const LF_E_NUMERIC: lf_status = 6;
/// The call was cancelled.
pub const LF_E_CANCELLED: lf_status = 7;
/// A file, a device or another library failed.
pub const LF_E_IO: lf_status = 8;
/// A bug of the plugin.
pub const LF_E_INTERNAL: lf_status = 9;
/// The plugin caught a panic of its own: the object is poisoned.
pub const LF_E_PANIC: lf_status = 10;

/// Level of a log message: something failed.
pub const LF_LOG_ERROR: u32 = 1;
/// Level of a log message: something looks wrong.
pub const LF_LOG_WARN: u32 = 2;
/// Level of a log message: something a user may want to know.
pub const LF_LOG_INFO: u32 = 3;
/// Level of a log message: something a developer may want to know.
pub const LF_LOG_DEBUG: u32 = 4;
/// Level of a log message: every detail.
pub const LF_LOG_TRACE: u32 = 5;

/// One past the last byte of a member, from the start of its struct.
#[macro_export]
macro_rules! end_of {
    ($struct:ty, $member:ident) => {
        ::core::mem::offset_of!($struct, $member) + $crate::layout::size_of_member(|s: &$struct| &s.$member)
    };
}

/// Whether a struct that says `struct_size` of itself has this member: a struct of an earlier minor ends before it.
#[macro_export]
macro_rules! has {
    ($struct_size:expr, $struct:ty, $member:ident) => {
        ($struct_size as usize) >= $crate::end_of!($struct, $member)
    };
}

//! The tables that a host reads.

#![expect(unsafe_code, reason = "tables of pointers, entered by a host in C")]

use std::ffi::c_char;
use std::ptr;
use std::sync::OnceLock;

use logitfuse_plugin_abi::{lf_error, lf_host_v1, lf_plugin_v1, lf_str, lf_strategy_v1};

use crate::arguments;
use crate::calls::{self, Make};
use crate::failure::Failure;
use crate::{extensions, guard, log_bridge, metadata};

/// A plugin: its metadata and its strategies; what [`export!`](crate::export) makes.
#[doc(hidden)]
pub struct Plugin {
    meta: &'static [u8],
    strategies: &'static [lf_strategy_v1],
    table: OnceLock<Result<Table, String>>,
}

struct Table(&'static lf_plugin_v1);

// SAFETY: the pointers in it are to constants and functions of this library, which every thread may read and call.
unsafe impl Sync for Plugin {}
// SAFETY: as above; the table is never written again.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

/// The table of strategies that `M` makes, but for their id, which only the metadata know.
#[doc(hidden)]
pub const fn strategy<M: Make>() -> lf_strategy_v1 {
    lf_strategy_v1 {
        struct_size: struct_size::<lf_strategy_v1>(),
        reserved: 0,
        id: lf_str::of(""),
        create: Some(calls::create::<M>),
        destroy: Some(calls::destroy),
        state_new: Some(calls::state_new),
        state_free: Some(calls::state_free),
        fuse: Some(calls::fuse),
        commit: Some(calls::commit),
        rollback: Some(calls::rollback),
        state_fork: Some(calls::state_fork),
        settle: Some(calls::settle),
        describe: Some(calls::describe),
    }
}

impl Plugin {
    /// A plugin of these strategies, in the order of the metadata.
    pub const fn new(meta: &'static [u8], strategies: &'static [lf_strategy_v1]) -> Self {
        Self { meta, strategies, table: OnceLock::new() }
    }

    /// What `lf_plugin_entry_v1` does.
    ///
    /// # Safety
    /// `host` is null or points to an `lf_host_v1` that stays valid for the rest of the process; `err` is null or an
    /// `lf_error` with buffers, as `logitfuse_plugin.h` says.
    pub unsafe fn enter(&'static self, host: *const lf_host_v1, err: *mut lf_error) -> *const lf_plugin_v1 {
        let mut table = ptr::null();
        let body = || {
            // SAFETY: the caller vouches for `host`.
            unsafe {
                arguments::read(host)?;
                log_bridge::connect(host);
            }
            match self.table.get_or_init(|| self.build()) {
                Ok(Table(built)) => table = ptr::from_ref(*built),
                Err(why) => return Err(Failure::from(internal(why))),
            }
            Ok(())
        };
        // SAFETY: the caller vouches for `err`.
        unsafe { guard::call(err, body) };
        table
    }

    fn build(&self) -> Result<Table, String> {
        let end = self.meta.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let meta = &self.meta[..end];
        let ids = metadata::ids(meta).map_err(|e| e.to_string())?;
        if ids.len() != self.strategies.len() {
            let (said, made) = (ids.len(), self.strategies.len());
            return Err(format!("metadata: {said} strategies, and export! has {made}"));
        }
        // Leaked, as the library is never unloaded.
        let strategies = self.strategies.iter().zip(ids).map(|(template, id)| {
            let table = lf_strategy_v1 { id: lf_str::of(String::leak(id)), ..*template };
            ptr::from_ref(&*Box::leak(Box::new(table)))
        });
        let strategies: &[_] = Vec::leak(strategies.collect());
        Ok(Table(Box::leak(Box::new(lf_plugin_v1 {
            struct_size: struct_size::<lf_plugin_v1>(),
            abi_minor: 0,
            meta: lf_str { ptr: meta.as_ptr().cast::<c_char>(), len: meta.len() as u64 },
            n_strategies: strategies.len() as u64,
            strategies: strategies.as_ptr(),
            get_extension: Some(extensions::get),
        }))))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a table has some hundred bytes")]
pub(crate) const fn struct_size<T>() -> u32 {
    size_of::<T>() as u32
}

fn internal(why: &str) -> logitfuse_core::Error {
    logitfuse_core::Error::new(logitfuse_core::ErrorKind::Internal, why)
        .with_help("name the same strategies, in the same order, in build.rs and in export!")
}

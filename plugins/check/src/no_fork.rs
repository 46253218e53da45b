//! A filter of the kernel against processes that a plugin starts: it is stopped at the call, and named for it.
//!
//! `RLIMIT_NPROC` does not bind the superuser, which containers and CI often run as, and a fork bomb grows faster than a
//! parent that polls.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Lets this process start threads but no process: `fork`, `vfork` and the like end it with `SIGSYS`.
///
/// # Errors
/// Where the kernel or the processor has no such filters.
pub(crate) fn install() -> Result<(), seccompiler::Error> {
    let no_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(u64::from(libc::CLONE_THREAD.unsigned_abs())),
        0,
    )?;
    let mut starts: BTreeMap<i64, Vec<SeccompRule>> =
        [(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?])].into();
    #[cfg(target_arch = "x86_64")]
    starts.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    // What this asks for lies in memory, where no filter looks; without it, C libraries ask by `clone`.
    let newer = [(libc::SYS_clone3, Vec::new())].into();
    let errno = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    for (calls, action) in [(starts, SeccompAction::KillProcess), (newer, errno)] {
        let processor = std::env::consts::ARCH.try_into()?;
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, action, processor)?;
        let program: seccompiler::BpfProgram = filter.try_into().map_err(|e: BackendError| e)?;
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

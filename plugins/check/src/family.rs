//! The processes of a case: its own, and those that the plugin starts from it.

#![cfg_attr(unix, expect(unsafe_code, reason = "signals and limits of processes"))]

use std::{process::Command, thread, time::Duration};

/// What marks them, whatever group and session they move to: a copy of a process keeps its environment.
const MARK: &str = "LOGITFUSE_CHECK_CASE";
/// A plugin has no reason to start any; more than this are a bomb.
pub(crate) const MOST: usize = 16;
/// Tasks that the user may have beside those of today: what bounds a bomb between two looks at it.
#[cfg(unix)]
const MORE_TASKS: u64 = 256;
/// What a case may write to a file: it has nothing to write but its record, and a copy of the library to memory.
#[cfg(unix)]
const LARGEST_FILE: u64 = 1 << 30;

/// The processes of one case.
pub(crate) struct Family {
    mark: String,
    leader: u32,
}

impl Family {
    /// Puts a process that is to be started into a group of its own, with a mark. `nonce` is that of the case.
    pub(crate) fn prepare(command: &mut Command, nonce: &str) {
        command.env(MARK, nonce);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
    }

    /// Of a process that was started so.
    pub(crate) fn of(leader: u32, nonce: &str) -> Self {
        Self { mark: format!("{MARK}={nonce}"), leader }
    }

    /// Those that run, without the leader. Empty where the system does not tell.
    pub(crate) fn others(&self) -> Vec<u32> {
        let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
        let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        all.filter_map(number).filter(|&pid| pid != self.leader && self.holds(pid)).collect()
    }

    fn holds(&self, pid: u32) -> bool {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // Behind the name, which may hold anything: state, parent, group.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, group) = (fields.next(), fields.nth(1));
        if matches!(state, None | Some("Z" | "X")) {
            return false;
        }
        if group.is_some_and(|group| group == self.leader.to_string()) {
            return true;
        }
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == self.mark.as_bytes())
    }

    /// Ends the group, while its leader is there and holds its number.
    pub(crate) fn kill_group(&self) {
        #[cfg(unix)]
        if let Ok(group) = i32::try_from(self.leader) {
            // SAFETY: sends a signal to a group that this process made for a child that it has not reaped.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }

    /// Ends what is left, until nothing is or nothing can be done; processes that multiply are looked for again.
    pub(crate) fn kill_others(&self) {
        for _ in 0..200 {
            let others = self.others();
            if others.is_empty() {
                return;
            }
            for pid in others {
                #[cfg(unix)]
                if let Ok(pid) = i32::try_from(pid) {
                    // SAFETY: sends a signal to a process that bears this case's mark or group.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                #[cfg(not(unix))]
                let _ = pid;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Limits for the process of a case, which it sets itself before it loads the plugin.
pub(crate) fn confine() {
    #[cfg(unix)]
    {
        let lower = |what, to: u64| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: reads into a struct of this stack, and lowers what it reads.
            unsafe {
                if libc::getrlimit(what, &raw mut limit) == 0 {
                    limit.rlim_cur = limit.rlim_cur.min(to);
                    libc::setrlimit(what, &raw const limit);
                }
            }
        };
        lower(libc::RLIMIT_CORE, 0);
        lower(libc::RLIMIT_FSIZE, LARGEST_FILE);
        // Counted over all processes of the user; that of a superuser is not looked at.
        lower(libc::RLIMIT_NPROC, tasks().saturating_add(MORE_TASKS));
        // Where there is no such filter, processes are counted and ended.
        #[cfg(target_os = "linux")]
        let _ = crate::no_fork::install();
    }
}

/// Whether this process has children, zombies among them.
#[cfg(unix)]
pub(crate) fn has_children() -> bool {
    let mut status = 0;
    // SAFETY: asks about children, waits for none, and writes to `status`.
    let answer = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    answer >= 0
}

#[cfg(not(unix))]
pub(crate) fn has_children() -> bool {
    false
}

/// Threads of all processes that can be seen.
#[cfg(unix)]
fn tasks() -> u64 {
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let total = average.split_whitespace().nth(3).and_then(|field| field.split('/').nth(1)?.parse().ok());
    total.unwrap_or(4096)
}

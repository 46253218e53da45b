//! Group environment: process state that a plugin must leave as it is.

use crate::{
    Outcome,
    context::{CaseContext, unknown},
    subject::{draw, play},
};
use logitfuse_plugin_host::FpControl;

pub(crate) const CASES: &[&str] = &["unchanged", "threads"];

pub(crate) fn run(name: &str, context: CaseContext<'_>) -> Outcome {
    match name {
        "unchanged" => unchanged(context),
        "threads" => own_threads(context),
        _ => unknown(name),
    }
}

fn run_steps((subject, strategy, role_counts): CaseContext<'_>) -> Result<(), String> {
    let mut runner = subject.runner(31);
    for counts in role_counts {
        for _ in 0..8 {
            play(strategy, &draw(counts, &mut runner)?).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn unchanged(context: CaseContext<'_>) -> Outcome {
    let before = Snapshot::take();
    let ran = run_steps(context);
    let changed = before.differences(&Snapshot::take());
    match (changed.is_empty(), ran) {
        (false, _) => Outcome::Failed(format!("changed: {}", changed.join(", "))),
        (true, ran) => ran.into(),
    }
}

fn own_threads(context: CaseContext<'_>) -> Outcome {
    let Some(before) = threads_now() else { return Outcome::Skipped("this system does not tell".to_owned()) };
    if let Err(what) = run_steps(context) {
        return Outcome::Failed(what);
    }
    let more = threads_now().unwrap_or(before).saturating_sub(before);
    if more > 0 && !context.0.described.capabilities.contains("threads") {
        return Outcome::Failed(format!("left {more} threads running, and its capabilities do not say \"threads\""));
    }
    Outcome::passed()
}

fn threads_now() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Process state that a plugin must not change.
struct Snapshot {
    control: FpControl,
    variables: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    folder: Option<std::path::PathBuf>,
    locale: Option<String>,
    signals: Vec<usize>,
    blocked: Vec<bool>,
}

impl Snapshot {
    fn take() -> Self {
        let mut variables: Vec<_> = std::env::vars_os().collect();
        variables.sort();
        Self {
            control: FpControl::now(),
            variables,
            folder: std::env::current_dir().ok(),
            locale: process::locale(),
            signals: process::signal_handlers(),
            blocked: process::blocked_signals(),
        }
    }

    fn differences(&self, after: &Self) -> Vec<&'static str> {
        let all = [
            ("the floating-point control bits", self.control != after.control),
            ("environment variables", self.variables != after.variables),
            ("the working directory", self.folder != after.folder),
            ("the locale", self.locale != after.locale),
            ("signal handlers", self.signals != after.signals),
            ("the signal mask", self.blocked != after.blocked),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
    }
}

#[cfg(unix)]
mod process {
    #![expect(unsafe_code, reason = "asks the C library")]

    use std::{ffi::CStr, mem::MaybeUninit, ptr};

    /// Signals that a program may handle, without those above, which differ between systems.
    const SIGNALS: std::ops::Range<i32> = 1..32;

    pub(crate) fn locale() -> Option<String> {
        // SAFETY: a null locale asks and changes nothing.
        let name = unsafe { libc::setlocale(libc::LC_ALL, ptr::null()) };
        // SAFETY: null or a terminated text, which is copied before anything else could ask for the locale.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
    }

    pub(crate) fn signal_handlers() -> Vec<usize> {
        let handler = |signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: without a new action this asks for the present one, and writes it to `action`, which all-zero bytes make
            // valid before.
            unsafe {
                libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
                action.assume_init().sa_sigaction
            }
        };
        SIGNALS.map(handler).collect()
    }

    pub(crate) fn blocked_signals() -> Vec<bool> {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: without a new set this asks for the present one, and writes it to `set`, which all-zero bytes make valid
        // before.
        let set = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), set.as_mut_ptr());
            set.assume_init()
        };
        // SAFETY: an initialised set, and signals that exist.
        SIGNALS.map(|signal| unsafe { libc::sigismember(&raw const set, signal) } == 1).collect()
    }
}

#[cfg(not(unix))]
mod process {
    pub(crate) fn locale() -> Option<String> {
        None
    }

    pub(crate) fn signal_handlers() -> Vec<usize> {
        Vec::new()
    }

    pub(crate) fn blocked_signals() -> Vec<bool> {
        Vec::new()
    }
}

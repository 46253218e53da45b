//! What a process has that a plugin must leave as it is.

use std::{collections::BTreeMap, ffi::OsString, fs, path::PathBuf};

use logitfuse_plugin_host::FpControl;

/// Process state, as it is at a moment.
pub(crate) struct Snapshot {
    control: FpControl,
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    locale: Option<String>,
    signals: Vec<usize>,
    blocked: Vec<bool>,
    descriptors: Option<BTreeMap<OsString, PathBuf>>,
    umask: Option<String>,
    limits: Option<String>,
    timers: Vec<bool>,
    posix_timers: Option<String>,
}

impl Snapshot {
    pub(crate) fn take() -> Self {
        let mut variables: Vec<_> = std::env::vars_os().collect();
        variables.sort();
        let text = |path: &str| fs::read_to_string(path).ok();
        let umask = text("/proc/self/status")
            .and_then(|status| status.lines().find(|line| line.starts_with("Umask:")).map(str::to_owned));
        Self {
            control: FpControl::now(),
            variables,
            folder: std::env::current_dir().ok(),
            locale: process::locale(),
            signals: process::signal_handlers(),
            blocked: process::blocked_signals(),
            descriptors: descriptors(),
            umask,
            limits: text("/proc/self/limits"),
            timers: process::timers(),
            posix_timers: text("/proc/self/timers"),
        }
    }

    /// What is another at a later moment.
    pub(crate) fn differences(&self, after: &Self) -> Vec<String> {
        let all = [
            ("the floating-point control bits", self.control != after.control),
            ("environment variables", self.variables != after.variables),
            ("the working directory", self.folder != after.folder),
            ("the locale", self.locale != after.locale),
            ("signal handlers", self.signals != after.signals),
            ("the signal mask", self.blocked != after.blocked),
            ("the file mode mask (umask)", self.umask != after.umask),
            ("resource limits", self.limits != after.limits),
            ("a timer", self.timers != after.timers || self.posix_timers != after.posix_timers),
        ];
        let changed = all.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what.to_owned());
        changed.chain(self.descriptor_differences(after)).collect()
    }

    fn descriptor_differences(&self, after: &Self) -> Vec<String> {
        let (Some(before), Some(after)) = (&self.descriptors, &after.descriptors) else { return Vec::new() };
        let shown = |(number, target): (&OsString, &PathBuf)| format!("{} ({})", number.display(), target.display());
        let mut differences = Vec::new();
        if let Some(gone) = before.iter().find(|(number, target)| after.get(*number) != Some(target)) {
            differences.push(format!("descriptor {} closed or replaced", shown(gone)));
        }
        if let Some(more) = after.iter().find(|(number, _)| !before.contains_key(*number)) {
            differences.push(format!("descriptor {} left open", shown(more)));
        }
        differences
    }
}

/// Open descriptors and what they are; `None` where the system does not tell. Those that are the host's own are left out: the
/// memory that the library was loaded from, and what this list itself is read with.
fn descriptors() -> Option<BTreeMap<OsString, PathBuf>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").ok()? {
        let entry = entry.ok()?;
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if target.starts_with("/proc") || target.to_string_lossy().contains("logitfuse-plugin") {
            continue;
        }
        all.insert(entry.file_name(), target);
    }
    Some(all)
}

#[cfg(unix)]
pub(crate) mod process {
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

    /// Which of the interval timers run, that of `alarm` among them.
    pub(crate) fn timers() -> Vec<bool> {
        let runs = |timer| {
            let mut value = MaybeUninit::<libc::itimerval>::zeroed();
            // SAFETY: writes to `value`, which all-zero bytes make valid before.
            let value = unsafe {
                libc::getitimer(timer, value.as_mut_ptr());
                value.assume_init()
            };
            value.it_value.tv_sec != 0 || value.it_value.tv_usec != 0
        };
        [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF].into_iter().map(runs).collect()
    }
}

#[cfg(not(unix))]
pub(crate) mod process {
    pub(crate) fn locale() -> Option<String> {
        None
    }

    pub(crate) fn signal_handlers() -> Vec<usize> {
        Vec::new()
    }

    pub(crate) fn blocked_signals() -> Vec<bool> {
        Vec::new()
    }

    pub(crate) fn timers() -> Vec<bool> {
        Vec::new()
    }
}

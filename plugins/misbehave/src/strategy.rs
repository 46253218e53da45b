//! The strategy: a good one, with one rule broken.

use std::{
    ffi::c_void,
    panic::catch_unwind,
    ptr, slice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicPtr, AtomicU64, Ordering},
    },
};

use logitfuse_plugin_abi::{
    LF_E_ARGUMENT, LF_E_CONFIG, LF_E_INTERNAL, LF_E_PANIC, LF_E_STATE, LF_OK, lf_buf, lf_error, lf_host_v1,
    lf_instance, lf_out, lf_row, lf_session, lf_state, lf_status, lf_step, lf_str, lf_strategy_v1,
};
use serde_json::Value;

use crate::mode::Mode;

#[expect(clippy::cast_possible_truncation, reason = "a table of some hundred bytes")]
pub(crate) const TABLE: lf_strategy_v1 = lf_strategy_v1 {
    struct_size: size_of::<lf_strategy_v1>() as u32,
    reserved: 0,
    id: lf_str { ptr: ptr::null(), len: 0 },
    create: Some(create),
    destroy: Some(destroy),
    state_new: Some(state_new),
    state_free: Some(state_free),
    fuse: Some(fuse),
    commit: Some(commit),
    rollback: Some(rollback),
    state_fork: Some(state_fork),
    settle: None,
    describe: None,
};

struct Instance {
    mode: Mode,
    strength: f64,
    host: *const lf_host_v1,
}

struct State {
    mode: Mode,
    strength: f64,
    host: *const lf_host_v1,
    committed: Arc<Mutex<Vec<u32>>>,
    fused: u64,
    /// What stood in the last entry of the answer before it was written.
    unwritten: u32,
}

/// What a plugin must not have.
static GLOBAL: AtomicU64 = AtomicU64::new(0);
static KEPT: AtomicPtr<f32> = AtomicPtr::new(ptr::null_mut());

/// # Safety
/// `err` is null or an error of the host.
pub(crate) unsafe fn say(err: *mut lf_error, path: &str, message: &str) {
    fn write(buffer: &mut lf_buf, text: &str) {
        let n = text.len().min(usize::try_from(buffer.cap).unwrap_or(0));
        // SAFETY: the host's buffer has `cap` bytes, and `n` is at most that.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), buffer.ptr.cast(), n) };
        buffer.len = text.len() as u64;
    }
    // SAFETY: as the caller promises.
    if let Some(err) = unsafe { err.as_mut() } {
        write(&mut err.message, message);
        write(&mut err.path, path);
    }
}

unsafe extern "C" fn create(
    host: *const lf_host_v1,
    params: lf_str,
    out: *mut *mut lf_instance,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: the host lends the text for this call.
    let text = unsafe { slice::from_raw_parts(params.ptr.cast::<u8>(), usize::try_from(params.len).unwrap_or(0)) };
    let refuse = |path: &str, message: &str| {
        // SAFETY: the host's error lives for this call.
        unsafe { say(err, path, message) };
        LF_E_CONFIG
    };
    let Ok(Value::Object(params)) = serde_json::from_slice::<Value>(text) else {
        return refuse("", "must be a table");
    };
    let mode = params.get("mode").map_or(Some(Mode::Good), |mode| mode.as_str().map(Mode::named));
    let strength = params.get("strength").map_or(Some(0.5), Value::as_f64).filter(|x| (0.0..=1.0).contains(x));
    let unknown = params.keys().find(|key| !matches!(key.as_str(), "mode" | "strength"));
    let lenient = mode == Some(Mode::AcceptAnything);
    let (mode, strength) = match (mode, strength, unknown) {
        (Some(mode), Some(strength), None) => (mode, strength),
        (mode, strength, _) if lenient => (mode.unwrap_or(Mode::Good), strength.unwrap_or(0.5)),
        (None, ..) => return refuse("/mode", "must be a text"),
        (_, None, _) => return refuse("/strength", "must be from 0 to 1"),
        (.., Some(key)) => return refuse(&format!("/{key}"), "no parameter has this name; there are mode, strength"),
    };
    match mode {
        Mode::CreateSilent => return LF_E_INTERNAL,
        Mode::CreateNothing => return LF_OK,
        Mode::RefuseValid if strength > 0.5 => return refuse("/strength", "does not like it"),
        _ => {}
    }
    let instance = Box::new(Instance { mode, strength, host });
    // SAFETY: the host's out-parameter lives for this call.
    unsafe { out.write(Box::into_raw(instance).cast()) };
    LF_OK
}

unsafe extern "C" fn destroy(this: *mut lf_instance) {
    if !this.is_null() {
        // SAFETY: came out of `create`, and the host gives it back once.
        drop(unsafe { Box::from_raw(this.cast::<Instance>()) });
    }
}

unsafe extern "C" fn state_new(
    this: *const lf_instance,
    session: *const lf_session,
    out: *mut *mut lf_state,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: the host passes an instance of `create` and a session for this call.
    let (instance, session) = unsafe { (&*this.cast::<Instance>(), &*session) };
    if session.n_rows != 2 {
        // SAFETY: the host's error lives for this call.
        unsafe { say(err, "", "one base and one expert, please") };
        return logitfuse_plugin_abi::LF_E_INCOMPATIBLE;
    }
    let Instance { mode, strength, host } = *instance;
    let state = State { mode, strength, host, committed: Arc::default(), fused: 0, unwritten: 0 };
    // SAFETY: the host's out-parameter lives for this call.
    unsafe { out.write(Box::into_raw(Box::new(state)).cast()) };
    LF_OK
}

unsafe extern "C" fn state_free(this: *mut lf_state) {
    if !this.is_null() {
        // SAFETY: came out of `state_new` or `state_fork`, and the host gives it back once.
        drop(unsafe { Box::from_raw(this.cast::<State>()) });
    }
}

unsafe extern "C" fn state_fork(this: *const lf_state, out: *mut *mut lf_state, _err: *mut lf_error) -> lf_status {
    // SAFETY: the host passes a state of this plugin.
    let state = unsafe { &*this.cast::<State>() };
    let committed = if state.mode == Mode::ForkShares {
        Arc::clone(&state.committed)
    } else {
        Arc::new(Mutex::new(state.tokens()))
    };
    let copy = Box::new(State { committed, ..*state });
    // SAFETY: the host's out-parameter lives for this call.
    unsafe { out.write(Box::into_raw(copy).cast()) };
    LF_OK
}

unsafe extern "C" fn commit(this: *mut lf_state, tokens: *const u32, n: u64, _err: *mut lf_error) -> lf_status {
    // SAFETY: the host passes a state of this plugin, and tokens for this call.
    let (state, tokens) =
        unsafe { (&*this.cast::<State>(), slice::from_raw_parts(tokens, usize::try_from(n).unwrap_or(0))) };
    if let Ok(mut committed) = state.committed.lock() {
        committed.extend_from_slice(tokens);
    }
    LF_OK
}

unsafe extern "C" fn rollback(this: *mut lf_state, n: u64, err: *mut lf_error) -> lf_status {
    // SAFETY: the host passes a state of this plugin.
    let state = unsafe { &*this.cast::<State>() };
    if state.mode == Mode::RollbackIgnored {
        return LF_OK;
    }
    let Ok(mut committed) = state.committed.lock() else { return LF_E_INTERNAL };
    let Some(left) = committed.len().checked_sub(usize::try_from(n).unwrap_or(usize::MAX)) else {
        // SAFETY: the host's error lives for this call.
        unsafe { say(err, "", "more tokens are rolled back than were committed") };
        return LF_E_STATE;
    };
    committed.truncate(left);
    LF_OK
}

impl State {
    fn tokens(&self) -> Vec<u32> {
        self.committed.lock().map_or_else(|_| Vec::new(), |tokens| tokens.clone())
    }
}

/// The rows and where the answer goes, as slices.
struct Call<'a> {
    base: &'a [f32],
    expert: &'a [f32],
    normalisers: [f64; 2],
    out: &'a mut [f32],
    trace: &'a mut [f64],
}

unsafe extern "C" fn fuse(
    this: *mut lf_state,
    step: *const lf_step,
    out: *mut lf_out,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: the host passes a state of this plugin, one call at a time, and a step and an answer for this call.
    let (state, step, out) = unsafe { (&mut *this.cast::<State>(), &*step, &mut *out) };
    let Ok(width) = usize::try_from(step.width) else { return LF_E_ARGUMENT };
    // SAFETY: `n_rows` rows of `width` values, as the step says; `state_new` saw to two rows.
    let rows: &[lf_row] = unsafe { slice::from_raw_parts(step.rows, 2) };
    // SAFETY: as above; the answer overlaps nothing.
    let mut call = unsafe {
        Call {
            base: slice::from_raw_parts(rows[0].logits, width),
            expert: slice::from_raw_parts(rows[1].logits, width),
            normalisers: [rows[0].log_normaliser, rows[1].log_normaliser],
            out: slice::from_raw_parts_mut(out.logits, width),
            trace: if out.n_trace == 0 { &mut [] } else { slice::from_raw_parts_mut(out.trace, out.n_trace as usize) },
        }
    };
    state.fused += 1;
    state.unwritten = call.out.last().map_or(0, |x| x.to_bits());
    state.fuse(&mut call);
    // SAFETY: step and answer are as above, the error is the host's.
    unsafe { state.misbehave(step, out, err) }
}

impl State {
    /// What a good plugin does.
    fn fuse(&self, call: &mut Call<'_>) {
        // By count, not by id: renaming the ids must change nothing.
        let memory = (self.tokens().len() % 16) as f64 / 16.0;
        let strength = self.strength * (1.0 + memory);
        let [base_normaliser, expert_normaliser] = call.normalisers;
        for ((out, base), expert) in call.out.iter_mut().zip(call.base).zip(call.expert) {
            let difference = (f64::from(*expert) - expert_normaliser) - (f64::from(*base) - base_normaliser);
            let moved = if difference.is_finite() { strength * difference } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "a logit")]
            let logit = if moved == 0.0 { *base } else { (f64::from(*base) + moved) as f32 };
            *out = logit.clamp(if *base == f32::NEG_INFINITY { f32::NEG_INFINITY } else { f32::MIN }, f32::MAX);
        }
        if let Some(column) = call.trace.first_mut() {
            *column = strength;
        }
    }

    /// What it then breaks.
    ///
    /// # Safety
    /// `step` and `out` are those of a call, `err` is null or an error of the host. Some modes break the promise that makes
    /// them sound; that is their purpose, and they run in processes that were made to die.
    unsafe fn misbehave(&mut self, step: &lf_step, out: &mut lf_out, err: *mut lf_error) -> lf_status {
        let width = usize::try_from(out.width).unwrap_or(0);
        let first = out.logits;
        // SAFETY: the answer has `width` values; rows are not touched through this slice.
        let answer = unsafe { slice::from_raw_parts_mut(first, width) };
        let last = width.saturating_sub(1);
        // SAFETY: the modes below that touch other memory than `answer` do so to be caught.
        unsafe {
            match self.mode {
                Mode::PanicGuarded => {
                    let caught = catch_unwind(|| assert!(std::hint::black_box(false), "the third law was broken"));
                    let text =
                        caught.err().and_then(|panic| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    say(err, "", &text.unwrap_or_default());
                    return LF_E_PANIC;
                }
                Mode::FuseSilent => return LF_E_INTERNAL,
                Mode::UnknownStatus => {
                    say(err, "", "a status of my own");
                    return -77;
                }
                Mode::EscapeCodes => {
                    self.log("\u{1b}]0;owned\u{7}\u{1b}[2Jinnocent");
                    say(err, "", "\u{1b}[31mred\u{202e}\nand two lines");
                    return LF_E_INTERNAL;
                }
                Mode::FloodLog => (0..10_000).for_each(|n| self.log(&format!("line {n}"))),
                Mode::Nan => answer[width / 2] = f32::NAN,
                Mode::Infinity => answer[last] = f32::INFINITY,
                Mode::AllMasked => answer.fill(f32::NEG_INFINITY),
                Mode::Partial => answer[last] = f32::from_bits(self.unwritten),
                Mode::FlushToZero => flush_to_zero(),
                Mode::PanicUnguarded => panic!("nobody catches this"),
                Mode::Abort => std::process::abort(),
                Mode::Exit => std::process::exit(0),
                Mode::Loop => loop {
                    std::hint::spin_loop();
                },
                Mode::StackOverflow => {
                    answer[0] = deeper(u64::from(step.n_rows)) as f32;
                }
                Mode::WritePastEnd => first.add(width).write_volatile(0.0),
                Mode::WriteIntoInputs => (*step.rows).logits.cast_mut().write_volatile(0.0),
                Mode::ReadPastEnd => {
                    answer[0] += 0.0 * (*step.rows).logits.add(width).read_volatile().clamp(-1.0, 1.0);
                }
                Mode::KeepPointer => {
                    let kept = KEPT.swap((*step.rows).logits.cast_mut(), Ordering::Relaxed);
                    if !kept.is_null() {
                        answer[0] += 0.0 * kept.read_volatile().clamp(-1.0, 1.0);
                    }
                }
                Mode::FreeHostMemory => free(first.cast()),
                Mode::NotIdempotent => answer[0] -= 1e-3 * self.fused as f32,
                Mode::GlobalState => answer[0] -= 1e-3 * (GLOBAL.fetch_add(1, Ordering::Relaxed) % 100) as f32,
                Mode::Nondeterministic => {
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                    answer[0] -= 1e-6 * (now.subsec_nanos() % 1_000_000) as f32;
                }
                Mode::TraceChangesRow if out.n_trace > 0 => answer[0] -= 1.0,
                Mode::LiesAboutShift => answer.iter_mut().for_each(|x| *x *= 1.0 + (x.abs() + 1.0).recip()),
                Mode::LiesAboutIdentity => answer[0] -= 0.5,
                Mode::LiesAboutMask => answer.iter_mut().for_each(|x| *x = x.max(-1e3)),
                Mode::Locale => locale(),
                Mode::Variable => std::env::set_var("LOGITFUSE_WAS_HERE", "1"),
                Mode::WorkingDirectory => {
                    let _ = std::env::set_current_dir("/");
                }
                Mode::SignalHandler => signal_handler(),
                Mode::Stdout => {
                    use std::io::Write;
                    let _ = std::io::stdout().write_all(b"debug: here\n").and_then(|()| std::io::stdout().flush());
                }
                Mode::Thread => {
                    std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(5)));
                }
                Mode::Leak => {
                    vec![1_u8; 8192].leak();
                }
                Mode::Slow => std::thread::sleep(std::time::Duration::from_millis(30)),
                _ => {}
            }
        }
        LF_OK
    }

    fn log(&self, line: &str) {
        // SAFETY: the host's table lives for ever.
        let host = unsafe { &*self.host };
        if let Some(log) = host.log {
            // SAFETY: its own context, and a text for this call.
            unsafe { log(host.ctx, 2, lf_str { ptr: line.as_ptr().cast(), len: line.len() as u64 }) };
        }
    }
}

fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    if room[17] == u64::MAX { 0 } else { deeper(n + 1) + std::hint::black_box(room)[3] }
}

#[cfg(target_arch = "x86_64")]
fn flush_to_zero() {
    let control = 0x9fc0_u32;
    // SAFETY: sets flush-to-zero and denormals-are-zero, which is what a plugin must not do.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const control) };
}

#[cfg(not(target_arch = "x86_64"))]
fn flush_to_zero() {}

/// # Safety
/// Breaks it.
unsafe fn free(what: *mut c_void) {
    #[cfg(unix)]
    // SAFETY: nobody may free what another allocated; that is the rule that is broken.
    unsafe {
        libc::free(what);
    }
    #[cfg(not(unix))]
    let _ = what;
}

fn locale() {
    #[cfg(unix)]
    // SAFETY: a terminated text.
    unsafe {
        libc::setlocale(libc::LC_NUMERIC, c"C.UTF-8".as_ptr());
    }
}

fn signal_handler() {
    #[cfg(unix)]
    // SAFETY: installs "ignore" for a signal that nothing here uses.
    unsafe {
        libc::signal(libc::SIGUSR2, libc::SIG_IGN);
    }
}

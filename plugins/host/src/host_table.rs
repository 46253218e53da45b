//! What the host offers to a plugin: a log, and typed parameters for languages without a JSON parser.

#![expect(unsafe_code, reason = "functions that a plugin calls, with pointers of its own")]

use std::{
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

use logitfuse_plugin_abi::{
    ABI_MINOR, EXT_CONFIG, LF_E_ARGUMENT, LF_E_CONFIG, LF_OK, lf_buf, lf_config_v1, lf_error, lf_host_v1, lf_status,
    lf_str,
};
use serde_json::Value;

use crate::{
    ffi::{self, size_u32},
    text,
};

/// How important a line of a plugin's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Something a user may want to know.
    Info,
    /// Something a developer may want to know.
    Debug,
    /// Every detail.
    Trace,
}

type Sink = Box<dyn Fn(LogLevel, &str, &str) + Send + Sync>;
static SINK: OnceLock<Sink> = OnceLock::new();

/// Where the log lines of all plugins of this process go: a function of the level, the plugin's id and one line of text
/// without control characters. The first call decides; without one, lines are dropped. A plugin that floods its log gets
/// [its rate limited](LINES_PER_SECOND).
pub fn forward_log(sink: impl Fn(LogLevel, &str, &str) + Send + Sync + 'static) {
    // The first sink stays, as the documentation says.
    let _ = SINK.set(Box::new(sink));
}

/// The lines of log that one plugin may write in a second; what is beyond is counted, and the count is told.
pub const LINES_PER_SECOND: u32 = 20;

/// What the functions below are given as their `ctx`.
struct Context {
    plugin: String,
    config: lf_config_v1,
    budget: Mutex<Budget>,
}

struct Budget {
    since: Instant,
    lines: u32,
    dropped: u64,
}

/// A table that lives as long as the process, as the ABI promises.
pub(crate) fn new(plugin: &str) -> &'static lf_host_v1 {
    let context: &'static Context = Box::leak(Box::new(Context {
        plugin: plugin.to_owned(),
        config: CONFIG,
        budget: Mutex::new(Budget { since: Instant::now(), lines: 0, dropped: 0 }),
    }));
    Box::leak(Box::new(lf_host_v1 {
        struct_size: size_u32::<lf_host_v1>(),
        abi_minor: ABI_MINOR,
        ctx: ptr::from_ref(context).cast_mut().cast(),
        log: Some(log),
        get_extension: Some(get_extension),
    }))
}

/// # Safety
/// `ctx` is that of the table.
unsafe fn context<'a>(ctx: *mut c_void) -> Option<&'a Context> {
    // SAFETY: `new` put a pointer to a leaked `Context` there, which is only ever read; a null pointer gives `None`.
    unsafe { ctx.cast::<Context>().as_ref() }
}

unsafe extern "C" fn log(ctx: *mut c_void, level: u32, message: lf_str) {
    // SAFETY: the plugin passes the table's `ctx`, and a text that it borrows to this call.
    let (context, message) = unsafe { (context(ctx), ffi::bytes(message)) };
    let (Some(context), Some(message)) = (context, message) else { return };
    let level = match level {
        0 | 1 => LogLevel::Error,
        2 => LogLevel::Warn,
        3 => LogLevel::Info,
        4 => LogLevel::Debug,
        _ => LogLevel::Trace,
    };
    context.line(level, &text::printable(message));
}

/// Says something about a plugin in its log.
pub(crate) fn tell(level: LogLevel, plugin: &str, line: &str) {
    if let Some(sink) = SINK.get() {
        // A panic of the sink must not unwind into the plugin that called `log`.
        let _ = catch_unwind(AssertUnwindSafe(|| sink(level, plugin, line)));
    }
}

impl Context {
    fn line(&self, level: LogLevel, line: &str) {
        let (admitted, dropped) = self.budget.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if dropped > 0 {
            tell(LogLevel::Warn, &self.plugin, &format!("{dropped} lines of its log were left out"));
        }
        if admitted {
            tell(level, &self.plugin, line);
        }
    }
}

impl Budget {
    /// Whether a line may pass, and how many were dropped before this second.
    fn admit(&mut self, now: Instant) -> (bool, u64) {
        let mut dropped = 0;
        if now.duration_since(self.since).as_secs() >= 1 {
            dropped = std::mem::take(&mut self.dropped);
            (self.since, self.lines) = (now, 0);
        }
        self.lines += 1;
        let admitted = self.lines <= LINES_PER_SECOND;
        if !admitted {
            self.dropped += 1;
            self.lines = LINES_PER_SECOND + 1;
        }
        (admitted, dropped)
    }
}

unsafe extern "C" fn get_extension(ctx: *mut c_void, name: lf_str) -> *const c_void {
    // SAFETY: the plugin passes the table's `ctx`, and a text that it borrows to this call.
    let (context, name) = unsafe { (context(ctx), ffi::bytes(name)) };
    match (context, name) {
        (Some(context), Some(name)) if name == EXT_CONFIG.as_bytes() => ptr::from_ref(&context.config).cast(),
        _ => ptr::null(),
    }
}

pub(crate) const CONFIG: lf_config_v1 = lf_config_v1 {
    struct_size: size_u32::<lf_config_v1>(),
    reserved: 0,
    ctx: ptr::null_mut(),
    get_f64: Some(get_f64),
    get_i64: Some(get_i64),
    get_bool: Some(get_bool),
    get_str: Some(get_str),
    count: Some(count),
    only_keys: Some(only_keys),
};

/// The arguments of a getter, in safe types.
struct Query {
    pointer: String,
    value: Option<Value>,
}

impl Query {
    /// # Safety
    /// Both texts can be read, and `err` is null or an error of the plugin.
    unsafe fn new(params: lf_str, pointer: lf_str, err: *mut lf_error) -> Result<Self, lf_status> {
        // SAFETY: as the caller promises.
        let (params, pointer) = unsafe { (ffi::bytes(params), ffi::bytes(pointer)) };
        let pointer = pointer.and_then(|p| str::from_utf8(p).ok());
        let params: Option<Value> = params.and_then(|p| serde_json::from_slice(p).ok());
        match (params, pointer) {
            (Some(params), Some(pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
                Ok(Self { value: params.pointer(pointer).cloned(), pointer: pointer.to_owned() })
            }
            // SAFETY: as the caller promises.
            _ => Err(unsafe {
                ffi::fail(err, LF_E_ARGUMENT, "", "lf.config/1 wants the text that create was given and a JSON pointer")
            }),
        }
    }

    /// Writes what `read` makes of the value; an absent value changes nothing.
    ///
    /// # Safety
    /// `out` is null or can be written, and `err` is null or an error of the plugin.
    unsafe fn answer<T>(
        self,
        out: *mut T,
        err: *mut lf_error,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> lf_status {
        let Some(value) = self.value else { return LF_OK };
        let Some(answer) = read(&value) else {
            // SAFETY: as the caller promises.
            return unsafe { ffi::fail(err, LF_E_CONFIG, &self.pointer, &format!("must be {what}")) };
        };
        if out.is_null() || !out.is_aligned() {
            // SAFETY: as the caller promises.
            return unsafe { ffi::fail(err, LF_E_ARGUMENT, "", "lf.config/1 was given no place to write to") };
        }
        // SAFETY: not null, aligned, and the caller promises that it can be written.
        unsafe { out.write(answer) };
        LF_OK
    }
}

macro_rules! getter {
    ($name:ident, $type:ty, $what:literal, $read:expr) => {
        unsafe extern "C" fn $name(
            _: *mut c_void,
            params: lf_str,
            pointer: lf_str,
            out: *mut $type,
            err: *mut lf_error,
        ) -> lf_status {
            // SAFETY: by the ABI both texts, `out` and `err` are borrowed to this call by the plugin.
            unsafe {
                match Query::new(params, pointer, err) {
                    Ok(query) => query.answer(out, err, $what, $read),
                    Err(status) => status,
                }
            }
        }
    };
}

getter!(get_f64, f64, "a number", Value::as_f64);
getter!(get_i64, i64, "a whole number", whole);
getter!(get_bool, u32, "true or false", |value| value.as_bool().map(u32::from));
getter!(count, u64, "a list or a table", |value| match value {
    Value::Array(list) => Some(list.len() as u64),
    Value::Object(table) => Some(table.len() as u64),
    _ => None,
});

/// 2.0 is a whole number, as it is to the schema.
fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers of this size are exact in both types")]
    let of_float = |x: f64| (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(of_float))
}

unsafe extern "C" fn get_str(
    _: *mut c_void,
    params: lf_str,
    pointer: lf_str,
    out: *mut lf_buf,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: by the ABI both texts and `err` are borrowed to this call by the plugin.
    let query = match unsafe { Query::new(params, pointer, err) } {
        Ok(query) => query,
        Err(status) => return status,
    };
    let text = match &query.value {
        None => return LF_OK,
        Some(Value::String(text)) => text,
        // SAFETY: as above.
        Some(_) => return unsafe { ffi::fail(err, LF_E_CONFIG, &query.pointer, "must be a text") },
    };
    if out.is_null() || !out.is_aligned() {
        // SAFETY: as above.
        return unsafe { ffi::fail(err, LF_E_ARGUMENT, "", "lf.config/1 was given no place to write to") };
    }
    // SAFETY: not null and aligned; by the ABI a buffer of the plugin, with `cap` writable bytes.
    unsafe { ffi::write(text, &mut *out) };
    LF_OK
}

unsafe extern "C" fn only_keys(
    _: *mut c_void,
    params: lf_str,
    pointer: lf_str,
    names: *const lf_str,
    n_names: u64,
    err: *mut lf_error,
) -> lf_status {
    // SAFETY: by the ABI both texts and `err` are borrowed to this call by the plugin.
    let query = match unsafe { Query::new(params, pointer, err) } {
        Ok(query) => query,
        Err(status) => return status,
    };
    let mut known = Vec::new();
    for index in 0..usize::try_from(n_names).unwrap_or(0) {
        if names.is_null() || !names.is_aligned() {
            break;
        }
        // SAFETY: not null, aligned, and by the ABI the first of `n_names` elements, each a text that can be read.
        known.extend(unsafe { ffi::bytes(*names.add(index)) });
    }
    match &query.value {
        None => LF_OK,
        Some(Value::Object(table)) => match table.keys().find(|key| !known.contains(&key.as_bytes())) {
            None => LF_OK,
            Some(key) => {
                let names: Vec<_> = known.iter().map(|name| String::from_utf8_lossy(name)).collect();
                let path = format!("{}/{}", query.pointer, key.replace('~', "~0").replace('/', "~1"));
                let message = format!("no parameter has this name; there are {}", names.join(", "));
                // SAFETY: as above.
                unsafe { ffi::fail(err, LF_E_CONFIG, &path, &message) }
            }
        },
        // SAFETY: as above.
        Some(_) => unsafe { ffi::fail(err, LF_E_CONFIG, &query.pointer, "must be a table") },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ffi::{ErrorBuffers, lend};

    fn get_value<T>(
        get: unsafe extern "C" fn(*mut c_void, lf_str, lf_str, *mut T, *mut lf_error) -> lf_status,
        pointer: &str,
        out: &mut T,
    ) -> Result<(), String> {
        let params = r#"{"alpha": 2, "name": "fast", "on": true, "list": [1, 2.5, 3.0], "a/b": 7}"#;
        let mut buffers = ErrorBuffers::new();
        let mut err = buffers.lend();
        // SAFETY: texts and error live here, `out` is a live exclusive reference.
        let status = unsafe { get(ptr::null_mut(), lend(params), lend(pointer), out, &raw mut err) };
        if status == LF_OK { Ok(()) } else { Err(buffers.read(&err, status, "get").into_error().to_string()) }
    }

    #[test]
    fn getters_read_what_is_there_and_leave_defaults_alone() {
        let (mut x, mut n, mut on, mut len) = (9.0, 9, 9, 9);
        get_value(get_f64, "/alpha", &mut x).unwrap();
        get_value(get_i64, "/list/2", &mut n).unwrap();
        get_value(get_bool, "/on", &mut on).unwrap();
        get_value(count, "/list", &mut len).unwrap();
        assert_eq!((x, n, on, len), (2.0, 3, 1, 3));
        get_value(get_f64, "/beta", &mut x).unwrap();
        get_value(get_i64, "/a~1b", &mut n).unwrap();
        assert_eq!((x, n), (2.0, 7));
        assert_eq!(get_value(get_i64, "/list/1", &mut n).unwrap_err(), "/list/1: must be a whole number");
        assert_eq!(get_value(get_bool, "/alpha", &mut on).unwrap_err(), "/alpha: must be true or false");
        assert!(get_value(get_f64, "alpha", &mut x).unwrap_err().contains("JSON pointer"));
    }

    #[test]
    fn text_comes_in_the_callers_buffer() {
        let mut bytes = [0_u8; 2];
        let mut buffer = lf_buf { ptr: bytes.as_mut_ptr().cast(), cap: 2, len: 0 };
        get_value(get_str, "/name", &mut buffer).unwrap();
        assert_eq!((buffer.len, &bytes), (4, b"fa"));
        assert_eq!(get_value(get_str, "/list", &mut buffer).unwrap_err(), "/list: must be a text");
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let names = [lend("alpha"), lend("beta")];
        let mut buffers = ErrorBuffers::new();
        let mut err = buffers.lend();
        // SAFETY: texts, names and error live here.
        let status = unsafe {
            only_keys(ptr::null_mut(), lend(r#"{"alpha": 1, "bata": 2}"#), lend(""), names.as_ptr(), 2, &raw mut err)
        };
        let error = buffers.read(&err, status, "only_keys").into_error();
        assert_eq!(error.to_string(), "/bata: no parameter has this name; there are alpha, beta");
    }

    #[test]
    fn a_flood_is_counted() {
        let start = Instant::now();
        let mut budget = Budget { since: start, lines: 0, dropped: 0 };
        let passed = (0..1_000).filter(|_| budget.admit(start).0).count();
        assert_eq!(passed, LINES_PER_SECOND as usize);
        assert_eq!(budget.admit(start + Duration::from_secs(2)), (true, 1_000 - passed as u64));
    }
}

//! A host in a hundred lines: the other side of the table, without loading anything.

pub(crate) mod probe;

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::{Arc, Mutex};

use logitfuse_plugin::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Result, RoleBinding, RoleRow, SessionInfo,
    SharedVocabulary, StrategyInfo, TokenId,
};
use logitfuse_plugin_abi::{
    LF_OK, lf_binding, lf_buf, lf_error, lf_host_v1, lf_instance, lf_out, lf_plugin_v1, lf_row, lf_session, lf_state,
    lf_status, lf_step, lf_str, lf_strategy_v1,
};

/// Every line that was logged.
pub(crate) static LOG: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());

unsafe extern "C" fn log(_: *mut c_void, level: u32, message: lf_str) {
    LOG.lock().unwrap().push((level, text(message)));
}

unsafe extern "C" fn get_extension(_: *mut c_void, _: lf_str) -> *const c_void {
    ptr::null()
}

pub(crate) struct Host(pub(crate) lf_host_v1);
// SAFETY: functions without context.
unsafe impl Sync for Host {}

pub(crate) static HOST: Host = Host(lf_host_v1 {
    struct_size: size_of::<lf_host_v1>() as u32,
    abi_minor: 0,
    ctx: ptr::null_mut(),
    log: Some(log),
    get_extension: Some(get_extension),
});

unsafe extern "C" {
    pub(crate) fn lf_plugin_entry_v1(host: *const lf_host_v1, err: *mut lf_error) -> *const lf_plugin_v1;
    /// Its length is that of a C string here: there are no NULs but at its end.
    pub(crate) static LF_PLUGIN_META: [u8; 1];
}

pub(crate) fn meta() -> &'static [u8] {
    // SAFETY: the section ends with a NUL.
    unsafe { CStr::from_ptr((&raw const LF_PLUGIN_META).cast()) }.to_bytes()
}

pub(crate) fn plugin() -> &'static lf_plugin_v1 {
    let mut texts = Texts::new();
    // SAFETY: a host that lives for ever; the table lives as long.
    unsafe { lf_plugin_entry_v1(&raw const HOST.0, &raw mut texts.error).as_ref() }.expect("the entry returns a table")
}

pub(crate) fn strategy(id: &str) -> &'static lf_strategy_v1 {
    let plugin = plugin();
    // SAFETY: as many pointers as the table says, each to a table that lives for ever.
    let all = unsafe {
        std::slice::from_raw_parts(plugin.strategies.cast::<&lf_strategy_v1>(), plugin.n_strategies as usize)
    };
    all.iter().find(|strategy| text(strategy.id) == id).expect("the plugin has this strategy")
}

pub(crate) fn text(text: lf_str) -> String {
    // SAFETY: a text of the plugin, alive now.
    String::from_utf8(unsafe { std::slice::from_raw_parts(text.ptr.cast(), text.len as usize) }.to_vec()).unwrap()
}

pub(crate) fn borrowed(text: &str) -> lf_str {
    lf_str { ptr: text.as_ptr().cast(), len: text.len() as u64 }
}

/// An `lf_error` with its buffers.
pub(crate) struct Texts {
    pub(crate) error: lf_error,
    buffers: Vec<Vec<u8>>,
}

impl Texts {
    pub(crate) fn new() -> Self {
        Self::of_capacity(256)
    }

    pub(crate) fn of_capacity(cap: usize) -> Self {
        let mut buffers = vec![vec![b'#'; cap]; 3];
        let mut buf = |i: usize| lf_buf { ptr: buffers[i].as_mut_ptr().cast(), cap: cap as u64, len: 0 };
        let error = lf_error {
            struct_size: size_of::<lf_error>() as u32,
            reserved: 0,
            message: buf(0),
            path: buf(1),
            help: buf(2),
        };
        Self { error, buffers }
    }

    fn read(&self, i: usize, buf: lf_buf) -> String {
        let len = (buf.len as usize).min(self.buffers[i].len());
        String::from_utf8(self.buffers[i][..len].to_vec()).unwrap()
    }

    pub(crate) fn message(&self) -> String {
        self.read(0, self.error.message)
    }

    pub(crate) fn path(&self) -> String {
        self.read(1, self.error.path)
    }

    pub(crate) fn help(&self) -> String {
        self.read(2, self.error.help)
    }

    fn check(&self, status: lf_status) -> Result<()> {
        if status == LF_OK {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Backend, format!("{status} {} {}", self.path(), self.message())))
    }
}

/// Calls a function of the table with an error to fill in; the texts and what it returned.
macro_rules! call {
    ($table:expr, $function:ident $(, $argument:expr)*) => {{
        let mut texts = $crate::support::Texts::new();
        // SAFETY: the test passes what the header asks for, or what it wants to see refused: nulls and wrong lengths.
        let status = unsafe { $table.$function.unwrap()($($argument,)* &raw mut texts.error) };
        (status, texts)
    }};
}
pub(crate) use call;

/// A strategy of the table as one of core.
pub(crate) struct Loopback {
    table: &'static lf_strategy_v1,
    instance: Arc<Instance>,
    info: StrategyInfo,
}

// SAFETY: the table is constant.
unsafe impl Send for Loopback {}
// SAFETY: as above.
unsafe impl Sync for Loopback {}

struct Instance(&'static lf_strategy_v1, *mut lf_instance);
// SAFETY: an instance may be used by all threads.
unsafe impl Send for Instance {}
// SAFETY: as above.
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the last user is gone.
        unsafe { self.0.destroy.unwrap()(self.1) };
    }
}

impl Loopback {
    /// `info` is that of the strategy when it is used directly.
    pub(crate) fn new(id: &str, params: &str, info: StrategyInfo) -> Result<Self> {
        let (table, mut instance) = (strategy(id), ptr::null_mut());
        let (status, texts) = call!(table, create, &raw const HOST.0, borrowed(params), &raw mut instance);
        texts.check(status)?;
        Ok(Self { table, instance: Arc::new(Instance(table, instance)), info })
    }

    pub(crate) fn instance(&self) -> *const lf_instance {
        self.instance.1
    }
}

impl Loopback {
    pub(crate) fn open(&self, session: &SessionInfo) -> Result<Sequence> {
        let bindings: Vec<_> = session
            .bindings
            .iter()
            .map(|b| lf_binding { role: borrowed(&b.role), source: borrowed(&b.source) })
            .collect();
        let width = session.vocabulary.width();
        let masked: Vec<u32> = (0..width as u32).filter(|&id| !session.vocabulary.contains(id)).collect();
        let session = lf_session {
            struct_size: size_of::<lf_session>() as u32,
            n_rows: bindings.len() as u32,
            bindings: bindings.as_ptr(),
            width: width as u64,
            masked: masked.as_ptr(),
            n_masked: masked.len() as u64,
        };
        let mut state = ptr::null_mut();
        let (status, texts) = call!(self.table, state_new, self.instance.1, &raw const session, &raw mut state);
        texts.check(status)?;
        Ok(Sequence { table: self.table, state, instance: self.instance.clone() })
    }

    /// A sequence of one base and one expert over two ids.
    pub(crate) fn start_two(&self) -> Result<Sequence> {
        let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
        let bindings = vec![binding("base"), binding("expert")];
        self.open(&SessionInfo::new(bindings, SharedVocabulary::new(2, [])))
    }
}

impl FusionStrategy for Loopback {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.open(session)?))
    }
}

pub(crate) struct Sequence {
    pub(crate) table: &'static lf_strategy_v1,
    pub(crate) state: *mut lf_state,
    instance: Arc<Instance>,
}
// SAFETY: a state may move between threads.
unsafe impl Send for Sequence {}

impl Drop for Sequence {
    fn drop(&mut self) {
        // SAFETY: it is not used any more.
        unsafe { self.table.state_free.unwrap()(self.state) };
    }
}

/// A step in C, with the arrays that it points to.
pub(crate) fn with_step<T>(
    rows: &[RoleRow<'_>],
    committed: &[TokenId],
    out: &mut FusedRow<'_>,
    f: impl FnOnce(&mut lf_step, &mut lf_out) -> T,
) -> T {
    let width = out.logits.len() as u64;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| lf_row {
            logits: row.logits().as_ptr(),
            log_normaliser: row.log_normaliser,
            sequence_log_prob: row.sequence_log_prob,
        })
        .collect();
    let mut step = lf_step {
        struct_size: size_of::<lf_step>() as u32,
        n_rows: rows.len() as u32,
        rows: rows.as_ptr(),
        width,
        committed: committed.as_ptr(),
        n_committed: committed.len() as u64,
    };
    let mut out = lf_out {
        struct_size: size_of::<lf_out>() as u32,
        n_trace: out.trace.len() as u32,
        logits: out.logits.as_mut_ptr(),
        width,
        trace: out.trace.as_mut_ptr(),
    };
    f(&mut step, &mut out)
}

impl FusionState for Sequence {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let (status, texts) = with_step(step.rows(), step.committed, out, |step, out| {
            call!(self.table, fuse, self.state, &raw const *step, &raw mut *out)
        });
        texts.check(status)
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        let mut settled = 0;
        let (status, texts) = with_step(&[*lead], committed, out, |step, out| {
            call!(self.table, settle, self.state, &raw const *step, &raw mut *out, &raw mut settled)
        });
        texts.check(status)?;
        Ok(settled == 1)
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        let (status, texts) = call!(self.table, commit, self.state, tokens.as_ptr(), tokens.len() as u64);
        texts.check(status)
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        let (status, texts) = call!(self.table, rollback, self.state, n as u64);
        texts.check(status)
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        let mut state = ptr::null_mut();
        let (status, texts) = call!(self.table, state_fork, self.state.cast_const(), &raw mut state);
        texts.check(status)?;
        Ok(Box::new(Sequence { table: self.table, state, instance: self.instance.clone() }))
    }
}

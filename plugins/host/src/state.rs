//! A strategy's state behind core's `FusionState`: every call's status is checked, and every row is validated.

#![expect(unsafe_code, reason = "calls functions of a plugin")]

use std::{
    ptr::{self, NonNull},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use logitfuse_core::{Error, ErrorKind, FusedRow, FusionState, FusionStep, PromptScore, Result, RoleRow, TokenId};
use logitfuse_plugin_abi::{
    LF_E_PANIC, LF_OK, lf_error, lf_out, lf_prompt_score, lf_row, lf_state, lf_status, lf_step,
};
use smallvec::SmallVec;

use crate::{
    FpControl, LogLevel, OnError,
    fenv::control_bits_changed,
    ffi::{ErrorBuffers, size_u32},
    host_table::tell,
    strategy::{Session, Shared},
    validate_row,
};

pub(crate) struct PluginState {
    shared: Arc<Shared>,
    session: Arc<Session>,
    state: NonNull<lf_state>,
    /// Why this state takes no further calls.
    poisoned: Option<String>,
    /// Whether the log says that rows of the base were used.
    logged: bool,
    /// How many rows were those of the base.
    fallbacks: usize,
    buffers: Box<ErrorBuffers>,
}

// SAFETY: by the ABI a state may be used by any thread, one at a time, which `&mut` and the missing `Sync` see to. `fork` takes
// `&self` and calls a `[state]` function; without `Sync` no other thread can call at the same time.
unsafe impl Send for PluginState {}

impl Drop for PluginState {
    fn drop(&mut self) {
        // A state that panicked half-way may free twice what it half freed. Leaking it is safe.
        if self.poisoned.is_none() {
            self.shared.free(self.state);
        }
    }
}

/// The calls that write a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Fuse,
    Settle,
}

/// Rows as C sees them; more than so many allocate.
type Inputs = SmallVec<[lf_row; 8]>;

fn inputs(rows: &[RoleRow<'_>]) -> Inputs {
    let input = |row: &RoleRow<'_>| lf_row {
        logits: row.logits().as_ptr(),
        log_normaliser: row.log_normaliser,
        sequence_log_prob: row.sequence_log_prob,
    };
    rows.iter().map(input).collect()
}

/// A step over these rows and tokens, which must outlive it.
fn c_step(inputs: &Inputs, width: usize, committed: &[TokenId]) -> lf_step {
    lf_step {
        struct_size: size_u32::<lf_step>(),
        n_rows: u32::try_from(inputs.len()).unwrap_or(u32::MAX),
        rows: inputs.as_ptr(),
        width: width as u64,
        committed: committed.as_ptr(),
        n_committed: committed.len() as u64,
    }
}

impl PluginState {
    pub(crate) fn start(shared: &Arc<Shared>, session: Arc<Session>) -> Result<Self> {
        let mut buffers = ErrorBuffers::new();
        let state = shared.state_new(&session, &mut buffers)?;
        let shared = Arc::clone(shared);
        Ok(Self { shared, session, state, poisoned: None, logged: false, fallbacks: 0, buffers })
    }

    /// Calls `fuse` or `settle`; whether the row is to be used.
    fn write(
        &mut self,
        call: Call,
        rows: &[RoleRow<'_>],
        committed: &[TokenId],
        out: &mut FusedRow<'_>,
    ) -> Result<bool> {
        let width = out.logits.len();
        let columns = out.trace.len();
        if rows.iter().any(|row| row.logits().len() != width) || (columns != 0 && columns != self.shared.columns) {
            let what = format!("a step whose rows differ in length, or with {columns} trace columns");
            return Err(Error::new(ErrorKind::Internal, what));
        }
        let inputs = inputs(rows);
        let step = c_step(&inputs, width, committed);
        // Costs a write of the row and spares the plugin as many misses: what it writes is in the cache then.
        validate_row::prepare(out.logits);
        out.trace.fill(f64::NAN);
        let mut answer = lf_out {
            struct_size: size_u32::<lf_out>(),
            n_trace: u32::try_from(columns).unwrap_or(0),
            logits: out.logits.as_mut_ptr(),
            width: width as u64,
            trace: out.trace.as_mut_ptr(),
        };
        let (table, state) = (&self.shared.table, self.state.as_ptr());
        let mut settled = 1;
        let mut err = self.buffers.lend();
        let start = Instant::now();
        let (status, changed) = FpControl::guard(|| match call {
            Call::Fuse => table.fuse.map(|fuse| {
                // SAFETY: the state is this table's and not poisoned, and `&mut self` makes this its only call. Step, rows and
                // tokens are borrowed for the call; `out` is exclusive, so it overlaps none of them, and has `width` and
                // `n_trace` elements.
                unsafe { fuse(state, &raw const step, &raw mut answer, &raw mut err) }
            }),
            Call::Settle => table.settle.map(|settle| {
                // SAFETY: as for `fuse`; `settled` lives on this stack.
                unsafe { settle(state, &raw const step, &raw mut answer, &raw mut settled, &raw mut err) }
            }),
        });
        if call == Call::Fuse {
            self.shared.usage.timing.record(start.elapsed());
        }
        let Some(status) = status else { return Ok(false) };
        self.outcome(status, changed, &err, if call == Call::Fuse { "fuse" } else { "settle" })?;
        if settled == 1 {
            validate_row::check(out.logits)?;
        }
        Ok(settled == 1)
    }

    /// Calls `read_prompt` with the token that follows, or `begin` with scores.
    fn prompt(&mut self, step: &FusionStep<'_>, call: Prompt<'_>) -> Result<()> {
        let width = self.session.width;
        if step.rows().iter().any(|row| row.logits().len() != width) {
            return Err(Error::new(ErrorKind::Internal, "a prompt whose rows differ in length from the session's"));
        }
        let inputs = inputs(step.rows());
        let step = c_step(&inputs, width, step.committed);
        let (functions, strategy, state) = (self.shared.extensions.prompt, self.shared.original, self.state.as_ptr());
        let mut err = self.buffers.lend();
        let ((status, changed), name) = match call {
            Prompt::Next(next) => {
                let Some(read) = functions.read_prompt else { return Ok(()) };
                let called = FpControl::guard(|| {
                    // SAFETY: the state is this plugin's and not poisoned, `&mut self` makes this its only call, and step and
                    // rows are borrowed for it.
                    unsafe { read(strategy, state, &raw const step, next, &raw mut err) }
                });
                (called, "read_prompt")
            }
            Prompt::End(scores) => {
                let Some(begin) = functions.begin else { return Ok(()) };
                let score =
                    |score: &PromptScore| lf_prompt_score { log_prob: score.log_prob, tokens: score.tokens as u64 };
                let scores: SmallVec<[lf_prompt_score; 8]> = scores.iter().map(score).collect();
                let called = FpControl::guard(|| {
                    // SAFETY: as for `read_prompt`; the scores live on this stack.
                    unsafe {
                        begin(strategy, state, &raw const step, scores.as_ptr(), scores.len() as u64, &raw mut err)
                    }
                });
                (called, "begin")
            }
        };
        self.outcome(status, changed, &err, name)
    }

    /// The result of a call; that it changed control bits is an error, too. A panic poisons the state.
    fn outcome(&mut self, status: lf_status, changed: bool, err: &lf_error, call: &str) -> Result<()> {
        if status == LF_OK {
            return if changed { Err(control_bits_changed()) } else { Ok(()) };
        }
        let failure = self.buffers.read(err, status, call);
        if status == LF_E_PANIC {
            self.poisoned = Some(failure.message.clone());
        }
        Err(failure.into_error())
    }

    /// Refuses to go on with a state that panicked.
    fn check_poison(&self) -> Result<()> {
        let Some(why) = &self.poisoned else { return Ok(()) };
        Err(Error::new(ErrorKind::Backend, format!("is not called again after an earlier failure: {why}"))
            .with_help("this is a bug of the plugin; on_error = \"fallback_to_base\" goes on without it"))
    }

    /// The base's row in place of the fused one.
    fn fall_back(&mut self, error: &Error, rows: &[RoleRow<'_>], out: &mut FusedRow<'_>) {
        if let Some(base) = rows.get(self.session.base).or_else(|| rows.first()) {
            out.logits.copy_from_slice(base.logits());
        }
        out.trace.fill(f64::NAN);
        self.fallbacks += 1;
        self.shared.usage.fallbacks.fetch_add(1, Ordering::Relaxed);
        if !self.logged {
            self.logged = true;
            tell(LogLevel::Error, &self.shared.plugin, &format!("{error}; the base goes on alone"));
        }
    }

    fn lenient(&self) -> bool {
        self.shared.on_error == OnError::FallbackToBase
    }

    /// An error of a call that changes the state's memory, which can no longer be trusted: the base takes over, or the error
    /// ends the text.
    fn poison_or_fail(&mut self, error: Error, call: &str) -> Result<()> {
        let error = self.shared.in_call(error, call);
        if !self.lenient() {
            return Err(error);
        }
        if self.poisoned.is_none() {
            self.poisoned = Some(error.to_string());
        }
        Ok(())
    }

    fn missing(&self, verb: &str, wants: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("plugin {}: has a memory and cannot {verb}", self.shared.name))
            .with_help(format!("{wants} needs it; the plugin's table has no such function"))
    }
}

/// What a prompt call is about.
#[derive(Clone, Copy)]
enum Prompt<'a> {
    /// A position within the prompt, and the token that follows.
    Next(TokenId),
    /// The end.
    End(&'a [PromptScore]),
}

impl FusionState for PluginState {
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        if self.poisoned.is_some() && self.lenient() {
            return Ok(());
        }
        let called = self.check_poison().and_then(|()| self.prompt(step, Prompt::Next(next)));
        called.or_else(|e| self.poison_or_fail(e, "read_prompt"))
    }

    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        if self.poisoned.is_some() && self.lenient() {
            return Ok(());
        }
        let called = self.check_poison().and_then(|()| self.prompt(step, Prompt::End(prompt)));
        called.or_else(|e| self.poison_or_fail(e, "begin"))
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let called = self.check_poison().and_then(|()| self.write(Call::Fuse, step.rows(), step.committed, out));
        let Err(error) = called else { return Ok(()) };
        let error = self.shared.in_call(error, &format!("fuse at position {}", step.committed.len()));
        if !self.lenient() {
            return Err(error);
        }
        self.fall_back(&error, step.rows(), out);
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        if self.shared.table.settle.is_none() || (self.lenient() && self.poisoned.is_some()) {
            return Ok(false);
        }
        match self.check_poison().and_then(|()| self.write(Call::Settle, &[*lead], committed, out)) {
            // With all rows at hand, `fuse` fails in the same way or does better.
            Err(_) if self.lenient() => Ok(false),
            Err(error) => Err(self.shared.in_call(error, &format!("settle at position {}", committed.len()))),
            Ok(settled) => Ok(settled),
        }
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        let Some(commit) = self.shared.table.commit else { return Ok(()) };
        if self.poisoned.is_some() && self.lenient() {
            return Ok(());
        }
        self.check_poison().map_err(|e| self.shared.in_call(e, "commit"))?;
        let mut err = self.buffers.lend();
        let (status, changed) = FpControl::guard(|| {
            // SAFETY: the state is this table's and not poisoned, `&mut self` makes this its only call, and the tokens are
            // borrowed for it.
            unsafe { commit(self.state.as_ptr(), tokens.as_ptr(), tokens.len() as u64, &raw mut err) }
        });
        self.outcome(status, changed, &err, "commit").or_else(|e| self.poison_or_fail(e, "commit"))
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        if self.shared.table.commit.is_none() || n == 0 || (self.poisoned.is_some() && self.lenient()) {
            return Ok(());
        }
        let Some(rollback) = self.shared.table.rollback else { return Err(self.missing("roll back", "speculation")) };
        self.check_poison().map_err(|e| self.shared.in_call(e, "rollback"))?;
        let mut err = self.buffers.lend();
        let (status, changed) = FpControl::guard(|| {
            // SAFETY: the state is this table's and not poisoned, and `&mut self` makes this its only call.
            unsafe { rollback(self.state.as_ptr(), n as u64, &raw mut err) }
        });
        self.outcome(status, changed, &err, "rollback").or_else(|e| self.poison_or_fail(e, "rollback"))
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        let (shared, session) = (&self.shared, Arc::clone(&self.session));
        if self.lenient() && self.poisoned.is_some() {
            let mut fork = Self::start(shared, session)?;
            fork.poisoned.clone_from(&self.poisoned);
            fork.fallbacks = self.fallbacks;
            return Ok(Box::new(fork));
        }
        self.check_poison().map_err(|e| shared.in_call(e, "fork"))?;
        // Without a memory, and without a prompt to remember, a fresh state is a copy.
        if shared.table.commit.is_none() && shared.extensions.prompt.begin.is_none() {
            return Ok(Box::new(Self::start(shared, session)?));
        }
        let Some(fork) = shared.table.state_fork else {
            return Err(self.missing("be copied", "search over several texts"));
        };
        let mut buffers = ErrorBuffers::new();
        let mut err = buffers.lend();
        let mut state: *mut lf_state = ptr::null_mut();
        let (status, changed) = FpControl::guard(|| {
            // SAFETY: the state is this table's and not poisoned; it is not `Sync`, so this is its only call.
            unsafe { fork(self.state.as_ptr(), &raw mut state, &raw mut err) }
        });
        let state = shared.made(status, changed, state, &err, &buffers, "fork")?;
        let (shared, logged, fallbacks) = (Arc::clone(shared), self.logged, self.fallbacks);
        Ok(Box::new(Self { shared, session, state, poisoned: None, logged, fallbacks, buffers }))
    }

    fn fallbacks(&self) -> usize {
        self.fallbacks
    }
}

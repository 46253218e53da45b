//! A strategy's instance behind core's `FusionStrategy`.

#![expect(unsafe_code, reason = "calls functions of a plugin")]

use std::{
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use logitfuse_core::{
    CalibrationRows, Error, ErrorKind, FusionGraph, FusionState, FusionStrategy, Result, SessionInfo, StrategyInfo,
};
use logitfuse_plugin_abi::{LF_E_PANIC, LF_OK, lf_binding, lf_buf, lf_instance, lf_session, lf_state, lf_strategy_v1};
use serde_json::Value;

use crate::{
    FpControl, OnError, StrategyMetadata, Timing,
    calibration::calibrate,
    extensions::Extensions,
    faults::{guard_silent, of_plugin},
    fenv::control_bits_changed,
    ffi::{self, ErrorBuffers, size_u32},
    library::{Library, Table},
    metadata::describe,
    state::PluginState,
};

/// In bytes; more than a description can need. A plugin that asks for more is refused.
const LARGEST_DESCRIPTION: u64 = 1 << 20;

/// A strategy of a plugin, with its parameters: core's [`FusionStrategy`], as a built-in one is.
pub struct PluginStrategy {
    shared: Arc<Shared>,
    info: StrategyInfo,
}

/// How a strategy's calls went, over all of its states, before it was calibrated and after.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) timing: Timing,
    pub(crate) fallbacks: AtomicU64,
}

/// What all states of an instance share. Freed, with the instance, after the last of them.
pub(crate) struct Shared {
    /// `org.example.kl/kl-constrained`, for messages.
    pub(crate) name: String,
    pub(crate) plugin: String,
    pub(crate) table: lf_strategy_v1,
    /// The plugin's own table, by which its extensions are told the strategy.
    pub(crate) original: *const lf_strategy_v1,
    pub(crate) extensions: Extensions,
    pub(crate) instance: NonNull<lf_instance>,
    pub(crate) on_error: OnError,
    pub(crate) columns: usize,
    pub(crate) usage: Arc<Usage>,
    // Last, so that the instance goes before its code could; the code in fact never goes.
    library: Arc<Library>,
}

// SAFETY: the plugin's table is constant. By the ABI an instance is immutable once created, and its functions `state_new` and `describe` are `[any]`; `destroy`
// is `[once]`, which `Drop` is. Everything else in here is `Send` and `Sync` by itself.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.destroy {
            guard_silent(&self.name, "destroy", || {
                // SAFETY: the instance came from this table's `create` and goes here and nowhere else; every state holds an
                // `Arc` of this, so none is left.
                unsafe { destroy(self.instance.as_ptr()) };
            });
        }
    }
}

impl PluginStrategy {
    pub(crate) fn create(
        library: &Arc<Library>,
        index: usize,
        plugin: &str,
        described: &StrategyMetadata,
        params: &Value,
        on_error: OnError,
    ) -> Result<Self> {
        let absent =
            || Error::new(ErrorKind::Internal, format!("plugin {plugin}: a validated table has lost a function"));
        let Table { functions: table, original } = *library.tables.get(index).ok_or_else(absent)?;
        let create = table.create.ok_or_else(absent)?;
        let params = params.to_string();
        let mut buffers = ErrorBuffers::new();
        let mut err = buffers.lend();
        let mut instance: *mut lf_instance = ptr::null_mut();
        let (status, changed) = FpControl::guard(|| {
            // SAFETY: `create` is of the table of a loaded library; the host table lives for ever, the other arguments for the
            // call.
            unsafe { create(ptr::from_ref(library.host), ffi::lend(&params), &raw mut instance, &raw mut err) }
        });
        if status != LF_OK {
            return Err(buffers.read(&err, status, "create").into_error());
        }
        let Some(instance) = NonNull::new(instance) else {
            return Err(Error::new(
                ErrorKind::Backend,
                format!("plugin {plugin}: create returned LF_OK and no instance"),
            )
            .with_help("this is a fault of the plugin"));
        };
        let mut shared = Shared {
            name: format!("{plugin}/{}", described.info.id),
            plugin: plugin.to_owned(),
            table,
            original,
            extensions: library.extensions.of_strategy(&described.capabilities),
            instance,
            on_error,
            columns: 0,
            usage: Arc::default(),
            library: Arc::clone(library),
        };
        // After the instance has an owner that frees it.
        if changed {
            return Err(shared.in_call(control_bits_changed(), "create"));
        }
        let info = shared.describe(&described.info)?;
        shared.extensions.suffice(&info).map_err(|e| e.context(format_args!("plugin {}", shared.name)))?;
        shared.columns = info.trace.len();
        Ok(Self { shared: Arc::new(shared), info })
    }

    /// The strategy of an instance that `calibrate` made of this one.
    fn fitted(&self, instance: *mut lf_instance) -> Result<Self> {
        let from = &self.shared;
        let Some(instance) = NonNull::new(instance) else {
            let what = format!("plugin {}: calibrate returned LF_OK and no instance", from.name);
            return Err(Error::new(ErrorKind::Backend, what).with_help("this is a fault of the plugin"));
        };
        let mut shared = Shared {
            name: from.name.clone(),
            plugin: from.plugin.clone(),
            table: from.table,
            original: from.original,
            extensions: from.extensions,
            instance,
            on_error: from.on_error,
            columns: 0,
            usage: Arc::clone(&from.usage),
            library: Arc::clone(&from.library),
        };
        let mut info = shared.describe(&self.info)?;
        info.calibration = None;
        shared.extensions.suffice(&info).map_err(|e| e.context(format_args!("plugin {}", shared.name)))?;
        shared.columns = info.trace.len();
        Ok(Self { shared: Arc::new(shared), info })
    }

    /// How long its calls of `fuse` took, over all states.
    pub fn timing(&self) -> &Timing {
        &self.shared.usage.timing
    }

    /// How many rows were those of the base because the plugin failed: above 0 only with [`OnError::FallbackToBase`].
    pub fn fallbacks(&self) -> u64 {
        self.shared.usage.fallbacks.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// What the instance says of itself, or what is known without asking.
    fn describe(&self, known: &StrategyInfo) -> Result<StrategyInfo> {
        let Some(describe_fn) = self.table.describe else { return Ok(known.clone()) };
        let mut buffers = ErrorBuffers::new();
        let mut text: Vec<u8> = Vec::new();
        // Once to learn the length, once to read.
        for _ in 0..2 {
            let mut err = buffers.lend();
            let mut json = lf_buf { ptr: text.as_mut_ptr().cast(), cap: text.len() as u64, len: 0 };
            let (status, changed) = FpControl::guard(|| {
                // SAFETY: a function of the table that made this instance; buffer and error live for the call, and `cap` bytes
                // can be written behind `ptr`.
                unsafe { describe_fn(self.instance.as_ptr(), &raw mut json, &raw mut err) }
            });
            if status != LF_OK {
                return Err(self.in_call(buffers.read(&err, status, "describe").into_error(), "describe"));
            }
            if changed {
                return Err(self.in_call(control_bits_changed(), "describe"));
            }
            if json.len > LARGEST_DESCRIPTION {
                let what = format!("plugin {}: describe wants {} bytes", self.name, json.len);
                return Err(Error::new(ErrorKind::Backend, what).with_help("this is a fault of the plugin"));
            }
            text.resize(usize::try_from(json.len).unwrap_or(0), 0);
        }
        let info = describe(&text).map_err(|e| self.in_call(e, "describe"))?;
        if info.id != known.id {
            let what = format!("plugin {}: describe calls it {}", self.name, info.id);
            return Err(Error::new(ErrorKind::InvalidData, what).with_help("this is a fault of the plugin"));
        }
        Ok(info)
    }

    /// The same error with the names of plugin and call.
    pub(crate) fn in_call(&self, error: Error, call: &str) -> Error {
        of_plugin(error.context(format_args!("plugin {}: {call}", self.name)))
    }

    /// Gives a state back.
    pub(crate) fn free(&self, state: NonNull<lf_state>) {
        if let Some(free) = self.table.state_free {
            guard_silent(&self.name, "state_free", || {
                // SAFETY: the callers own the state, which came from this table, and use it no more; its instance is still there.
                unsafe { free(state.as_ptr()) };
            });
        }
    }

    /// A fresh state.
    pub(crate) fn state_new(&self, session: &Session, buffers: &mut ErrorBuffers) -> Result<NonNull<lf_state>> {
        let call = "state_new";
        let new = self
            .table
            .state_new
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a validated table has lost state_new"))?;
        let mut err = buffers.lend();
        let mut state: *mut lf_state = ptr::null_mut();
        let (status, changed) = session.with_c(|session| {
            // SAFETY: a function of the table that made this instance; the session and all that it points to live for the call.
            FpControl::guard(|| unsafe { new(self.instance.as_ptr(), session, &raw mut state, &raw mut err) })
        });
        self.made(status, changed, state, &err, buffers, call)
    }

    /// The state that a call made, or its error.
    pub(crate) fn made(
        &self,
        status: i32,
        changed: bool,
        state: *mut lf_state,
        err: &logitfuse_plugin_abi::lf_error,
        buffers: &ErrorBuffers,
        call: &str,
    ) -> Result<NonNull<lf_state>> {
        if status != LF_OK {
            let error = buffers.read(err, status, call).into_error();
            // What a strategy says of roles and sources reads as if it were built in.
            return Err(if status == LF_E_PANIC { self.in_call(error, call) } else { of_plugin(error) });
        }
        let state = NonNull::new(state).ok_or_else(|| {
            let what = format!("plugin {}: {call} returned LF_OK and no state", self.name);
            of_plugin(Error::new(ErrorKind::Backend, what).with_help("this is a fault of the plugin"))
        })?;
        if changed {
            self.free(state);
            return Err(self.in_call(control_bits_changed(), call));
        }
        Ok(state)
    }
}

/// A session in the form that a plugin is told it, kept for forks of strategies without memory.
pub(crate) struct Session {
    bindings: Vec<(String, String)>,
    masked: Vec<u32>,
    pub(crate) width: usize,
    /// The row that takes the place of a failed one.
    pub(crate) base: usize,
}

impl Session {
    fn new(session: &SessionInfo) -> Self {
        let vocabulary = &session.vocabulary;
        let width = vocabulary.width();
        let mut masked = Vec::new();
        if vocabulary.count() < width {
            let mut row = vec![0.0; width];
            vocabulary.mask(&mut row);
            masked.extend((0_u32..).zip(&row).filter(|(_, x)| **x < 0.0).map(|(id, _)| id));
        }
        let bindings = session.bindings.iter().map(|b| (b.role.clone(), b.source.clone())).collect();
        Self { bindings, masked, width, base: session.row_of("base").unwrap_or(0) }
    }

    /// How many rows every step has.
    pub(crate) fn bindings(&self) -> usize {
        self.bindings.len()
    }

    /// Lends it to a call in C. The pointer is valid within `call` only.
    pub(crate) fn with_c<T>(&self, call: impl FnOnce(*const lf_session) -> T) -> T {
        let bindings: Vec<lf_binding> = self
            .bindings
            .iter()
            .map(|(role, source)| lf_binding { role: ffi::lend(role), source: ffi::lend(source) })
            .collect();
        let session = lf_session {
            struct_size: size_u32::<lf_session>(),
            n_rows: u32::try_from(bindings.len()).unwrap_or(u32::MAX),
            bindings: bindings.as_ptr(),
            width: self.width as u64,
            masked: self.masked.as_ptr(),
            n_masked: self.masked.len() as u64,
        };
        call(&raw const session)
    }
}

impl FusionStrategy for PluginStrategy {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(PluginState::start(&self.shared, Arc::new(Session::new(session)))?))
    }

    fn calibrated(
        &self,
        session: &SessionInfo,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        if self.shared.extensions.calibration.calibrate.is_none() {
            let what = format!("strategy `{}` takes no calibration prompts", self.info.id);
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("leave `calibration` out of the sources"));
        }
        let (instance, changed) = calibrate(&self.shared, &Session::new(session), rows_after)?;
        // Made before anything is refused, so that it is freed.
        let fitted = self.fitted(instance)?;
        if changed {
            return Err(self.shared.in_call(control_bits_changed(), "calibrate"));
        }
        Ok(Arc::new(fitted))
    }

    fn lower(&self, _session: &SessionInfo) -> Result<FusionGraph> {
        let what = format!("strategy `{}` is a plugin: machine code, which no file of arrays can hold", self.info().id);
        Err(Error::new(ErrorKind::Unsupported, what).with_help("export a built-in strategy"))
    }
}

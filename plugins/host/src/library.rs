//! From bytes to a table of functions that may be called.

#![expect(unsafe_code, reason = "runs foreign code and reads foreign memory")]

use std::{
    collections::BTreeMap,
    mem::ManuallyDrop,
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use libloading::Library as Handle;
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_plugin_abi::{ABI_MINOR, ENTRY_SYMBOL, end_of, lf_plugin_entry, lf_plugin_v1, lf_strategy_v1};

use crate::{
    FpControl, Hash, PluginFile,
    extensions::Extensions,
    fenv::control_bits_changed,
    ffi::{self, ErrorBuffers},
    host_table,
    image::Image,
};

/// No table of this major is anywhere near as large; what claims to be is not a table.
const LARGEST_STRUCT: u32 = 1 << 14;

/// The table of one strategy.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    /// A copy, in which absent functions are null.
    pub(crate) functions: lf_strategy_v1,
    /// The plugin's own, by which extensions are told the strategy. Not read again.
    pub(crate) original: *const lf_strategy_v1,
}

/// A loaded library. It stays loaded until the process ends: thread-local destructors, threads and pointers into its code
/// make unloading unsound, and no loader promises to do it.
pub(crate) struct Library {
    /// The checked table of each strategy, in the order of the metadata.
    pub(crate) tables: Vec<Table>,
    /// The extensions of the plugin that the host calls.
    pub(crate) extensions: Extensions,
    /// What the library was given as its host.
    pub(crate) host: &'static logitfuse_plugin_abi::lf_host_v1,
    _handle: ManuallyDrop<Handle>,
    _image: ManuallyDrop<Image>,
}

// SAFETY: the tables and extensions are copies of constants. Their functions may be called from any thread, as far as the ABI says so of
// each; instances and states, which carry the restrictions, are other types. The host table is constant as well, and its
// functions are `[any]`. The handle is never used after loading.
unsafe impl Send for Library {}
// SAFETY: as above; nothing here changes after loading.
unsafe impl Sync for Library {}

/// The libraries of this process. The same bytes are loaded once, so a plugin's own statics exist once.
static LOADED: Mutex<BTreeMap<Hash, Arc<Library>>> = Mutex::new(BTreeMap::new());

impl Library {
    /// Loads these bytes, or hands out what was loaded from them before.
    pub(crate) fn load(file: &PluginFile) -> Result<Arc<Self>> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = loaded.get(&file.hash()) {
            return Ok(Arc::clone(library));
        }
        let library = Arc::new(Self::open(file)?);
        loaded.insert(file.hash(), Arc::clone(&library));
        Ok(library)
    }

    fn open(file: &PluginFile) -> Result<Self> {
        let image = Image::new(file.bytes())?;
        // Not dropped on any path, also not where the checks below fail: constructors have run, and the image's number must
        // not be used again.
        crate::exit::plugins_run();
        let (opened, changed) = FpControl::guard(|| open(&image));
        let (handle, image) = (ManuallyDrop::new(opened?), ManuallyDrop::new(image));
        if changed {
            return Err(control_bits_changed().context("its constructor, or one of a library that it needs").with_help(
                "rounding mode and flush-to-zero belong to the host; gcc adds such a constructor to what is linked with \
                 -ffast-math, -Ofast or -funsafe-math-optimizations: link without",
            ));
        }
        let host = host_table::new(&file.metadata().id);
        let plugin = enter(&handle, host)?;
        let tables = Self::tables(file, &plugin)?;
        Self::same_metadata(file, &plugin)?;
        let extensions = Extensions::of(&plugin)?;
        Ok(Self { tables, extensions, host, _handle: handle, _image: image })
    }

    fn tables(file: &PluginFile, plugin: &lf_plugin_v1) -> Result<Vec<Table>> {
        let described = &file.metadata().strategies;
        if plugin.n_strategies != described.len() as u64 {
            let what =
                format!("the table has {} strategies, and the metadata has {}", plugin.n_strategies, described.len());
            return Err(broken(what));
        }
        if plugin.strategies.is_null() || !plugin.strategies.is_aligned() {
            return Err(broken("the list of strategies is null".to_owned()));
        }
        let mut tables = Vec::new();
        for (index, described) in described.iter().enumerate() {
            let id = &described.info.id;
            // SAFETY: not null, aligned, and by the ABI the first of `n_strategies` pointers; `index` is below that.
            let original = unsafe { *plugin.strategies.add(index) };
            // SAFETY: by the ABI null, or the start of a constant `lf_strategy_v1` of some minor.
            let table = unsafe {
                prefix::<lf_strategy_v1>(original, end_of!(lf_strategy_v1, fuse), &format!("strategy {id}"))
            }?;
            // SAFETY: by the ABI a constant text, in a table that is valid for ever.
            if unsafe { ffi::bytes(table.id) } != Some(id.as_bytes()) {
                return Err(broken(format!(
                    "strategy {index}: the table has another id than the metadata, which says {id}"
                )));
            }
            let required = [
                ("create", table.create.is_none()),
                ("destroy", table.destroy.is_none()),
                ("state_new", table.state_new.is_none()),
                ("state_free", table.state_free.is_none()),
                ("fuse", table.fuse.is_none()),
            ];
            if let Some((name, _)) = required.iter().find(|(_, missing)| *missing) {
                return Err(broken(format!("strategy {id}: the required function {name} is null")));
            }
            tables.push(Table { functions: table, original });
        }
        Ok(tables)
    }

    /// A library whose running part describes something else than its readable part was patched or miscompiled.
    fn same_metadata(file: &PluginFile, plugin: &lf_plugin_v1) -> Result<()> {
        let object = crate::object_file::ObjectFile::parse(file.bytes())?;
        let section = object.metadata.unwrap_or_default();
        let end = section.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        // SAFETY: by the ABI a constant text, in a table that is valid for ever.
        let running = unsafe { ffi::bytes(plugin.meta) };
        if running == Some(&section[..end]) {
            return Ok(());
        }
        Err(broken("the metadata that the entry returns differ from those in section .lfmeta".to_owned()))
    }
}

#[cfg(unix)]
fn open(image: &Image) -> Result<Handle> {
    use libloading::os::unix::{Library as Unix, RTLD_LOCAL, RTLD_NOW};

    // SAFETY: runs the library's constructors, which nothing can make safe: a plugin that is named is trusted, and the trust
    // policy was asked. `RTLD_NOW`, so that a missing symbol fails here and not in the middle of a text; `RTLD_LOCAL`, so that
    // it defines nothing for others.
    let handle = unsafe { Unix::open(Some(image.path()), RTLD_NOW | RTLD_LOCAL) };
    handle.map(Handle::from).map_err(|e| refused(&e))
}

#[cfg(not(unix))]
fn open(image: &Image) -> Result<Handle> {
    // SAFETY: runs the library's constructors, which nothing can make safe: a plugin that is named is trusted, and the trust
    // policy was asked.
    unsafe { Handle::new(image.path()) }.map_err(|e| refused(&e))
}

/// The loader's error, with a remedy for the usual ones.
fn refused(e: &libloading::Error) -> Error {
    // The error itself names the function that failed, its source is what the loader said.
    let said = std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string);
    let help = if said.contains("GLIBC") || said.contains("GLIBCXX") {
        "it was built against a newer C library than this machine has; build it on an older system"
    } else if said.contains("undefined symbol") || said.contains("symbol not found") {
        "it was linked without a library that it needs; link with -Wl,--no-undefined to find out when building"
    } else if said.contains("static TLS") {
        "its thread-local storage does not fit into a running process; build it with -ftls-model=global-dynamic"
    } else if said.contains("cannot open shared object") {
        "it needs another library that is not installed; `ldd FILE` names it"
    } else if said.contains("Dynamic loading not supported") {
        "this logitfuse is a static binary, which cannot load libraries; use one that was linked with a C library"
    } else {
        "the system's loader refuses the library"
    };
    // The name of the private copy is of no use in a message.
    let said = said.split_once("/proc/self/fd/").map_or(said.as_str(), |(_, rest)| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(": ")
    });
    Error::new(ErrorKind::Backend, format!("cannot be loaded: {said}")).with_help(help)
}

/// Calls the entry.
fn enter(handle: &Handle, host: &'static logitfuse_plugin_abi::lf_host_v1) -> Result<lf_plugin_v1> {
    let missing = |e: libloading::Error| broken(format!("{ENTRY_SYMBOL} cannot be found: {e}"));
    // SAFETY: by the ABI the symbol of this name is a function of this type.
    let entry = unsafe { handle.get::<lf_plugin_entry>(ENTRY_SYMBOL.as_bytes()) }.map_err(missing)?;
    let mut buffers = ErrorBuffers::new();
    let mut err = buffers.lend();
    let (plugin, changed) = FpControl::guard(|| {
        // SAFETY: a function of a library that stays loaded; the host table lives for ever, the error for this call.
        unsafe { entry(ptr::from_ref(host), &raw mut err) }
    });
    if plugin.is_null() {
        let failure = buffers.read(&err, logitfuse_plugin_abi::LF_E_INTERNAL, ENTRY_SYMBOL);
        return Err(if err.message.len == 0 {
            broken(format!("{ENTRY_SYMBOL} returned null without a message"))
        } else {
            failure.into_error().context("refuses to start")
        });
    }
    if changed {
        return Err(control_bits_changed().context(ENTRY_SYMBOL));
    }
    // SAFETY: by the ABI null, which it is not, or the start of a constant `lf_plugin_v1` of some minor.
    let plugin = unsafe { prefix::<lf_plugin_v1>(plugin, end_of!(lf_plugin_v1, strategies), "the plugin's table") }?;
    if plugin.abi_minor > ABI_MINOR {
        let what = format!("needs ABI 1.{}, and this host speaks up to 1.{ABI_MINOR}", plugin.abi_minor);
        return Err(Error::new(ErrorKind::Incompatible, what)
            .with_help("use a newer logitfuse, or rebuild the plugin with an older SDK"));
    }
    Ok(plugin)
}

/// A struct as this host knows it, out of one that may end earlier or later: members that the other side does not have are
/// zero, which is null.
///
/// # Safety
/// `from` is null, or points to a struct that begins as `T` does, with its size in its first four bytes, of which so many
/// bytes can be read. `T` is a `repr(C)` struct whose members may all be zero.
pub(crate) unsafe fn prefix<T: Copy>(from: *const T, required: usize, what: &str) -> Result<T> {
    if from.is_null() {
        return Err(broken(format!("{what} is null")));
    }
    if !from.is_aligned() {
        return Err(broken(format!("{what} is not aligned")));
    }
    // SAFETY: not null and aligned; the caller promises that the first four bytes are its size.
    let size = unsafe { from.cast::<u32>().read() };
    if (size as usize) < required || size > LARGEST_STRUCT {
        return Err(broken(format!("{what}: struct_size is {size}, and {required} or more are needed")));
    }
    let mut known = std::mem::MaybeUninit::<T>::zeroed();
    // Members behind the first two have eight bytes; half of one is none.
    let copied = size_of::<T>().min(size as usize) & !7;
    // SAFETY: `copied` bytes can be read, as the caller promises, and fit into `known`, which is on this stack. Afterwards all
    // bytes of `known` are copied or zero, and the caller promises that zero is valid for every member.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), known.as_mut_ptr().cast::<u8>(), copied);
        Ok(known.assume_init())
    }
}

pub(crate) fn broken(what: String) -> Error {
    Error::new(ErrorKind::InvalidData, what)
        .with_help("this is a fault of the plugin; `logitfuse plugin check` lists all that it finds")
}

/// The optional functions of a table.
pub(crate) fn present(table: &lf_strategy_v1) -> Vec<&'static str> {
    let all = [
        ("commit", table.commit.is_some()),
        ("rollback", table.rollback.is_some()),
        ("fork", table.state_fork.is_some()),
        ("settle", table.settle.is_some()),
        ("describe", table.describe.is_some()),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

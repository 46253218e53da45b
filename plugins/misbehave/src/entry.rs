//! The two symbols, and the rules of loading.

use std::ptr;

use logitfuse_plugin_abi::{lf_error, lf_host_v1, lf_plugin_v1, lf_str, lf_strategy_v1};

use crate::strategy;

const META: &str = concat!(
    "LFMETA01",
    r#"{"abi":[1,0],"#,
    r#""plugin":{"id":"org.logitfuse.misbehave","version":"0.1.0","license":"MIT OR Apache-2.0","sdk":"none"},"#,
    r#""strategies":[{"id":"misbehave","summary":"breaks the rule that its parameter `mode` names","#,
    r#""equation":"fused = base + strength · (1 + memory) · (log p_expert − log p_base)","#,
    r#""roles":[{"name":"base","min":1,"max":1,"summary":"any model"},"#,
    r#"{"name":"expert","min":1,"max":1,"summary":"another"}],"#,
    r#""params":{"type":"object","additionalProperties":false,"properties":{"#,
    r#""mode":{"type":"string","description":"the rule to break; any other text breaks none","default":"good"},"#,
    r#""strength":{"type":"number","description":"how far to go","default":0.5,"minimum":0,"maximum":1}}},"#,
    r#""laws":["deterministic","shift-invariant","vocab-equivariant","mask-preserving","identity-at: strength=0"],"#,
    r#""trace":[{"name":"strength","unit":"1"}],"#,
    r#""capabilities":["commit","rollback","fork"]}]}"#,
);

const fn section<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < text.len() {
        bytes[i] = text.as_bytes()[i];
        i += 1;
    }
    bytes
}

/// The metadata.
#[unsafe(no_mangle)]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".lfmeta"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__lfmeta"))]
pub static LF_PLUGIN_META: [u8; META.len() + 1] = section(META);

fn asked_for(rule: &str) -> bool {
    std::env::var_os("LOGITFUSE_MISBEHAVE").is_some_and(|wanted| wanted == rule)
}

#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = {
    extern "C" fn constructor() {
        if asked_for("constructor-crashes") {
            std::process::abort();
        }
        while asked_for("constructor-hangs") {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }
    constructor
};

/// The entry.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lf_plugin_entry_v1(_host: *const lf_host_v1, err: *mut lf_error) -> *const lf_plugin_v1 {
    if asked_for("entry-refuses") {
        // SAFETY: the host's error lives for this call.
        unsafe { strategy::say(err, "", "no licence for this machine") };
        return ptr::null();
    }
    if asked_for("entry-returns-null") {
        return ptr::null();
    }
    let mut table = lf_strategy_v1 { id: lf_str::of("misbehave"), ..strategy::TABLE };
    if asked_for("function-missing") {
        table.fuse = None;
    }
    if asked_for("struct-size-small") {
        table.struct_size = 16;
    }
    if asked_for("struct-size-absurd") {
        table.struct_size = u32::MAX;
    }
    if asked_for("other-id") {
        table.id = lf_str::of("somebody-else");
    }
    if asked_for("rollback-absent") {
        table.rollback = None;
    }
    // A table of an earlier day, which ends behind `fuse`.
    if asked_for("short-table") {
        table.struct_size = u32::try_from(logitfuse_plugin_abi::end_of!(lf_strategy_v1, fuse)).unwrap_or(0);
    }
    let tables: &'static [*const lf_strategy_v1] = vec![ptr::from_ref(Box::leak(Box::new(table)))].leak();
    let meta = if asked_for("other-metadata") { "LFMETA01{}" } else { META };
    let plugin = lf_plugin_v1 {
        struct_size: u32::try_from(size_of::<lf_plugin_v1>()).unwrap_or(0),
        abi_minor: if asked_for("future-minor") { 7 } else { 0 },
        meta: lf_str::of(meta),
        n_strategies: if asked_for("strategies-miscounted") { 2 } else { 1 },
        strategies: tables.as_ptr(),
        get_extension: None,
    };
    if asked_for("table-misaligned") {
        let room = vec![0_u8; size_of::<lf_plugin_v1>() + 8].leak();
        let odd = room.as_ptr().addr() | 1;
        return room.as_ptr().with_addr(odd).cast();
    }
    ptr::from_ref(Box::leak(Box::new(plugin)))
}

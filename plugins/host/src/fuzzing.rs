//! Entry points for the fuzzing targets of `tests/fuzz`, to code that is otherwise reached through a loaded library only. Not
//! part of the public interface.

#![expect(unsafe_code, reason = "plays the part of a plugin")]

use std::ptr;

use logitfuse_plugin_abi::{end_of, lf_buf, lf_plugin_v1, lf_prompt_v1, lf_str, lf_strategy_v1};

use crate::{
    ffi::{ErrorBuffers, lend},
    host_table,
    library::{prefix, present},
};

/// A table that states any size and holds any bytes: only members within the stated size are there.
pub fn strategy_table(data: &[u8]) {
    // As many bytes as a valid table may state, all of them readable.
    let mut bytes = vec![0_u64; 1 << 11];
    for (word, chunk) in bytes.iter_mut().zip(data.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(padded);
    }
    let first = bytes[0].to_ne_bytes();
    let stated = u32::from_ne_bytes([first[0], first[1], first[2], first[3]]) as usize;
    // SAFETY: `bytes` is aligned, holds 16 KiB, the largest size that `prefix` accepts, and all three structs may be all zero. Their
    // functions are not called, and their pointers not followed.
    unsafe {
        if let Ok(table) = prefix::<lf_strategy_v1>(bytes.as_ptr().cast(), end_of!(lf_strategy_v1, fuse), "a table") {
            assert!(stated >= end_of!(lf_strategy_v1, fuse));
            assert!(stated >= end_of!(lf_strategy_v1, describe) || !present(&table).contains(&"describe"));
        }
        if let Ok(plugin) = prefix::<lf_plugin_v1>(bytes.as_ptr().cast(), end_of!(lf_plugin_v1, strategies), "a table")
        {
            assert!(stated >= end_of!(lf_plugin_v1, get_extension) || plugin.get_extension.is_none());
        }
        if let Ok(prompt) = prefix::<lf_prompt_v1>(bytes.as_ptr().cast(), end_of!(lf_prompt_v1, begin), "prompts") {
            assert!(stated >= end_of!(lf_prompt_v1, read_prompt) || prompt.read_prompt.is_none());
        }
    }
}

/// An error with any lengths and any text.
pub fn error(data: &[u8]) {
    let mut buffers = ErrorBuffers::new();
    let mut err = buffers.lend();
    let number = |at: usize| data.get(at..at + 8).map_or(0, |b| b.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b)));
    for (buffer, at) in [(&mut err.message, 0), (&mut err.path, 8), (&mut err.help, 16)] {
        let text = data.get(24..).unwrap_or_default();
        let fits = text.len().min(usize::try_from(buffer.cap).unwrap_or(0));
        // SAFETY: the buffer has `cap` bytes, and `fits` is at most that.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), buffer.ptr.cast(), fits) };
        buffer.len = number(at);
    }
    let error = buffers.read(&err, i32::from(data.first().copied().unwrap_or(1)), "fuse").into_error();
    assert!(!error.to_string().contains(char::is_control));
}

/// Every getter of `lf.config/1`, asked about any parameters with any pointer.
pub fn config(params: &[u8], pointer: &[u8]) {
    let borrow = |bytes: &[u8]| lf_str { ptr: bytes.as_ptr().cast(), len: bytes.len() as u64 };
    let (params, pointer) = (borrow(params), borrow(pointer));
    let config = host_table::CONFIG;
    let mut buffers = ErrorBuffers::new();
    let mut err = buffers.lend();
    let (mut x, mut n, mut on, mut count, mut bytes) = (0.0, 0, 0, 0, [0_u8; 3]);
    let mut text = lf_buf { ptr: bytes.as_mut_ptr().cast(), cap: bytes.len() as u64, len: 0 };
    let names = [lend("alpha"), lend("")];
    // SAFETY: texts, results, names and error live on this stack for all of the calls.
    unsafe {
        config.get_f64.map(|get| get(config.ctx, params, pointer, &raw mut x, &raw mut err));
        config.get_i64.map(|get| get(config.ctx, params, pointer, &raw mut n, &raw mut err));
        config.get_bool.map(|get| get(config.ctx, params, pointer, &raw mut on, &raw mut err));
        config.count.map(|get| get(config.ctx, params, pointer, &raw mut count, &raw mut err));
        config.get_str.map(|get| get(config.ctx, params, pointer, &raw mut text, &raw mut err));
        config.only_keys.map(|check| check(config.ctx, params, pointer, names.as_ptr(), 2, &raw mut err));
    }
    assert!(on <= 1);
}

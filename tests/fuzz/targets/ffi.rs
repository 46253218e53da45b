//! What a plugin may hand to the host: tables of any size with any function missing, errors with any lengths, questions
//! about any parameters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_plugin_host::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => fuzzing::strategy_table(data),
        1 => fuzzing::error(data),
        _ => {
            let cut = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
            fuzzing::config(&data[..cut], data.get(cut + 1..).unwrap_or_default());
        }
    }
});

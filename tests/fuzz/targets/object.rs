//! Any bytes as a library file: examined without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_plugin_host::PluginFile;

fuzz_target!(|data: &[u8]| {
    // Files whose first bytes decide are left as they are, and are also tried as an ELF of this machine.
    let _ = PluginFile::from_bytes("fuzz.so".as_ref(), data.to_vec());
    const HEAD: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0";
    let _ = PluginFile::from_bytes("fuzz.so".as_ref(), [HEAD, data].concat());
});

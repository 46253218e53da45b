//! Any bytes as a `.lfmeta` section: refused or read, without a panic, and what is read is fit for a terminal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_plugin_host::Metadata;

fuzz_target!(|data: &[u8]| {
    // Half of the inputs get past the magic without having to find it.
    let section = if data.len() % 2 == 0 { [b"LFMETA01", data].concat() } else { data.to_vec() };
    if let Ok(metadata) = Metadata::parse(&section) {
        let texts = [&metadata.id, &metadata.version, &metadata.license, &metadata.sdk, &metadata.url];
        assert!(texts.iter().all(|text| !text.contains(char::is_control)));
        for strategy in &metadata.strategies {
            assert!(metadata.strategy(&strategy.info.id).is_some());
            assert!(!strategy.info.roles.is_empty());
        }
    }
});

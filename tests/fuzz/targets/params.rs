//! Any JSON as a schema and any JSON as parameters: the check ends, without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_plugin_host::Metadata;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let Some(cut) = data.iter().position(|&byte| byte == b'\n') else { return };
    let (Ok(schema), Ok(params)) =
        (serde_json::from_slice::<Value>(&data[..cut]), serde_json::from_slice::<Value>(&data[cut + 1..]))
    else {
        return;
    };
    let roles = json!([{ "name": "base", "min": 1, "max": 1 }]);
    let metadata = json!({
        "abi": [1, 0], "plugin": { "id": "x", "version": "1" },
        "strategies": [{ "id": "x", "roles": roles, "params": schema }],
    });
    let section = [b"LFMETA01".to_vec(), metadata.to_string().into_bytes()].concat();
    if let Ok(metadata) = Metadata::parse(&section) {
        // A refusal points into the parameters.
        if let Err(refusal) = metadata.strategies[0].check_params(&params) {
            let pointer = refusal.to_string();
            assert!(pointer.starts_with('/') || pointer.starts_with("params: "), "{pointer}");
        }
    }
});

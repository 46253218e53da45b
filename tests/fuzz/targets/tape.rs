//! Any bytes as a tape: refused or read, without a panic and without memory that the file does not pay for.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use logitfuse_replay::{Rest, Tape};

fuzz_target!(|data: &[u8]| {
    let sealed = seal(data);
    for bytes in [data, &sealed] {
        let Ok(mut tape) = Tape::read("fuzz.lftape", Cursor::new(bytes)) else { continue };
        let width = tape.vocabulary().width();
        if width > 1 << 16 {
            continue;
        }
        let mut row = vec![0.0; width];
        for text in 0..tape.texts().len() {
            let mut number = 0;
            while let Ok(Some(block)) = tape.block(text, number) {
                for source in 0..tape.header().sources.len() {
                    for position in 0..block.tokens().len().min(4) {
                        for rest in [Rest::Spread, Rest::Masked] {
                            if let Ok(log_normaliser) = tape.row(&block, source, position, rest, &mut row) {
                                assert!(log_normaliser.is_finite() && !row.iter().any(|x| x.is_nan()));
                            }
                        }
                    }
                }
                number += 1;
            }
        }
    }
});

/// The same bytes with the checksums of all frames made right: what a fuzzer does not guess.
fn seal(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 8;
    while let Some(prefix) = bytes.get(at..at + 20) {
        let described = u32::from_le_bytes(prefix[4..8].try_into().unwrap()) as usize;
        let packed = u64::from_le_bytes(prefix[8..16].try_into().unwrap()) as usize;
        let Some(end) = (at + 20).checked_add(described).and_then(|end| end.checked_add(packed)) else { break };
        if end > bytes.len() {
            break;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..at + 16]);
        crc.update(&bytes[at + 20..end]);
        bytes[at + 16..at + 20].copy_from_slice(&crc.sum().to_le_bytes());
        at = end;
    }
    bytes
}

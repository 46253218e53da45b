//! Any bytes as a tape: refused or read, without a panic and without memory that the file does not pay for.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use logitfuse_replay::{Rest, Tape};

/// More only takes time.
const WIDEST: usize = 1 << 10;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let bytes = match kind % 4 {
        0 => data.to_vec(),
        1 => frames::seal(data),
        _ => frames::assemble(data),
    };
    let Ok(mut tape) = Tape::read("fuzz.lftape", Cursor::new(bytes)) else { return };
    let width = tape.vocabulary().width();
    if width > WIDEST {
        return;
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
});

//! Passes that would never end.

use std::{thread, time::Duration};

use logitfuse_core::{Error, ErrorKind, LogitSource, Result, Rows, Step, TokenId};
use logitfuse_onnx::{ModelFolder, OnnxOptions, OnnxSource};

use crate::{runtime, tiny};

/// The token behind which `odd/endless` loops for ever.
const NINE: TokenId = 68;

fn open(name: &str) -> OnnxSource {
    let folder = ModelFolder::open(&tiny("odd").join(name), None).unwrap();
    OnnxSource::open(&runtime(), &folder, &OnnxOptions::default()).unwrap()
}

/// Runs tokens while another thread interrupts the source, again and again until the pass has ended.
fn interrupted(source: &mut OnnxSource, step: &Step<'_>) -> Result<()> {
    let interrupt = source.interrupt().unwrap();
    let mut rows = Rows::new();
    thread::scope(|scope| {
        let pass = scope.spawn(|| source.forward(&[*step], &mut rows));
        while !pass.is_finished() {
            thread::sleep(Duration::from_millis(20));
            interrupt.raise();
        }
        interrupt.lower();
        pass.join().unwrap()
    })
}

fn assert_interrupted(error: &Error, name: &str) {
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(error.to_string(), format!("{name}: its pass was interrupted"));
}

#[test]
fn an_endless_pass_ends_when_it_is_interrupted_and_the_next_one_runs() {
    for name in ["endless", "endless_cached"] {
        let mut source = open(name);
        let sequence = source.open().unwrap();
        let mut rows = Rows::new();
        let prompt = Step { sequence, tokens: &[10, 11, 12], rows: 1 };
        source.forward(&[prompt], &mut rows).unwrap();
        let before = rows.row(0).to_vec();
        let endless = Step { sequence, tokens: &[NINE], rows: 1 };
        assert_interrupted(&interrupted(&mut source, &endless).unwrap_err(), name);
        assert_eq!(source.len(sequence), Some(3), "{name}: the sequence is as it was");
        source.truncate(sequence, 2).unwrap();
        source.forward(&[Step { sequence, tokens: &[12], rows: 1 }], &mut rows).unwrap();
        assert_eq!(rows.row(0), before, "{name}");
    }
}

#[test]
fn a_pass_that_begins_while_the_interrupt_is_up_ends_at_once() {
    let mut source = open("endless");
    let sequence = source.open().unwrap();
    source.interrupt().unwrap().raise();
    let mut rows = Rows::new();
    let endless = Step { sequence, tokens: &[NINE], rows: 1 };
    assert_interrupted(&source.forward(&[endless], &mut rows).unwrap_err(), "endless");
    source.interrupt().unwrap().lower();
    source.forward(&[Step { sequence, tokens: &[9], rows: 1 }], &mut rows).unwrap();
}

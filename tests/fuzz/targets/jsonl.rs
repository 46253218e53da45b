//! Any bytes as lines of JSON: the logs of a run and the data of a task.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logitfuse_pipeline::Sample;
use logitfuse_rundir::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => samples(data),
        1 => timings(data),
        _ => items(data),
    }
});

/// A sample differs from itself in nothing but how it is written, and is read again once it is written our way.
fn samples(data: &[u8]) {
    for stored in fuzzing::samples(data) {
        let Ok(stored) = stored else { return };
        if let Some(difference) = stored.difference(&stored.record) {
            assert_eq!(difference.what, "a number, in its last digit");
        }
        let mut line = serde_json::to_vec(&stored.record).expect("a record is JSON");
        line.push(b'\n');
        let mut again = fuzzing::samples(&line);
        let read = again.next().expect("a line").expect("what was read once is read again").record;
        assert!(again.next().is_none());
        assert_eq!((read.key(), read.responses.len()), (stored.record.key(), stored.record.responses.len()));
    }
}

fn timings(data: &[u8]) {
    for timing in fuzzing::timings(data) {
        let Ok(timing) = timing else { return };
        let mut line = serde_json::to_vec(&timing).expect("a record is JSON");
        line.push(b'\n');
        let read = fuzzing::timings(&line).next().expect("a line").expect("what was read once is read again");
        assert_eq!((read.key, read.tokens), (timing.key, timing.tokens));
    }
}

/// Items have an id each, and a refusal names the line.
fn items(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Sample::from_jsonl("fuzz.jsonl", text) {
        Ok(samples) => {
            let mut ids: Vec<&str> = samples.iter().map(|sample| &*sample.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), samples.len());
            assert!(samples.len() <= text.lines().count() && samples.iter().all(|sample| sample.fields.is_object()));
        }
        Err(error) => {
            let message = error.to_string();
            let place = message.strip_prefix("fuzz.jsonl:").and_then(|rest| rest.split_once(": "));
            let line: usize = place.and_then(|(line, _)| line.parse().ok()).expect("the number of a line");
            assert!(line >= 1 && line <= text.lines().count(), "{message}");
        }
    }
}

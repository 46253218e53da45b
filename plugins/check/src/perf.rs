//! Group perf: how long a step takes. Warnings only: a slow strategy may be worth its time.

use std::time::Instant;

use crate::{
    Outcome,
    context::{CaseContext, unknown},
    sample_params::SplitMix64,
    subject::{self, session},
};

pub(crate) const CASES: &[&str] = &["step"];

/// The vocabulary of a small model of today.
const WIDTH: usize = 49_152;
/// Nanoseconds for each entry of each row; a pass over memory takes a tenth of one, an exponential a few.
const BUDGET: f64 = 20.0;

pub(crate) fn run(name: &str, (subject, strategy, role_counts): CaseContext<'_>) -> Outcome {
    if !CASES.contains(&name) {
        return unknown(name);
    }
    let session = session(&role_counts[0], WIDTH);
    let mut rng = SplitMix64::new(subject.seed);
    let mut row = || (0..WIDTH).map(|_| rng.below(1 << 16) as f32 / 4096.0).collect::<Vec<f32>>();
    let rows: Vec<Vec<f32>> = session.bindings.iter().map(|_| row()).collect();
    let rows_per_step = rows.len();
    let case = logitfuse_conformance::Case { session, steps: vec![rows], tokens: vec![0] };
    let fitted = match subject::fitted(strategy, &case) {
        Ok(fitted) => fitted,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let mut state = match case.start(fitted.as_deref().unwrap_or(strategy)) {
        Ok(state) => state,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let mut times = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        if let Err(e) = subject::fuse(state.as_mut(), &case, 0, 0) {
            return Outcome::Failed(e.to_string());
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64();
    let per_entry = median * 1e9 / (WIDTH * rows_per_step) as f64;
    let detail =
        format!("{:.0} µs a step of {rows_per_step} rows of {WIDTH}, {per_entry:.2} ns an entry", median * 1e6);
    if per_entry > BUDGET { Outcome::Warning(detail) } else { Outcome::Passed(detail) }
}

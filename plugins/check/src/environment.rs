//! Group environment: process state that a plugin must leave as it is.

use logitfuse_plugin_host::faults;

use crate::{
    Outcome,
    context::{CaseContext, unknown},
    snapshot::Snapshot,
    subject::{draw, play},
};

/// The case whose process ends as a program does, with its exit handlers.
pub(crate) const EXIT: &str = "exit";
/// The status that the process of [`EXIT`] ends with, which no exit handler sets by chance.
pub(crate) const EXIT_STATUS: i32 = 71;

pub(crate) const CASES: &[&str] = &["unchanged", "threads", EXIT];

/// `before` is from before the library was loaded.
pub(crate) fn run(name: &str, before: &Snapshot, context: CaseContext<'_>) -> Outcome {
    match name {
        "unchanged" => unchanged(before, context),
        "threads" => own_threads(context),
        EXIT => run_steps(context).into(),
        _ => unknown(name),
    }
}

fn run_steps((subject, strategy, role_counts): CaseContext<'_>) -> Result<(), String> {
    let mut runner = subject.runner(31);
    for counts in role_counts {
        for _ in 0..8 {
            play(strategy, &draw(counts, &mut runner)?).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn unchanged(before: &Snapshot, context: CaseContext<'_>) -> Outcome {
    let ran = run_steps(context);
    // What the case itself holds is destroyed after it; one instance is, here.
    drop(context.0.strategy());
    let mut changed = before.differences(&Snapshot::take());
    changed.extend(faults());
    match (changed.is_empty(), ran) {
        (false, _) => Outcome::Failed(format!("changed: {}", changed.join(", "))),
        (true, ran) => ran.into(),
    }
}

fn own_threads(context: CaseContext<'_>) -> Outcome {
    let Some(before) = threads_now() else { return Outcome::Skipped("this system does not tell".to_owned()) };
    if let Err(what) = run_steps(context) {
        return Outcome::Failed(what);
    }
    let more = threads_now().unwrap_or(before).saturating_sub(before);
    if more > 0 && !context.0.described.capabilities.contains("threads") {
        return Outcome::Failed(format!("left {more} threads running, and its capabilities do not say \"threads\""));
    }
    Outcome::passed()
}

fn threads_now() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

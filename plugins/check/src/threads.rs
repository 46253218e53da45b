//! Group threads: states that run at the same time, and objects that move.

use std::thread;

use logitfuse_conformance::strategy_laws;

use crate::{
    Outcome,
    context::{CaseContext, unknown},
    laws::hold,
    subject::{draw, fitted, fuse, play},
};

pub(crate) const CASES: &[&str] = &["at-the-same-time", "from-thread-to-thread", "made-everywhere"];

pub(crate) fn run(name: &str, context: CaseContext<'_>) -> Outcome {
    match name {
        "at-the-same-time" => hold(context, strategy_laws::threads_agree),
        "from-thread-to-thread" => hop(context).into(),
        "made-everywhere" => made_everywhere(context).into(),
        _ => unknown(name),
    }
}

/// Every call on another thread, and freed on yet another.
fn hop((subject, strategy, role_counts): CaseContext<'_>) -> Result<(), String> {
    let mut runner = subject.runner(21);
    for counts in role_counts {
        for _ in 0..subject.cases.min(16) {
            let case = draw(counts, &mut runner)?;
            let expected = play(strategy, &case).map_err(|e| e.to_string())?;
            let fitted = fitted(strategy, &case).map_err(|e| e.to_string())?;
            let strategy = fitted.as_deref().unwrap_or(strategy);
            let elsewhere = || thread::scope(|scope| scope.spawn(|| case.start(strategy)).join());
            let mut state = elsewhere().map_err(|_| "a thread panicked".to_owned())?.map_err(|e| e.to_string())?;
            for (step, expected) in expected.iter().enumerate() {
                let columns = strategy.info().trace.len();
                let there = thread::scope(|scope| scope.spawn(|| fuse(state.as_mut(), &case, step, columns)).join());
                let written = there.map_err(|_| "a thread panicked".to_owned())?.map_err(|e| e.to_string())?;
                if written != *expected {
                    return Err(format!("position {step} came out differently on another thread"));
                }
                let there = thread::scope(|scope| scope.spawn(|| state.commit(&case.tokens[step..=step])).join());
                there.map_err(|_| "a thread panicked".to_owned())?.map_err(|e| e.to_string())?;
            }
            thread::scope(|scope| scope.spawn(move || drop(state)).join())
                .map_err(|_| "a thread panicked".to_owned())?;
        }
    }
    Ok(())
}

/// Instances and states that come and go on four threads.
fn made_everywhere((subject, strategy, role_counts): CaseContext<'_>) -> Result<(), String> {
    let case = draw(&role_counts[0], &mut subject.runner(22))?;
    let expected = play(strategy, &case).map_err(|e| e.to_string())?;
    thread::scope(|scope| {
        let work = || {
            (0..25).try_for_each(|_| {
                let own = subject.strategy()?;
                Ok::<bool, logitfuse_core::Error>(play(&own, &case)? == expected).and_then(|same| {
                    let differs = || {
                        logitfuse_core::Error::new(
                            logitfuse_core::ErrorKind::Backend,
                            "an instance of another thread gives other rows",
                        )
                    };
                    if same { Ok(()) } else { Err(differs()) }
                })
            })
        };
        let threads = [(); 4].map(|()| scope.spawn(work));
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked".to_owned())?.map_err(|e| e.to_string())?;
        }
        Ok(())
    })
}

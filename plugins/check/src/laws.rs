//! Group state-laws: what holds for every strategy without being claimed.

use logitfuse_conformance::{Case, Violation, generators, strategy_laws};
use logitfuse_core::{FusionStrategy, StrategyInfo};
use proptest::test_runner::{TestCaseError, TestError};

use crate::{
    Outcome,
    context::{CaseContext, unknown},
};

/// The law of strategies that take calibration prompts.
const CALIBRATION: &str = "calibration-is-repeatable";

type Law = fn(&dyn FusionStrategy, &Case) -> Result<(), Violation>;

const LAWS: &[(&str, Law)] = &[
    ("valid-output", strategy_laws::valid_output),
    ("fuse-is-idempotent", strategy_laws::fuse_is_idempotent),
    ("rollback-is-replay", strategy_laws::rollback_is_replay),
    ("fork-is-a-copy", strategy_laws::fork_is_a_copy),
    ("states-are-independent", strategy_laws::states_are_independent),
    ("trace-changes-nothing", strategy_laws::trace_changes_nothing),
    ("early-exit-equals-fuse", strategy_laws::early_exit_equals_fuse),
];

pub(crate) fn cases(strategy: &StrategyInfo) -> impl Iterator<Item = &'static str> + use<> {
    let calibration = strategy.calibration.is_some().then_some(CALIBRATION);
    LAWS.iter().map(|(name, _)| *name).chain(calibration)
}

pub(crate) fn run(name: &str, context: CaseContext<'_>) -> Outcome {
    if name == CALIBRATION {
        return hold_as_it_is(context, strategy_laws::calibration_is_repeatable);
    }
    let Some((_, law)) = LAWS.iter().find(|(known, _)| *known == name) else { return unknown(name) };
    let there = context.0.plugin.optional_functions(context.0.index);
    let lacks = |function: &str| there.contains(&"commit") && !there.contains(&function);
    if (name == "rollback-is-replay" && lacks("rollback")) || (name == "fork-is-a-copy" && lacks("fork")) {
        return Outcome::Skipped("it has no such function".to_owned());
    }
    hold(context, law)
}

/// Holds a law against random cases of every number of sources, for the strategy as it is and calibrated, as far as it can be both.
/// A broken one is reported with the smallest case that breaks it.
pub(crate) fn hold(
    context: CaseContext<'_>,
    law: impl Fn(&dyn FusionStrategy, &Case) -> Result<(), Violation>,
) -> Outcome {
    let failed = |e: logitfuse_core::Error| Violation { law: CALIBRATION, detail: e.to_string() };
    hold_as_it_is(context, |strategy, case| case.in_each_form(strategy, failed, |form| law(form, case)))
}

fn hold_as_it_is(
    (subject, strategy, role_counts): CaseContext<'_>,
    law: impl Fn(&dyn FusionStrategy, &Case) -> Result<(), Violation>,
) -> Outcome {
    for counts in role_counts {
        let roles: Vec<(&str, usize)> = counts.iter().map(|(role, count)| (role.as_str(), *count)).collect();
        let mut runner = subject.runner(1);
        let held = runner.run(&generators::case(&roles), |case| {
            law(strategy, &case).map_err(|violation| TestCaseError::fail(violation.to_string()))
        });
        match held {
            Ok(()) => {}
            Err(TestError::Fail(why, case)) => {
                let (width, positions) = (case.width(), case.steps.len());
                let small = if width <= 4 { format!(", rows {:?}", case.steps) } else { String::new() };
                let what = format!("{why} (width {width}, {positions} positions{small})");
                return Outcome::Failed(what);
            }
            Err(TestError::Abort(why)) => return Outcome::Skipped(why.to_string()),
        }
    }
    Outcome::Passed(format!("{} cases", subject.cases as usize * role_counts.len()))
}

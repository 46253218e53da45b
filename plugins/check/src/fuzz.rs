//! Group fuzz: everything at once, with random parameters, for as long as asked.

use std::time::{Duration, Instant};

use logitfuse_conformance::{Violation, strategy_laws};

use crate::{
    Outcome,
    context::CaseContext,
    sample_params::{self, SplitMix64},
    subject::draw,
};

pub(crate) fn run((subject, _, role_counts): CaseContext<'_>) -> Outcome {
    let end = Instant::now() + Duration::from_millis(subject.fuzz_ms);
    let mut runner = subject.runner(41);
    let mut rng = SplitMix64::new(subject.seed);
    let functions = subject.plugin.optional_functions(subject.index);
    let whole = !functions.contains(&"commit") || (functions.contains(&"rollback") && functions.contains(&"fork"));
    let mut cases = 0_u64;
    while Instant::now() < end {
        let params = sample_params::allowed(subject.described.schema(), &subject.params, &mut rng);
        // What the schema allows and the plugin refuses is told by config/valid.
        let Ok(strategy) = subject.create(&params) else { continue };
        for _ in 0..8 {
            let counts = &role_counts[rng.below(role_counts.len())];
            let case = match draw(counts, &mut runner) {
                Ok(case) => case,
                Err(what) => return Outcome::Failed(what),
            };
            let failed = |e: logitfuse_core::Error| Violation { law: "calibration", detail: e.to_string() };
            let held = case.in_each_form(&strategy, failed, |form| {
                if whole {
                    strategy_laws::contract(form, &case)?;
                } else {
                    strategy_laws::valid_output(form, &case)?;
                }
                strategy_laws::claimed(form, &case)
            });
            let held = held.and_then(|()| strategy_laws::calibration_is_repeatable(&strategy, &case));
            if let Err(violation) = held {
                return Outcome::Failed(format!(
                    "{params}: {violation} (width {}, {} positions)",
                    case.width(),
                    case.steps.len()
                ));
            }
            cases += 1;
        }
    }
    Outcome::Passed(format!("{cases} cases"))
}

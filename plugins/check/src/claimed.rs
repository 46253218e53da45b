//! Group claimed-laws: the metadata say it, so it is held against them.

use logitfuse_conformance::{Violation, strategy_laws};
use logitfuse_core::{FusionStrategy, Law};
use logitfuse_plugin_host::OnError;
use serde_json::{Value, json};

use crate::{
    Outcome,
    context::{CaseContext, unknown},
    laws::hold,
    subject::{self, StepOutput},
};

pub(crate) fn run(name: &str, context: CaseContext<'_>) -> Outcome {
    let law = Law::from(name);
    // The metadata are those of the default parameters; an instance may say otherwise.
    if !context.1.info().laws.contains(&law) {
        return Outcome::Skipped("not claimed with these parameters".to_owned());
    }
    match &law {
        Law::Deterministic => {
            hold(context, |strategy, case| same("deterministic", &play(strategy, case)?, &play(strategy, case)?))
        }
        Law::Stateless => hold(context, stateless),
        Law::ShiftInvariant => hold(context, strategy_laws::shift_invariant),
        Law::VocabEquivariant => hold(context, strategy_laws::vocab_equivariant),
        Law::MaskPreserving => hold(context, strategy_laws::mask_preserving),
        Law::ArgmaxInvariant => hold(context, strategy_laws::argmax_invariant),
        Law::LinearIn(role) => hold(context, |strategy, case| strategy_laws::linear_in(strategy, case, role)),
        Law::IdentityAt(params) => identity(context, params),
        Law::MonotoneKlIn(param) => monotone(context, param),
        _ => unknown(name),
    }
}

fn violation(law: &'static str) -> impl Fn(logitfuse_core::Error) -> Violation {
    move |e| Violation { law, detail: e.to_string() }
}

fn play(strategy: &dyn FusionStrategy, case: &logitfuse_conformance::Case) -> Result<Vec<StepOutput>, Violation> {
    subject::play(strategy, case).map_err(violation("deterministic"))
}

fn same(law: &'static str, expected: &[StepOutput], seen: &[StepOutput]) -> Result<(), Violation> {
    match expected.iter().zip(seen).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(step) => Err(Violation { law, detail: format!("position {step} came out differently the second time") }),
    }
}

/// A fresh state at every position gives what one state gives that saw the whole text.
fn stateless(strategy: &dyn FusionStrategy, case: &logitfuse_conformance::Case) -> Result<(), Violation> {
    const LAW: &str = "stateless";
    let expected = subject::play(strategy, case).map_err(violation(LAW))?;
    for (step, expected) in expected.iter().enumerate() {
        let mut fresh = case.start(strategy).map_err(violation(LAW))?;
        let seen = subject::fuse(fresh.as_mut(), case, step, strategy.info().trace.len()).map_err(violation(LAW))?;
        same(LAW, std::slice::from_ref(expected), &[seen])?;
    }
    Ok(())
}

/// `alpha=0` or `alpha=0,beta=1`: with these parameters the result is the base, bit for bit.
fn identity(context: CaseContext<'_>, assignments: &str) -> Outcome {
    let mut params = context.0.params.clone();
    for assignment in assignments.split(',') {
        let Some((name, value)) = assignment.split_once('=') else {
            return Outcome::Failed(format!("identity-at: {assignments} is not of the form name=value"));
        };
        let value = serde_json::from_str(value.trim()).unwrap_or_else(|_| json!(value.trim()));
        params[name.trim()] = value;
    }
    with_params(context, &params, strategy_laws::identity)
}

fn with_params(
    (subject, _, role_counts): CaseContext<'_>,
    params: &Value,
    law: fn(&dyn FusionStrategy, &logitfuse_conformance::Case) -> Result<(), Violation>,
) -> Outcome {
    match subject.plugin.strategy(&subject.described.info.id, params, OnError::Fail) {
        Ok(strategy) => hold((subject, &strategy, role_counts), law),
        Err(e) => Outcome::Failed(format!("{params} is refused: {e}")),
    }
}

/// Values of the parameter in rising order give distributions in rising distance from the base.
fn monotone(context: CaseContext<'_>, param: &str) -> Outcome {
    let (subject, ..) = context;
    let mut strategies = Vec::new();
    for value in [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0, 5.0] {
        let mut params = subject.params.clone();
        params[param] = json!(value);
        // Values that the schema or the plugin refuses are no part of the claim.
        if let Ok(strategy) = subject.plugin.strategy(&subject.described.info.id, &params, OnError::Fail) {
            strategies.push(strategy);
        }
    }
    if strategies.len() < 3 {
        return Outcome::Failed(format!("monotone-kl-in: {param} takes fewer than three of the values 0 to 5"));
    }
    let rising: Vec<&dyn FusionStrategy> = strategies.iter().map(|s| s as &dyn FusionStrategy).collect();
    hold(context, |_, case| strategy_laws::monotone_kl(&rising, case))
}

//! The description of a wrapped strategy.

use logitfuse_core::{Arity, Error, ErrorKind, Result, SessionInfo, StrategyInfo};

/// Laws that no wrapper breaks: they hold for the base and for the wrapped strategy alike.
const KEPT: [&str; 5] = ["deterministic", "stateless", "shift-invariant", "vocab-equivariant", "mask-preserving"];

/// The wrapped strategy's description, extended by the wrapper's own; `also` are further laws of the wrapped strategy
/// that this wrapper keeps, by their beginnings.
pub(crate) fn describe(inner: &StrategyInfo, wrapper: StrategyInfo, also: &[&str]) -> StrategyInfo {
    let kept = |law: &&String| {
        KEPT.contains(&law.as_str()) || law.starts_with("identity-at") || also.iter().any(|a| law.starts_with(a))
    };
    StrategyInfo {
        id: format!("{}+{}", inner.id, wrapper.id),
        summary: format!("{}; {}", inner.summary, wrapper.summary),
        equation: join(&inner.equation, &wrapper.equation, "\n"),
        reference: join(&inner.reference, &wrapper.reference, "; "),
        roles: inner.roles.clone(),
        params_schema: inner.params_schema.clone(),
        laws: inner.laws.iter().filter(kept).cloned().collect(),
        trace: [inner.trace.clone(), wrapper.trace].concat(),
        lead_role: None,
        prompt: inner.prompt,
        calibration: inner.calibration.clone(),
    }
}

fn join(a: &str, b: &str, between: &str) -> String {
    let parts = [a, b];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<&str>>().join(between)
}

/// The first role, if one source plays it: the base, whose row alone may be enough for a step.
pub(crate) fn base_role(info: &StrategyInfo) -> Option<&str> {
    let base = info.roles.first()?;
    (base.arity == Arity { min: 1, max: Some(1) }).then_some(base.name.as_str())
}

/// The row of the base.
pub(crate) fn base_row(info: &StrategyInfo, session: &SessionInfo) -> Result<usize> {
    info.roles.first().and_then(|role| session.row_of(&role.name)).ok_or_else(|| {
        Error::new(ErrorKind::Incompatible, format!("strategy `{}` has no source in its first role", info.id))
            .with_help("a gate or schedule falls back to the first role of the strategy that it wraps")
    })
}

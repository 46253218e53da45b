//! The description of a wrapped strategy.

use logitfuse_core::{Arity, Error, ErrorKind, Law, Result, SessionInfo, StrategyInfo};

/// Whether no wrapper breaks a law, because it holds for the base and for the wrapped strategy alike.
fn is_kept(law: &Law) -> bool {
    use Law::{Deterministic, IdentityAt, MaskPreserving, ShiftInvariant, Stateless, VocabEquivariant};
    matches!(law, Deterministic | Stateless | ShiftInvariant | VocabEquivariant | MaskPreserving | IdentityAt(_))
}

/// The wrapped strategy's description, extended by the wrapper's own; `keeps` picks further laws of the wrapped
/// strategy that this wrapper does not break.
pub(crate) fn describe(inner: &StrategyInfo, wrapper: StrategyInfo, keeps: fn(&Law) -> bool) -> StrategyInfo {
    let mut info = inner.clone();
    info.id = format!("{}+{}", inner.id, wrapper.id);
    info.summary = format!("{}; {}", inner.summary, wrapper.summary);
    info.equation = join(&inner.equation, &wrapper.equation, "\n");
    info.reference = join(&inner.reference, &wrapper.reference, "; ");
    info.laws.retain(|law| is_kept(law) || keeps(law));
    info.trace.extend(wrapper.trace);
    info.lead_role = None;
    info
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

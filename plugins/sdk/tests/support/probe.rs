//! A strategy that remembers what it committed, and fails in every way on request.

use logitfuse_plugin::numerics::{Contrast, linear_combination};
use logitfuse_plugin::serde_json::Value;
use logitfuse_plugin::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law, Result, RoleRow, RoleSpec, SessionInfo,
    StrategyInfo, TokenId, params,
};

/// `base + strength · (expert − base)`, where the strength grows with the committed tokens; certain bases settle.
pub(crate) struct Probe {
    mode: String,
    info: StrategyInfo,
}

impl Probe {
    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let mode = value.get("mode").and_then(Value::as_str).unwrap_or_default().to_owned();
        match mode.as_str() {
            "refuse" => {
                return Err(params::invalid("/mode", "must not be `refuse`").with_help("there are other modes"));
            }
            "panic-in-create" => panic!("nothing can be made of {mode}"),
            "io" => return Err(Error::new(ErrorKind::NotFound, "weights.bin: no such file")),
            "log" => logitfuse_plugin::log::warn!("made with {value}"),
            _ => {}
        }
        let info = StrategyInfo::new("probe", [RoleSpec::one("base"), RoleSpec::one("expert")])
            .with_laws([Law::MaskPreserving])
            .with_lead_role("base")
            .with_trace("committed", "tokens")
            .with_equation(&format!("mode {mode}"));
        Ok(Self { mode, info })
    }
}

impl FusionStrategy for Probe {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        match self.mode.as_str() {
            "misfit" => Err(Error::new(ErrorKind::Incompatible, format!("{} rows", session.bindings.len()))),
            "panic-in-start" => panic!("no start"),
            mode => Ok(Box::new(State { mode: mode.to_owned(), tokens: Vec::new() })),
        }
    }
}

#[derive(Clone)]
struct State {
    mode: String,
    tokens: Vec<TokenId>,
}

/// A payload whose destructor panics.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a payload was dropped");
    }
}

fn settles(base: &RoleRow<'_>) -> bool {
    let best = base.logits().iter().copied().fold(f32::MIN, f32::max);
    f64::from(best) - base.log_normaliser > -1e-3
}

impl FusionState for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        match self.mode.as_str() {
            "panic-in-fuse" if !self.tokens.is_empty() => panic!("token {} was unexpected", self.tokens[0]),
            "payload-panics-on-drop" => std::panic::panic_any(PanicsOnDrop),
            "numeric" => return Err(Error::new(ErrorKind::Numeric, "base: nothing is possible")),
            _ => {}
        }
        let (base, expert) = (step.row(0), step.row(1));
        let strength = if settles(base) { 0.0 } else { 0.5 + self.tokens.len() as f64 };
        linear_combination(base.logits(), 1.0, &[Contrast::between(strength, expert, base)], out.logits);
        if let [committed] = out.trace {
            *committed = step.committed.len() as f64 + base.sequence_log_prob;
        }
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        if !settles(lead) {
            return Ok(false);
        }
        out.logits.copy_from_slice(lead.logits());
        if let [column] = out.trace {
            *column = committed.len() as f64 + lead.sequence_log_prob;
        }
        Ok(true)
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        let left = self.tokens.len().checked_sub(n);
        let left =
            left.ok_or_else(|| Error::new(ErrorKind::Internal, format!("rollback: {n} of {}", self.tokens.len())))?;
        self.tokens.truncate(left);
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.clone()))
    }
}

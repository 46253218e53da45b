//! `fused = base + alpha · (expert − anti)`: a start. Change `fuse`, and what `info` says of it.

use logitfuse_plugin::numerics::{Contrast, kl_divergence, linear_combination, log_sum_exp};
use logitfuse_plugin::serde_json::Value;
use logitfuse_plugin::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result, RoleSpec, SessionInfo,
    StrategyInfo, params,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The parameters, as an experiment gives them. Comments and ranges show up in `logitfuse plugin show`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The strength of the expert; 0 is the base alone.
    #[schemars(range(min = -100.0, max = 100.0))]
    pub alpha: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

/// The strategy with its parameters: immutable, shared between threads.
pub struct Rule {
    params: Params,
    info: StrategyInfo,
}

impl Rule {
    /// What an experiment's parameters come through. An error that starts with a JSON pointer underlines the key.
    pub fn from_json(value: &Value) -> Result<Self> {
        let params: Params = params::parse(value)?;
        if !(-100.0..=100.0).contains(&params.alpha) {
            return Err(params::invalid("/alpha", "must be between -100 and 100"));
        }
        let roles = [
            RoleSpec::one("base").with_summary("the large model"),
            RoleSpec::one("expert").with_summary("a small model that was tuned"),
            RoleSpec::one("anti").with_summary("the small model before tuning"),
        ];
        let info = StrategyInfo::new("{{name}}", roles)
            .with_summary("adds to a large model what tuning changed in a small one")
            .with_equation("fused = base + alpha · (expert − anti)")
            .with_params_schema(schemars::schema_for!(Params).as_value().to_string())
            // Promises that `logitfuse plugin check` holds the strategy to. Remove those that your rule does not keep.
            .with_laws([Law::Deterministic, Law::Stateless, Law::ShiftInvariant])
            .with_laws([Law::VocabEquivariant, Law::MaskPreserving, Law::identity_at("alpha=0")])
            .with_trace("kl_fused_base", "nats");
        Ok(Self { params, info })
    }
}

impl FusionStrategy for Rule {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let row = |role: &str| match session.rows_of(role).collect::<Vec<_>>()[..] {
            [row] => Ok(row),
            ref rows => Err(Error::new(
                ErrorKind::Incompatible,
                format!("{role}: one source takes this role, not {}", rows.len()),
            )),
        };
        Ok(Box::new(State { alpha: self.params.alpha, base: row("base")?, expert: row("expert")?, anti: row("anti")? }))
    }
}

/// What one sequence needs. This rule remembers nothing; one that does implements `FusionState` with `commit`,
/// `rollback` and `fork` instead of `Memoryless`.
#[derive(Clone)]
struct State {
    alpha: f64,
    base: usize,
    expert: usize,
    anti: usize,
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let [base, expert, anti] = [self.base, self.expert, self.anti].map(|row| step.row(row));
        // Masked ids are -inf, and -inf - (-inf) is NaN: the contrast knows.
        linear_combination(base.logits(), 1.0, &[Contrast::between(self.alpha, expert, anti)], out.logits);
        // Empty unless a trace was asked for: then its cost is spared.
        if let [kl_fused_base] = out.trace {
            *kl_fused_base = kl_divergence(out.logits, log_sum_exp(out.logits), base.logits(), base.log_normaliser);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use logitfuse_plugin::serde_json::json;
    use logitfuse_plugin::testing::check_in_process;

    use super::*;

    #[test]
    fn it_keeps_the_laws() {
        for alpha in [-1.0, 0.0, 2.5] {
            let rule = Rule::from_json(&json!({ "alpha": alpha })).unwrap();
            check_in_process(&rule, 64).unwrap();
        }
    }

    #[test]
    fn it_refuses_what_it_does_not_know() {
        assert!(Rule::from_json(&json!({ "alhpa": 1.0 })).is_err());
        assert!(Rule::from_json(&json!({ "alpha": 1e9 })).is_err());
    }
}

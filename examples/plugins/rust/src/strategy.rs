//! Proxy tuning with an allowance: how far a text as a whole may be led away from what the base would have written.
//!
//! ```text
//! spent   = Σ KL(fused‖base) over the committed tokens, in nats
//! alpha_t = alpha · max(0, 1 − spent / allowance_nats)
//! fused   = base + alpha_t · (expert − anti)
//! ```
//!
//! A fixed strength pushes as hard at token 500 as at token 5, although a style or a format is mostly decided early. Here the
//! push fades as the allowance is used up, and once it is, the base writes alone and the small models need not run.
//!
//! What is worth copying from here: a `fuse` that only *proposes* what the state will remember, a `commit` that keeps it, and
//! a memory from which `rollback` takes away the end. That order is what lets an engine speculate and search.

use logitfuse_plugin::numerics::{Contrast, kl_divergence, linear_combination, log_sum_exp};
use logitfuse_plugin::serde_json::Value;
use logitfuse_plugin::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Law, Result, RoleRow, RoleSpec, SessionInfo,
    StrategyInfo, TokenId, params,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// The parameters, as an experiment gives them. Comments and ranges show up in `logitfuse plugin show`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The strength of the expert while nothing is spent; 0 is the base alone.
    #[schemars(range(min = -100.0, max = 100.0))]
    pub alpha: f64,
    /// How far a text may go from the base: the sum of KL(fused‖base) over its tokens, in nats.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub allowance_nats: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { alpha: 1.0, allowance_nats: 20.0 }
    }
}

/// The strategy with its parameters: immutable, shared between threads.
pub struct Allowance {
    params: Params,
    info: StrategyInfo,
}

impl Allowance {
    /// What an experiment's parameters come through. An error that starts with a JSON pointer underlines the key.
    pub fn from_json(value: &Value) -> Result<Self> {
        let params: Params = params::parse(value)?;
        if !(-100.0..=100.0).contains(&params.alpha) {
            return Err(params::invalid("/alpha", "must be between -100 and 100"));
        }
        params::positive("/allowance_nats", params.allowance_nats)?;
        let roles = [
            RoleSpec::one("base").with_summary("the large model"),
            RoleSpec::one("expert").with_summary("a small model that was tuned"),
            RoleSpec::one("anti").with_summary("the small model before tuning"),
        ];
        let info = StrategyInfo::new("allowance", roles)
            .with_summary("proxy tuning that fades as a text uses up its distance from the base")
            .with_equation(
                "fused = base + alpha_t · (expert − anti)\n\
                 alpha_t = alpha · max(0, 1 − spent / allowance_nats), spent = Σ KL(fused‖base) of the text so far",
            )
            .with_reference("proxy tuning (arXiv 2401.08565, eq. 1); the allowance is this example's own")
            .with_params_schema(schemars::schema_for!(Params).as_value().to_string())
            // Not `shift-invariant` nor `vocab-equivariant`, although both hold on paper: other constants and another order
            // of the ids round a divergence differently, and a small allowance makes a visible strength of that.
            .with_laws([Law::Deterministic, Law::MaskPreserving, Law::identity_at("alpha=0")])
            .with_lead_role("base")
            .with_trace("alpha", "1")
            .with_trace("kl_fused_base", "nats")
            .with_trace("spent", "nats");
        Ok(Self { params, info })
    }
}

impl FusionStrategy for Allowance {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let row = |role: &str| match session.rows_of(role).collect::<Vec<_>>()[..] {
            [row] => Ok(row),
            ref rows => Err(Error::new(
                ErrorKind::Incompatible,
                format!("{role}: one source takes this role, not {}", rows.len()),
            )
            .with_help("allowance fuses one base, one expert and one anti")),
        };
        Ok(Box::new(State {
            params: self.params.clone(),
            base: row("base")?,
            expert: row("expert")?,
            anti: row("anti")?,
            spent: vec![0.0],
            proposed: 0.0,
        }))
    }
}

/// One sequence.
#[derive(Clone)]
struct State {
    params: Params,
    base: usize,
    expert: usize,
    anti: usize,
    /// `spent[n]` is what the first `n` committed tokens have used up, in nats.
    spent: Vec<f64>,
    /// What the last `fuse` would use up.
    proposed: f64,
}

impl State {
    fn so_far(&self) -> f64 {
        self.spent.last().copied().unwrap_or_default()
    }

    fn strength(&self) -> f64 {
        self.params.alpha * (1.0 - self.so_far() / self.params.allowance_nats).max(0.0)
    }

    fn report(&self, out: &mut FusedRow<'_>) {
        // Empty unless a trace was asked for.
        for (column, value) in out.trace.iter_mut().zip([self.strength(), self.proposed, self.so_far()]) {
            *column = value;
        }
    }
}

impl FusionState for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let [base, expert, anti] = [self.base, self.expert, self.anti].map(|row| step.row(row));
        let strength = self.strength();
        // Masked ids are -inf, and -inf - (-inf) is NaN: the contrast knows.
        linear_combination(base.logits(), 1.0, &[Contrast::between(strength, expert, anti)], out.logits);
        self.proposed = if strength == 0.0 {
            0.0
        } else {
            kl_divergence(out.logits, log_sum_exp(out.logits), base.logits(), base.log_normaliser)
        };
        self.report(out);
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, _committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        if self.strength() != 0.0 {
            return Ok(false);
        }
        out.logits.copy_from_slice(lead.logits());
        self.proposed = 0.0;
        self.report(out);
        Ok(true)
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        for _ in tokens {
            // A token that came without a fuse of its own, as in a text that is resumed, costs nothing.
            self.spent.push(self.so_far() + std::mem::take(&mut self.proposed));
        }
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        let committed = self.spent.len() - 1;
        if n > committed {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("rollback: {n} tokens of {committed} that were committed"),
            ));
        }
        self.spent.truncate(self.spent.len() - n);
        self.proposed = 0.0;
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use logitfuse_plugin::serde_json::json;
    use logitfuse_plugin::testing::check_in_process;
    use logitfuse_plugin::{RoleBinding, SharedVocabulary};

    use super::*;

    #[test]
    fn it_keeps_the_laws() {
        for (alpha, allowance_nats) in [(0.0, 20.0), (1.0, 20.0), (-2.0, 0.5), (3.0, 1e-3)] {
            let strategy = Allowance::from_json(&json!({ "alpha": alpha, "allowance_nats": allowance_nats })).unwrap();
            check_in_process(&strategy, 64).unwrap();
        }
    }

    #[test]
    fn it_refuses_parameters_by_name() {
        let refusal = |params| Allowance::from_json(&params).err().unwrap().to_string();
        assert_eq!(refusal(json!({ "allowance_nats": 0.0 })), "/allowance_nats: must be above 0, and finite");
        assert_eq!(refusal(json!({ "alpha": 1e9 })), "/alpha: must be between -100 and 100");
        assert!(refusal(json!({ "alhpa": 1.0 })).contains("alhpa"));
    }

    /// Three ids, one token after the other: the push fades, and a rollback gives it back.
    #[test]
    fn the_push_fades_and_comes_back() {
        let strategy = Allowance::from_json(&json!({ "alpha": 1.0, "allowance_nats": 0.5 })).unwrap();
        let binding = |role: &str| RoleBinding { role: role.to_owned(), source: role.to_owned() };
        let bindings = ["base", "expert", "anti"].map(binding);
        let session = SessionInfo::new(bindings, SharedVocabulary::new(3, []));
        let mut state = strategy.start(&session).unwrap();
        let rows = [[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]];
        let rows = rows.each_ref().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0));
        let alpha = |state: &mut Box<dyn FusionState>| {
            let (mut logits, mut trace) = ([0.0; 3], [f64::NAN; 3]);
            let mut out = FusedRow { logits: &mut logits, trace: &mut trace };
            state.fuse(&FusionStep::new(&rows, &[]), &mut out).unwrap();
            trace[0]
        };
        let mut strengths = Vec::new();
        for _ in 0..4 {
            strengths.push(alpha(&mut state));
            state.commit(&[1]).unwrap();
        }
        assert!(strengths.windows(2).all(|pair| pair[1] < pair[0] || pair[0] == 0.0), "{strengths:?}");
        state.rollback(3).unwrap();
        assert_eq!(alpha(&mut state).to_bits(), strengths[1].to_bits());
        assert!(state.rollback(2).is_err());
    }
}

use logitfuse_core::{
    Error, FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, Result, RoleRow, RoleSpec, SessionInfo,
    StrategyInfo,
    numerics::{Contrast, kl_divergence, linear_combination},
    params,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cast;

const CAST: &str = "trimix fuses one base, one expert and one anti";

/// The parameters of [`TriMix`], as a TOML or JSON gives them; [`calibrate`](crate::calibrate) finds them from a prompt.
///
/// ```
/// use logitfuse_ensemble::TriMix;
/// use serde_json::json;
///
/// assert!(TriMix::from_json(&json!({ "alpha": 0.3, "beta": 0.9 })).is_ok());
/// let error = TriMix::from_json(&json!({ "alpha": "much" })).unwrap_err();
/// assert!(error.to_string().starts_with("/alpha: "));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TriMixParams {
    /// The weight of the base's logits, usually 0 to 1. Small by default: the strategy is for tasks where the small tuned
    /// model knows more.
    pub alpha: f64,
    /// The weight of the expert's logits, usually 0 to 1. What is left, 1 − alpha − beta, is the weight of the anti.
    pub beta: f64,
}

impl Default for TriMixParams {
    fn default() -> Self {
        Self { alpha: 0.1, beta: 1.0 }
    }
}

fn help(e: Error) -> Error {
    e.with_help("trimix takes alpha and beta, any finite numbers, of which 0 to 1 are usual")
}

/// A three-way mixture; see the [crate's page](crate).
#[derive(Clone, Debug)]
pub struct TriMix {
    params: TriMixParams,
    info: StrategyInfo,
}

impl TriMix {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) with the JSON pointer of the parameter that
    /// is not finite.
    pub fn new(params: TriMixParams) -> Result<Self> {
        params::finite("/alpha", params.alpha).map_err(help)?;
        params::finite("/beta", params.beta).map_err(help)?;
        let info = StrategyInfo::new(
            "trimix",
            [
                RoleSpec::one("base").with_summary("the large model"),
                RoleSpec::one("expert").with_summary("the small model that was tuned"),
                RoleSpec::one("anti").with_summary("the small model before tuning"),
            ],
        )
        .with_summary("mixes large, small tuned and small untuned logits with free weights")
        .with_equation("fused = alpha · base + beta · expert + (1 − alpha − beta) · anti")
        .with_reference("TriMix (arXiv 2604.18106)")
        .with_params_schema(schemars::schema_for!(TriMixParams).as_value().to_string())
        .with_laws(["deterministic", "stateless", "shift-invariant", "vocab-equivariant", "mask-preserving"])
        .with_laws(["linear-in: base", "linear-in: expert", "linear-in: anti", "identity-at: alpha=1, beta=0"])
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("kl_expert_anti", "nats");
        Ok(Self { params, info })
    }

    /// A strategy with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig); the message starts with the JSON pointer of
    /// the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        Self::new(params::parse(params).map_err(help)?)
    }

    /// The parameters in use.
    pub fn params(&self) -> &TriMixParams {
        &self.params
    }
}

impl FusionStrategy for TriMix {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let [base, expert, anti] = ["base", "expert", "anti"].map(|role| cast::one(session, role, CAST));
        Ok(Box::new(State { params: self.params.clone(), base: base?, expert: expert?, anti: anti? }))
    }
}

/// Writes the mixture, as what it adds to the base: masks and abstentions then come out as everywhere.
pub(crate) fn mix(params: &TriMixParams, [base, expert, anti]: [&RoleRow<'_>; 3], out: &mut [f32]) {
    let contrasts = [Contrast::between(params.beta, expert, anti), Contrast::between(1.0 - params.alpha, anti, base)];
    linear_combination(base.logits(), 1.0, &contrasts, out);
}

#[derive(Clone)]
struct State {
    params: TriMixParams,
    base: usize,
    expert: usize,
    anti: usize,
}

impl Memoryless for State {
    fn fuse(&self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let rows @ [base, expert, anti] = [self.base, self.expert, self.anti].map(|row| step.row(row));
        mix(&self.params, rows, out.logits);

        if out.trace.is_empty() {
            return Ok(());
        }
        let (_, [fused_base, base_fused]) = cast::distances(out.logits, base);
        let expert_anti = kl_divergence(expert.logits(), expert.log_normaliser, anti.logits(), anti.log_normaliser);
        cast::report(out.trace, [fused_base, base_fused, expert_anti]);
        Ok(())
    }
}

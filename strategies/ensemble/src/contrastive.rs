use logitfuse_core::{
    Error, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result, RoleSpec,
    SessionInfo, StrategyInfo,
    numerics::{Contrast, kl_divergence, linear_combination, mask_implausible},
    params,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::roles;

const ROLES: &str = "contrastive fuses one base and one anti, the amateur";

/// The parameters of [`Contrastive`], as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_ensemble::Contrastive;
/// use serde_json::json;
///
/// assert!(Contrastive::from_json(&json!({ "beta": 0.8, "plausibility": 0.05 })).is_ok());
/// let error = Contrastive::from_json(&json!({ "amateur_temperature": 0 })).unwrap_err();
/// assert_eq!(error.to_string(), "/amateur_temperature: must be above 0, and finite");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContrastiveParams {
    /// The strength of the contrast: 0 is the base alone.
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// Masks every id whose probability under the base is below this times that of the base's most probable token; 0 masks nothing.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub plausibility: f64,
    /// Divides the amateur's logits: below 1 it is surer of its mistakes, which are then avoided more.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub amateur_temperature: f64,
}

impl Default for ContrastiveParams {
    fn default() -> Self {
        Self { beta: 0.5, plausibility: 0.1, amateur_temperature: 1.0 }
    }
}

impl ContrastiveParams {
    fn check(&self) -> Result<()> {
        params::not_negative("/beta", self.beta)?;
        if !(0.0..=1.0).contains(&self.plausibility) {
            return Err(params::invalid("/plausibility", "must be 0 to 1"));
        }
        params::positive("/amateur_temperature", self.amateur_temperature).map(drop)
    }
}

fn help(e: Error) -> Error {
    e.with_help("contrastive takes beta (0 or more), plausibility (0 to 1) and amateur_temperature (above 0)")
}

/// Contrastive decoding; see the [crate's page](crate).
#[derive(Clone, Debug)]
pub struct Contrastive {
    params: ContrastiveParams,
    info: StrategyInfo,
}

impl Contrastive {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) with the JSON pointer of the parameter that
    /// is out of range.
    pub fn new(params: ContrastiveParams) -> Result<Self> {
        params.check().map_err(help)?;
        let mut info = StrategyInfo::new(
            "contrastive",
            [
                RoleSpec::one("base").with_summary("the model that speaks"),
                RoleSpec::one("anti")
                    .with_alias("anti_expert")
                    .with_summary("the amateur: a much smaller model of the same vocabulary"),
            ],
        )
        .with_summary("removes from a model what a much smaller one says as well")
        .with_equation(
            "fused = (1 + beta) · base − beta · anti / amateur_temperature\n\
             where p_base ≥ plausibility · max p_base, masked elsewhere",
        )
        .with_reference("contrastive decoding (arXiv 2210.15097), as weighted in 2309.09117")
        .with_params_schema(schemars::schema_for!(ContrastiveParams).as_value().to_string())
        .with_laws([
            Law::Deterministic,
            Law::Stateless,
            Law::ShiftInvariant,
            Law::VocabEquivariant,
            Law::MaskPreserving,
        ])
        .with_laws([Law::linear_in("anti")])
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("kl_base_anti", "nats")
        .with_trace("plausible", "1");
        if params.plausibility <= 0.0 {
            info = info.with_laws([Law::identity_at("beta=0")]);
        }
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
    pub fn params(&self) -> &ContrastiveParams {
        &self.params
    }
}

impl FusionStrategy for Contrastive {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let ContrastiveParams { beta, plausibility, amateur_temperature } = self.params;
        let weight = beta / amateur_temperature;
        Ok(Box::new(State {
            // (1 + beta) · base − weight · anti, with the part of the base that the contrast brings taken out.
            base_weight: if beta > 0.0 { 1.0 + beta - weight } else { 1.0 },
            weight,
            plausibility,
            base: roles::one(session, "base", ROLES)?,
            anti: roles::one(session, "anti", ROLES)?,
        }))
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        let ContrastiveParams { beta, plausibility, amateur_temperature } = self.params;
        let mut graph = FusionGraph::new();
        let base = graph.row(roles::one(session, "base", ROLES)?);
        let anti = graph.row(roles::one(session, "anti", ROLES)?);
        let beta = graph.parameter("beta", beta);
        let temperature = graph.parameter("amateur_temperature", amateur_temperature);
        let weight = graph.divide(beta, temperature);
        let one = graph.constant(1.0);
        let base_weight = graph.add(one, beta);
        let base_weight = graph.subtract(base_weight, weight);
        let contrast = graph.contrast(base, anti);
        let fused = graph.linear_combination(base, Some(base_weight), &[(weight, contrast)]);
        let fused = graph.keep_plausible(base, (plausibility > 0.0).then_some(plausibility), fused);
        graph.set_fused(fused);
        graph.add_divergences(fused, base);
        Ok(graph)
    }
}

#[derive(Clone, Copy)]
struct State {
    base_weight: f64,
    weight: f64,
    plausibility: f64,
    base: usize,
    anti: usize,
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let (base, anti) = (step.row(self.base), step.row(self.anti));
        let contrast = Contrast::between(self.weight, base, anti);
        linear_combination(base.logits(), self.base_weight, &[contrast], out.logits);
        if self.plausibility > 0.0 {
            mask_implausible(base.logits(), self.plausibility, out.logits);
        }

        if out.trace.is_empty() {
            return Ok(());
        }
        let (_, [fused_base, base_fused]) = roles::distances(out.logits, base);
        let base_anti = kl_divergence(base.logits(), base.log_normaliser, anti.logits(), anti.log_normaliser);
        let plausible = out.logits.iter().filter(|x| x.is_finite()).count();
        roles::write_trace(out.trace, [fused_base, base_fused, base_anti, plausible as f64]);
        Ok(())
    }
}

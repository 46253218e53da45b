use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result,
    RoleSpec, SessionInfo, StrategyInfo,
    fusion_graph::Value,
    numerics::{Contrast, kl_divergence, linear_combination},
    params,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use smallvec::SmallVec;

use crate::{
    mean::{lowered_power_mean, power_mean},
    roles,
};

const ROLES: &str = "ensemble fuses one base and one or more experts";

/// Which mean of the members' probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mean {
    /// Their weighted product: an id must be probable to all. The mean of the logits.
    #[default]
    Geometric,
    /// Their weighted sum: an id need be probable to one.
    Arithmetic,
    /// The power mean, with `power`.
    Power,
}

/// The parameters of [`Ensemble`], as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_ensemble::Ensemble;
/// use serde_json::json;
///
/// assert!(Ensemble::from_json(&json!({ "mean": "power", "power": 0.5, "weights": [2.0, 1.0] })).is_ok());
/// let error = Ensemble::from_json(&json!({ "weights": [0.0, 0.0] })).unwrap_err();
/// assert_eq!(error.to_string(), "/weights: one weight at least must be above 0");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("allOf" = [
    params::only_with("mean", &json!(["power"]), ["power"]),
    {
        "if": { "properties": { "mean": { "const": "power" } }, "required": ["mean"] },
        "then": { "properties": { "power": { "type": "number" } }, "required": ["power"] },
    },
]))]
pub struct EnsembleParams {
    /// Which mean of the members' probabilities is taken.
    pub mean: Mean,
    /// The exponent of `mean = "power"`, 0.001 to 1000 in size: large ones follow the surest member for each id, negative
    /// ones the least sure.
    #[schemars(
        range(min = -1000.0, max = 1000.0),
        extend("not" = { "type": "number", "exclusiveMinimum": -0.001, "exclusiveMaximum": 0.001 })
    )]
    pub power: Option<f64>,
    /// One weight for each member, the base first, then the experts in their order; equal when absent. Only their ratios
    /// count: they are divided by their sum.
    #[schemars(inner(range(min = 0.0)), extend("not" = { "type": "array", "items": { "const": 0.0 } }))]
    pub weights: Option<Vec<f64>>,
}

impl EnsembleParams {
    /// The exponent; `None` for the geometric mean.
    fn exponent(&self) -> Result<Option<f64>> {
        let help =
            "mean = \"power\" takes a power of 0.001 to 1000, or -1000 to -0.001; for 0 use mean = \"geometric\"";
        match (self.mean, self.power) {
            (Mean::Geometric, None) => Ok(None),
            (Mean::Arithmetic, None) => Ok(Some(1.0)),
            (Mean::Power, Some(power)) if (0.001..=1000.0).contains(&power.abs()) => Ok(Some(power)),
            (Mean::Power, Some(_)) => Err(params::invalid("/power", "must be 0.001 to 1000 in size").with_help(help)),
            (Mean::Power, None) => Err(params::invalid("/power", "mean power needs it").with_help(help)),
            (Mean::Geometric | Mean::Arithmetic, Some(_)) => {
                Err(params::invalid("/power", "only mean power has such a parameter").with_help(help))
            }
        }
    }

    fn check_weights(&self) -> Result<()> {
        let help = |e: Error| e.with_help("weights are 0 or more, one for each member, the base first");
        let Some(weights) = &self.weights else { return Ok(()) };
        for (index, &weight) in weights.iter().enumerate() {
            params::not_negative(&format!("/weights/{index}"), weight).map_err(help)?;
        }
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 {
            return Err(help(params::invalid("/weights", "one weight at least must be above 0")));
        }
        params::finite("/weights", sum).map(drop).map_err(help)
    }
}

/// Means of distributions; see the [crate's page](crate).
#[derive(Clone, Debug)]
pub struct Ensemble {
    params: EnsembleParams,
    exponent: Option<f64>,
    info: StrategyInfo,
}

impl Ensemble {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the JSON pointer of the parameter that is out of range.
    pub fn new(params: EnsembleParams) -> Result<Self> {
        let exponent = params.exponent()?;
        params.check_weights()?;
        let mut info = StrategyInfo::new(
            "ensemble",
            [
                RoleSpec::one("base").with_summary("one of the models"),
                RoleSpec::many("expert").with_summary("the other models"),
            ],
        )
        .with_summary("averages the distributions of several models")
        .with_equation(
            "geometric:  log p = Σ w[i] · log p[i] + constant\n\
             arithmetic: p = Σ w[i] · p[i]\n\
             power:      p = (Σ w[i] · p[i]^power)^(1/power), normalised",
        )
        .with_reference(
            "products of experts (Hinton 2002), linear and log-linear pools (Genest and Zidek 1986), \
             multi-objective decoding with f-means (arXiv 2406.18853)",
        )
        .with_params_schema(schemars::schema_for!(EnsembleParams).as_value().to_string())
        .with_laws([
            Law::Deterministic,
            Law::Stateless,
            Law::ShiftInvariant,
            Law::VocabEquivariant,
            Law::MaskPreserving,
        ])
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("disagreement", "nats");
        if exponent.is_none() {
            info = info.with_laws([Law::linear_in("expert")]);
        }
        Ok(Self { params, exponent, info })
    }

    /// A strategy with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]; the message starts with the JSON pointer of the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        Self::new(params::parse(params).map_err(|e| e.with_help("ensemble takes mean, power and weights"))?)
    }

    /// The parameters in use.
    pub fn params(&self) -> &EnsembleParams {
        &self.params
    }

    /// The members' weights as they are given.
    fn weights(&self, members: usize) -> Result<Vec<f64>> {
        let weights = self.params.weights.clone().unwrap_or_else(|| vec![1.0; members]);
        if weights.len() != members {
            let what = format!("/weights: {} weights for {members} members", weights.len());
            return Err(Error::new(ErrorKind::InvalidConfig, what)
                .with_help("give one weight for the base and one for each expert, or leave weights out"));
        }
        Ok(weights)
    }
}

impl FusionStrategy for Ensemble {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let base = roles::one(session, "base", ROLES)?;
        let experts = roles::some(session, "expert", ROLES)?;
        let mut weights = self.weights(experts.len() + 1)?;
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        let base_weight = weights.remove(0);
        let others = weights.into_iter().zip(experts).collect();
        Ok(Box::new(State { exponent: self.exponent, base, base_weight, others }))
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        let base = roles::one(session, "base", ROLES)?;
        let experts = roles::some(session, "expert", ROLES)?;
        let weights = self.weights(experts.len() + 1)?;
        let mut graph = FusionGraph::new();
        let weights: Vec<Value> = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| graph.parameter(format!("weights.{index}"), *weight))
            .collect();
        let mut total = weights[0];
        for weight in &weights[1..] {
            total = graph.add(total, *weight);
        }
        let base = graph.row(base);
        let mut terms = Vec::new();
        for (weight, expert) in weights[1..].iter().zip(experts) {
            let expert = graph.row(expert);
            terms.push((graph.divide(*weight, total), graph.direction(expert, base)));
        }
        let fused = match self.exponent {
            None => graph.linear_combination(base, None, &terms),
            Some(exponent) => {
                let power = match self.params.mean {
                    Mean::Power => graph.parameter("power", exponent),
                    Mean::Geometric | Mean::Arithmetic => graph.constant(1.0),
                };
                let base_weight = graph.divide(weights[0], total);
                lowered_power_mean(&mut graph, power, (base_weight, base), &terms)
            }
        };
        graph.set_fused(fused);
        graph.add_divergences(fused, base);
        Ok(graph)
    }
}

#[derive(Clone)]
struct State {
    exponent: Option<f64>,
    base: usize,
    base_weight: f64,
    /// Weight and row.
    others: Vec<(f64, usize)>,
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let base = step.row(self.base);
        let others = self.others.iter().map(|&(weight, row)| (weight, step.row(row)));
        if let Some(exponent) = self.exponent {
            power_mean(exponent, base, self.base_weight, &others, out.logits);
        } else {
            // Weights sum to 1, so the weighted sum of the logits is the base and its weighted differences to others.
            let contrasts: SmallVec<[Contrast<'_>; 8]> =
                others.clone().map(|(weight, row)| Contrast::between(weight, row, base)).collect();
            linear_combination(base.logits(), 1.0, &contrasts, out.logits);
        }

        if out.trace.is_empty() {
            return Ok(());
        }
        let (normaliser, [fused_base, base_fused]) = roles::distances(out.logits, base);
        let of_others = others
            .filter(|(weight, _)| *weight > 0.0)
            .map(|(weight, row)| weight * kl_divergence(row.logits(), row.log_normaliser, out.logits, normaliser));
        let of_base = if self.base_weight > 0.0 { self.base_weight * base_fused } else { 0.0 };
        let disagreement = of_base + of_others.sum::<f64>();
        roles::write_trace(out.trace, [fused_base, base_fused, disagreement]);
        Ok(())
    }
}

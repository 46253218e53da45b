//! The parameters and their defaults.

mod bounds;
mod check;
mod choices;

use logitfuse_core::{CalibrationSpec, Result, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use choices::{Evidence, Experts, FingerprintParams, Goal, Pool, PosteriorParams, Solver, Tempering, Weights};

/// The parameters of [`DynamicKl`](crate::DynamicKl), as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_dynamic_kl::DynamicKl;
/// use serde_json::json;
///
/// assert!(DynamicKl::from_json(&json!({ "objective": "budget", "budget_nats": 0.2 })).is_ok());
/// let error = DynamicKl::from_json(&json!({ "bounds": [1.5, 0.5] })).unwrap_err();
/// assert_eq!(error.to_string(), "/bounds: 1.5 is not below 0.5");
/// assert_eq!(error.help(), Some("give [low, high] with 0 <= low < high <= 100, such as [0.0, 1.0], or \"paper\""));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("allOf" = [
    params::only_with("solver", &json!(["grid"]), ["grid_step"]),
    params::only_with("objective", &json!(["budget"]), ["budget_nats", "sequence_budget_nats"]),
    params::only_with("experts", &json!([null, "pool"]), ["pool", "weights", "posterior", "fingerprint"]),
    params::only_with("weights", &json!([null, "posterior", "top1"]), ["posterior"]),
    params::only_with("weights", &json!([null, "fingerprint"]), ["fingerprint"]),
    params::only_with("posterior", &json!([null]), ["fingerprint"]),
    params::only_with("weights", &json!(["fixed"]), ["fixed_weights"]),
    params::only_with("weights", &json!(["entropy"]), ["entropy_temperature"]),
    {
        "if": { "properties": { "weights": { "const": "fixed" } }, "required": ["weights"] },
        "then": { "properties": { "fixed_weights": { "type": "array" } }, "required": ["fixed_weights"] },
    },
    {
        "if": { "properties": { "objective": { "const": "budget" } }, "required": ["objective"] },
        "then": { "properties": {
            "solver": { "const": "exact" },
            "bounds": { "prefixItems": [{ "const": 0.0 }] },
            "kl_temperature": { "const": 1.0 },
        } },
    },
    {
        "if": { "properties": { "experts": { "const": "one_expert" } }, "required": ["experts"] },
        "then": { "properties": { "objective": { "not": { "enum": ["budget", "variance_ratio"] } } } },
    },
    {
        "if": { "properties": { "experts": { "const": "joint_minnorm" } }, "required": ["experts"] },
        "then": { "properties": {
            "objective": { "const": "paper" },
            "solver": { "const": "exact" },
            "kl_temperature": { "const": 1.0 },
            "ema": { "const": 0.0 },
        } },
    },
]))]
pub struct Params {
    /// What the strength is chosen for.
    pub objective: Goal,
    /// How it is found.
    pub solver: Solver,
    /// Smallest and largest strength, 100 at most, or "paper", which is [0, 2] as published. Above 1 the large model exaggerates
    /// its experts; what it knows by itself, demonstrations above all, may then be lost.
    #[serde(deserialize_with = "bounds::read")]
    #[schemars(schema_with = "bounds::schema", extend("examples" = [[0.0, 1.0], [0.0, 2.0], [0.5, 1.5], "paper"]))]
    pub bounds: [f64; 2],
    /// Distance of two strengths of solver `grid`; 0.1 when absent.
    #[schemars(extend("exclusiveMinimum" = 0.0, "examples" = [0.05, 0.1, 0.25]))]
    pub grid_step: Option<f64>,
    /// Divides all logits where divergences are compared, and only there; the fused row is at temperature 1.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub kl_temperature: f64,
    /// Objective `budget`: nats of KL(fused‖base) that every token may spend; 0.5 when absent.
    #[schemars(range(min = 0.0))]
    pub budget_nats: Option<f64>,
    /// Objective `budget`: nats for the whole text. Tokens then bank what they do not spend, for later ones to use.
    #[schemars(range(min = 0.0))]
    pub sequence_budget_nats: Option<f64>,
    /// Share of the last token's strength in this token's: 0 is no smoothing.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub ema: f64,
    /// How several experts are combined.
    pub experts: Experts,
    /// Which mean the pool is; `geometric` when absent.
    pub pool: Option<Pool>,
    /// Where the weights of the pool come from. When absent, `fingerprint` where the sources of all experts have
    /// calibration prompts, and `posterior` where none has.
    pub weights: Option<Weights>,
    /// Weights `fixed`: one for each expert, in their order; they add up to 1.
    #[schemars(inner(range(min = 0.0)), extend("examples" = [[1.0], [0.5, 0.5], [0.2, 0.3, 0.5]]))]
    pub fixed_weights: Option<Vec<f64>>,
    /// Weights `posterior` and `top1`: how evidence counts.
    #[serde(deserialize_with = "params::optional_table")]
    pub posterior: Option<PosteriorParams>,
    /// Weights `fingerprint`: how experts are chosen.
    #[serde(deserialize_with = "params::optional_table")]
    pub fingerprint: Option<FingerprintParams>,
    /// Weights `entropy`: nats that make a factor of e; 1 when absent.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub entropy_temperature: Option<f64>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            objective: Goal::BothDivergences,
            solver: Solver::Exact,
            bounds: [0.0, 1.0],
            grid_step: None,
            kl_temperature: 1.0,
            budget_nats: None,
            sequence_budget_nats: None,
            ema: 0.0,
            experts: Experts::Pool,
            pool: None,
            weights: None,
            fixed_weights: None,
            posterior: None,
            fingerprint: None,
            entropy_temperature: None,
        }
    }
}

impl Params {
    /// The bounds of the published search, which a TOML calls `"paper"`.
    pub const PAPER_BOUNDS: [f64; 2] = [0.0, 2.0];

    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        params::parse(value).map_err(|e| {
            e.with_help("`logitfuse strategies show dynamic-kl` lists the parameters with their defaults and units")
        })
    }

    /// Nats that every token may spend.
    pub(crate) fn budget(&self) -> f64 {
        self.budget_nats.unwrap_or(0.5)
    }

    /// Whether a step depends on its own rows alone.
    pub(crate) fn is_stateless(&self) -> bool {
        let remembers = matches!(self.weights(false), Weights::Posterior | Weights::Top1 | Weights::Fingerprint);
        self.ema == 0.0 && self.sequence_budget_nats.is_none() && !(self.experts == Experts::Pool && remembers)
    }

    /// The weights in use, given whether calibration prompts were run. The table of one weighting chooses it.
    pub(crate) fn weights(&self, calibrated: bool) -> Weights {
        let by_table = || match (&self.posterior, &self.fingerprint) {
            (None, Some(_)) => Weights::Fingerprint,
            (None, None) if calibrated => Weights::Fingerprint,
            (Some(_), _) | (None, None) => Weights::Posterior,
        };
        self.weights.unwrap_or_else(by_table)
    }

    /// The calibration prompts that it takes, if any.
    pub(crate) fn calibration(&self) -> Option<CalibrationSpec> {
        let wanted = self.experts == Experts::Pool && self.weights(true) == Weights::Fingerprint;
        wanted.then(|| {
            let spec = CalibrationSpec::new("expert", ["expert", "anti"], self.fingerprint().prompts);
            if self.weights(false) == Weights::Fingerprint { spec.required() } else { spec }
        })
    }

    pub(crate) fn fingerprint(&self) -> FingerprintParams {
        self.fingerprint.clone().unwrap_or_default()
    }

    /// What the weights go by, if by evidence.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        let weights = self.weights(true);
        let by_evidence = self.experts == Experts::Pool && matches!(weights, Weights::Posterior | Weights::Top1);
        by_evidence.then(|| self.posterior.clone().unwrap_or_default().evidence)
    }
}

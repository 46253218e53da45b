use std::fmt::Display;

use logitfuse_core::{
    CalibrationSpec, Error, Result,
    params::{self, invalid},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the strength of a step is chosen for; see the [crate's page](crate) for the formulas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The published objective: both divergences match, as a sum of squares.
    #[default]
    Paper,
    /// As `paper` with the two targets exchanged, which is how the paper's last formula prints it.
    Crossed,
    /// KL(fused‖base) matches KL(expert‖anti), and nothing else counts.
    Forward,
    /// KL(base‖fused) matches KL(anti‖expert), and nothing else counts.
    Reverse,
    /// The sum of both divergences matches: one root always, the most robust.
    Jeffreys,
    /// As `paper` between square roots, so that large divergences do not drown small ones.
    Sqrt,
    /// The closed form for mild experts: the ratio of the direction's standard deviations under anti and base.
    VarianceRatio,
    /// The largest strength that keeps KL(fused‖base) within a budget.
    Budget,
}

/// How the strength is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Solver {
    /// The minimum over all strengths within the bounds.
    #[default]
    Exact,
    /// The published search: the strengths `low`, `low + grid_step`, … `high`; ties go to the smallest.
    Grid,
}

/// What several experts become; one expert is the same in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Experts {
    /// One expert, their weighted mean; then as if there were only that one.
    #[default]
    Pool,
    /// The published search: every expert alone, and the best one acts. Its objective cannot tell experts apart, so the
    /// choice is next to arbitrary; for comparison.
    OneExpert,
    /// An experiment: a strength for each expert, the least ones (as a Euclidean norm) that reach the mean divergences.
    JointMinnorm,
}

/// Which mean the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Of log-probabilities: a token needs the agreement of the experts.
    #[default]
    Geometric,
    /// Of probabilities: a token needs one expert.
    Arithmetic,
}

/// Where the weights of the pool come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// How much better than its anti each expert predicted the tokens generated so far.
    #[default]
    Posterior,
    /// The favourite of `posterior` alone.
    Top1,
    /// The same for all.
    Uniform,
    /// `fixed_weights`.
    Fixed,
    /// In proportion to KL(expert‖anti): experts with nothing to say drop out.
    Kl,
    /// `softmax(−entropy / entropy_temperature)`: certain experts count more.
    Entropy,
    /// Everything, for the whole text, to the expert whose calibration prompts are most like the prompt, and to none where
    /// no expert's are: then the large model is left alone.
    Fingerprint,
}

/// What the weights `posterior` and `top1` go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The tokens generated so far.
    #[default]
    Generated,
    /// The prompt, for the whole text. It is run for the logits of all of its positions.
    Prompt,
    /// The prompt and then the generated tokens, as if they were one text.
    Both,
}

/// What the exponent of the posterior is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tempering {
    /// √n after n tokens: neighbouring tokens say the same thing twice, so their evidence is not independent.
    #[default]
    SqrtTokens,
    /// 1: Bayes' rule as it stands.
    None,
}

/// The parameters of the weights `posterior` and `top1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PosteriorParams {
    /// What counts as evidence.
    pub evidence: Evidence,
    /// Factor of the evidence; 0 is the prior for ever.
    #[schemars(range(min = 0.0))]
    pub eta: f64,
    /// What a token's evidence keeps from one generated token to the next: 1 forgets nothing, 0.99 halves it in 69 tokens.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub gamma: f64,
    /// What the evidence is divided by as the text grows.
    pub tempering: Tempering,
    /// Prior probability that no expert fits, 0 to switch that possibility off; the experts share the rest.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub no_expert_prior: f64,
}

impl Default for PosteriorParams {
    fn default() -> Self {
        let evidence = Evidence::Generated;
        Self { evidence, eta: 1.0, gamma: 0.99, tempering: Tempering::SqrtTokens, no_expert_prior: 0.0 }
    }
}

/// The parameters of the weights `fingerprint`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FingerprintParams {
    /// How many calibration prompts of each expert are run, from the first on.
    #[schemars(range(min = 2))]
    pub prompts: usize,
    /// How many times as far as an expert's own prompts are from each other a prompt may be from them: 0 never chooses an
    /// expert, and what is large always does.
    #[schemars(range(min = 0.0))]
    pub slack: f64,
}

impl Default for FingerprintParams {
    fn default() -> Self {
        Self { prompts: 16, slack: 3.0 }
    }
}

/// The parameters of [`DynamicKl`](crate::DynamicKl), as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_dynamic_kl::DynamicKl;
/// use serde_json::json;
///
/// assert!(DynamicKl::from_json(&json!({ "objective": "budget", "budget_nats": 0.2 })).is_ok());
/// let error = DynamicKl::from_json(&json!({ "bounds": [1.5, 0.5] })).unwrap_err();
/// assert_eq!(error.to_string(), "/bounds: 1.5 is not below 0.5");
/// assert_eq!(error.help(), Some("give [low, high] with 0 <= low < high <= 100, such as [0.0, 2.0]"));
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
    pub objective: Objective,
    /// How it is found.
    pub solver: Solver,
    /// Smallest and largest strength, 100 at most. An upper bound of 1 keeps the large model from exaggerating its experts.
    #[schemars(inner(range(min = 0.0, max = MOST_STRENGTH)), extend("examples" = [[0.0, 1.0], [0.0, 2.0], [0.5, 1.5]]))]
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
    /// What several experts become.
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
            objective: Objective::Paper,
            solver: Solver::Exact,
            bounds: [0.0, 2.0],
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

/// Strengths are of the order of 1, and a solver that is to look further looks less closely.
const MOST_STRENGTH: f64 = 100.0;
/// More strengths than this are a mistyped step, and would take seconds a token.
const MOST_GRID_POINTS: f64 = 1000.0;
/// What a sum of weights may miss 1 by: decimal fractions such as thirds.
const WEIGHT_TOLERANCE: f64 = 1e-6;

impl Params {
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

    /// The prompts by which it gets to know the experts, if it has a use for any.
    pub(crate) fn calibration(&self) -> Option<CalibrationSpec> {
        let wanted = self.experts == Experts::Pool && self.weights(true) == Weights::Fingerprint;
        wanted.then(|| CalibrationSpec {
            role: "expert".to_owned(),
            rows_of: vec!["expert".to_owned(), "anti".to_owned()],
            prompts: self.fingerprint().prompts,
            required: self.weights(false) == Weights::Fingerprint,
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

    pub(crate) fn check(&self) -> Result<()> {
        self.check_strength()?;
        self.check_budget()?;
        self.check_experts()?;
        self.check_weights()
    }

    fn check_strength(&self) -> Result<()> {
        const BOUNDS: &str = "give [low, high] with 0 <= low < high <= 100, such as [0.0, 2.0]";
        let [low, high] = self.bounds;
        params::not_negative("/bounds/0", low).map_err(help(BOUNDS))?;
        params::not_negative("/bounds/1", high).map_err(help(BOUNDS))?;
        if low >= high {
            return Err(invalid("/bounds", format_args!("{low} is not below {high}")).with_help(BOUNDS));
        }
        if high > MOST_STRENGTH {
            return Err(
                invalid("/bounds/1", format_args!("must be at most {MOST_STRENGTH}, not {high}")).with_help(BOUNDS)
            );
        }
        only_with("/grid_step", self.grid_step.is_some(), self.solver == Solver::Grid, "solver grid")?;
        if let Some(step) = self.grid_step {
            let range = format!("give a step between {} and {}", (high - low) / MOST_GRID_POINTS, high - low);
            params::positive("/grid_step", step).map_err(help(&range))?;
            if step > high - low || (high - low) / step > MOST_GRID_POINTS {
                let what = format_args!("{step} does not cut [{low}, {high}] into 1 to {MOST_GRID_POINTS} parts");
                return Err(invalid("/grid_step", what).with_help(range));
            }
        }
        params::positive("/kl_temperature", self.kl_temperature).map_err(help("above 0; 1 is the models' own"))?;
        if !(0.0..1.0).contains(&self.ema) {
            return Err(invalid("/ema", format_args!("must be 0 or more and below 1, not {}", self.ema))
                .with_help("0 switches smoothing off, 0.9 averages over about ten tokens"));
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "1 is the one temperature at which a budget means what it says")]
    fn check_budget(&self) -> Result<()> {
        const NATS: &str = "give nats, 0 or more: 0 is the base alone, 0.5 a moderate budget for a token";
        let budget = self.objective == Objective::Budget;
        only_with("/budget_nats", self.budget_nats.is_some(), budget, "objective budget")?;
        only_with("/sequence_budget_nats", self.sequence_budget_nats.is_some(), budget, "objective budget")?;
        if let Some(nats) = self.budget_nats {
            params::not_negative("/budget_nats", nats).map_err(help(NATS))?;
        }
        if let Some(nats) = self.sequence_budget_nats {
            params::not_negative("/sequence_budget_nats", nats).map_err(help(NATS))?;
        }
        if budget && self.solver == Solver::Grid {
            return Err(refused("/solver", "grid", "objective budget", "use solver exact"));
        }
        if budget && self.bounds[0] > 0.0 {
            return Err(invalid("/bounds/0", format_args!("must be 0 with objective budget, not {}", self.bounds[0]))
                .with_help("a budget may allow nothing at all"));
        }
        if budget && self.kl_temperature != 1.0 {
            let what = format_args!("must be 1 with objective budget, not {}", self.kl_temperature);
            return Err(invalid("/kl_temperature", what)
                .with_help("a budget is kept at the temperature of the fused row, which is 1"));
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "only these values switch a feature off")]
    fn check_experts(&self) -> Result<()> {
        let (pooled, objective) = (self.experts == Experts::Pool, self.objective);
        only_with("/pool", self.pool.is_some(), pooled, "experts pool")?;
        only_with("/weights", self.weights.is_some(), pooled, "experts pool")?;
        if self.experts == Experts::OneExpert && matches!(objective, Objective::Budget | Objective::VarianceRatio) {
            let name = if objective == Objective::Budget { "budget" } else { "variance_ratio" };
            return Err(refused("/objective", name, "experts one_expert", "it has no loss to choose an expert by"));
        }
        if self.experts == Experts::JointMinnorm {
            if objective != Objective::Paper {
                return Err(invalid("/objective", "must be paper with experts joint_minnorm")
                    .with_help("use experts pool for other objectives"));
            }
            if self.solver == Solver::Grid {
                return Err(refused("/solver", "grid", "experts joint_minnorm", "use solver exact"));
            }
            if self.kl_temperature != 1.0 {
                return Err(invalid("/kl_temperature", "must be 1 with experts joint_minnorm")
                    .with_help("use experts pool for other temperatures"));
            }
            if self.ema != 0.0 {
                return Err(invalid("/ema", "must be 0 with experts joint_minnorm, which has many strengths")
                    .with_help("use experts pool to smooth one strength"));
            }
        }
        Ok(())
    }

    fn check_weights(&self) -> Result<()> {
        const RANGE: &str = "weights are 0 or more and add up to 1";
        let pooled = self.experts == Experts::Pool;
        let weights = self.weights(false);
        let by_evidence = pooled && matches!(weights, Weights::Posterior | Weights::Top1);
        let by_prompt = pooled && weights == Weights::Fingerprint;
        let (fixed, entropy) = (weights == Weights::Fixed, weights == Weights::Entropy);
        only_with("/posterior", self.posterior.is_some(), by_evidence, "experts pool and weights posterior or top1")?;
        only_with("/fingerprint", self.fingerprint.is_some(), by_prompt, "experts pool and weights fingerprint")?;
        only_with("/fixed_weights", self.fixed_weights.is_some(), fixed, "weights fixed")?;
        only_with("/entropy_temperature", self.entropy_temperature.is_some(), entropy, "weights entropy")?;
        if let Some(posterior) = &self.posterior {
            params::not_negative("/posterior/eta", posterior.eta).map_err(help("1 counts evidence as it is"))?;
            params::fraction("/posterior/gamma", posterior.gamma).map_err(help("1 forgets nothing"))?;
            if !(0.0..1.0).contains(&posterior.no_expert_prior) {
                let what = format_args!("must be 0 or more and below 1, not {}", posterior.no_expert_prior);
                return Err(invalid("/posterior/no_expert_prior", what).with_help("0 switches the possibility off"));
            }
        }
        if let Some(fingerprint) = &self.fingerprint {
            if fingerprint.prompts < 2 {
                let what = format_args!("must be 2 or more, not {}", fingerprint.prompts);
                return Err(invalid("/fingerprint/prompts", what).with_help("16 do well"));
            }
            params::not_negative("/fingerprint/slack", fingerprint.slack).map_err(help("3 does well"))?;
        }
        if let Some(temperature) = self.entropy_temperature {
            params::positive("/entropy_temperature", temperature).map_err(help("in nats; 1 is usual"))?;
        }
        let Some(weights) = &self.fixed_weights else {
            let missing = invalid("/fixed_weights", "missing").with_help("weights fixed needs one weight per expert");
            return if fixed { Err(missing) } else { Ok(()) };
        };
        for (index, &weight) in weights.iter().enumerate() {
            params::not_negative(&format!("/fixed_weights/{index}"), weight).map_err(help(RANGE))?;
        }
        let sum: f64 = weights.iter().sum();
        if (sum - 1.0).abs() > WEIGHT_TOLERANCE {
            return Err(invalid("/fixed_weights", format_args!("add up to {sum}, not 1")).with_help(RANGE));
        }
        Ok(())
    }
}

fn help(what: &str) -> impl Fn(Error) -> Error {
    move |error| error.with_help(what)
}

/// Refuses a parameter that the others switch off: whoever wrote it believes that it does something.
fn only_with(pointer: &str, given: bool, allowed: bool, what: impl Display) -> Result<()> {
    if !given || allowed {
        return Ok(());
    }
    Err(invalid(pointer, format_args!("means something with {what} only"))
        .with_help(format!("leave it out, or choose {what}")))
}

fn refused(pointer: &str, value: &str, beside: &str, help: &str) -> Error {
    invalid(pointer, format_args!("{value} does not go with {beside}")).with_help(help)
}

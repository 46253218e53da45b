//! The values of parameters that are a choice.

use logitfuse_numerics::Objective;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the strength of a step is chosen for; see the [crate's page](crate) for the formulas.
// Not an `Objective` and a budget in one enum of two variants: what is written is one word, and an unknown one is answered
// with all eight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Objective")]
pub enum Goal {
    /// The published objective: both divergences match, as a sum of squares.
    #[default]
    #[serde(rename = "paper")]
    BothDivergences,
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

impl Goal {
    /// The objective that the strength minimises; `None` for a budget.
    pub fn objective(self) -> Option<Objective> {
        Some(match self {
            Self::BothDivergences => Objective::BothDivergences,
            Self::Crossed => Objective::Crossed,
            Self::Forward => Objective::Forward,
            Self::Reverse => Objective::Reverse,
            Self::Jeffreys => Objective::Jeffreys,
            Self::Sqrt => Objective::Sqrt,
            Self::VarianceRatio => Objective::VarianceRatio,
            Self::Budget => return None,
        })
    }
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

/// How several experts are combined; one expert is the same in every mode.
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
    /// The most probable expert of `posterior` alone.
    Top1,
    /// The same for all.
    Uniform,
    /// `fixed_weights`.
    Fixed,
    /// In proportion to KL(expert‖anti): experts equal to their anti drop out.
    Kl,
    /// `softmax(−entropy / entropy_temperature)`: certain experts count more.
    Entropy,
    /// Everything, for the whole text, to the expert whose calibration prompts are most like the prompt, and to none where
    /// no expert's are: then the large model is left alone.
    Fingerprint,
}

/// The evidence of the weights `posterior` and `top1`.
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
    /// √n after n tokens: neighbouring tokens are correlated, so their evidence is not independent.
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

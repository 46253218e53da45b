use logitfuse_core::{
    Error, Result,
    params::{self, invalid},
};
use logitfuse_numerics::Objective;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How strongly the merged change acts on the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// By `alpha`, at every token.
    #[default]
    Fixed,
    /// By what dynamic logit fusion solves for the merged expert, token by token.
    Dynamic,
}

/// The parameters of [`TaskArithmetic`](crate::TaskArithmetic), as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_task_arithmetic::TaskArithmetic;
/// use serde_json::json;
///
/// assert!(TaskArithmetic::from_json(&json!({ "lambda": [0.4, 0.4], "strength": "dynamic" })).is_ok());
/// let error = TaskArithmetic::from_json(&json!({ "alpha": 0.5, "strength": "dynamic" })).unwrap_err();
/// assert_eq!(error.to_string(), "/alpha: strength dynamic has no such parameter");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("allOf" = [
    params::only_with("strength", &json!([null, "fixed"]), ["alpha"]),
    params::only_with("strength", &json!(["dynamic"]), ["objective", "bounds"]),
]))]
pub struct Params {
    /// One factor for each expert, in their order; 1 / (number of experts) when absent. A negative one unlearns a task.
    pub lambda: Option<Vec<f64>>,
    /// How strongly the merged change acts on the base.
    pub strength: Strength,
    /// Strength `fixed`: the factor, 1 when absent; 0 is the base alone.
    pub alpha: Option<f64>,
    /// Strength `dynamic`: what it is chosen for; `paper` when absent.
    pub objective: Option<Objective>,
    /// Strength `dynamic`: its smallest and largest value, 100 at most; [0, 1] when absent.
    #[schemars(inner(range(min = 0.0, max = MOST_STRENGTH)), extend("examples" = [[0.0, 1.0], [0.0, 2.0], [0.5, 1.5]]))]
    pub bounds: Option<[f64; 2]>,
}

/// Strengths are of the order of 1, and a solver that is to look further looks less closely.
const MOST_STRENGTH: f64 = 100.0;

impl Params {
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        params::parse(value)
            .map_err(|e| e.with_help("task-arithmetic takes lambda, strength, alpha, objective and bounds"))
    }

    pub(crate) fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(1.0)
    }

    pub(crate) fn bounds(&self) -> [f64; 2] {
        self.bounds.unwrap_or([0.0, 1.0])
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (index, &lambda) in self.lambda.iter().flatten().enumerate() {
            params::finite(&format!("/lambda/{index}"), lambda)
                .map_err(|e| e.with_help("any finite factor; 1 / (number of experts) is usual"))?;
        }
        match self.strength {
            Strength::Fixed => self.check_fixed(),
            Strength::Dynamic => self.check_dynamic(),
        }
    }

    fn check_fixed(&self) -> Result<()> {
        let help = "leave it out, or set strength to dynamic";
        if self.objective.is_some() {
            return Err(stray("/objective", "fixed", help));
        }
        if self.bounds.is_some() {
            return Err(stray("/bounds", "fixed", help));
        }
        params::finite("/alpha", self.alpha()).map_err(|e| e.with_help("any finite factor; 0 is the base alone"))?;
        Ok(())
    }

    fn check_dynamic(&self) -> Result<()> {
        const BOUNDS: &str = "give [low, high] with 0 <= low < high <= 100, such as [0.0, 1.0]";
        if self.alpha.is_some() {
            return Err(stray("/alpha", "dynamic", "leave it out, or set strength to fixed"));
        }
        let [low, high] = self.bounds();
        params::not_negative("/bounds/0", low).map_err(|e| e.with_help(BOUNDS))?;
        params::not_negative("/bounds/1", high).map_err(|e| e.with_help(BOUNDS))?;
        if low >= high {
            return Err(invalid("/bounds", format_args!("{low} is not below {high}")).with_help(BOUNDS));
        }
        if high > MOST_STRENGTH {
            return Err(
                invalid("/bounds/1", format_args!("must be at most {MOST_STRENGTH}, not {high}")).with_help(BOUNDS)
            );
        }
        Ok(())
    }
}

fn stray(pointer: &str, strength: &str, help: &str) -> Error {
    invalid(pointer, format_args!("strength {strength} has no such parameter")).with_help(help)
}

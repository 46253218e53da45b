use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law, Memoryless, PromptReading,
    PromptScore, Result, RoleRow, RoleSpec, SessionInfo, StrategyInfo, TokenId,
    numerics::{Contrast, kl_divergence, linear_combination},
    params,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fit::{PromptRow, WeightSearch},
    roles,
};

const ROLES: &str = "trimix fuses one base, one expert and one anti";

/// Where the weights of [`TriMix`] come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriMixCalibration {
    /// `alpha` and `beta`.
    #[default]
    None,
    /// For each text, the pair of [`WEIGHTS`](crate::WEIGHTS) under which its prompt is most probable, as
    /// [`fit_weights`](crate::fit_weights) finds it; `alpha` and `beta` where a prompt has nothing to tell.
    Prompt,
}

/// The parameters of [`TriMix`], as a TOML or JSON gives them.
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
    /// Where the weights come from. `prompt` runs all sources for the logits of every position of every prompt and mixes them
    /// in 36 ways; all three roles must have the same prompt.
    pub calibration: TriMixCalibration,
}

impl Default for TriMixParams {
    fn default() -> Self {
        Self { alpha: 0.1, beta: 1.0, calibration: TriMixCalibration::None }
    }
}

fn help(e: Error) -> Error {
    e.with_help(
        "trimix takes alpha and beta, any finite numbers, of which 0 to 1 are usual, and calibration (none, prompt)",
    )
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
        let mut info = StrategyInfo::new(
            "trimix",
            [
                RoleSpec::one("base").with_summary("the large model"),
                RoleSpec::one("expert").with_summary("the small model that was tuned"),
                RoleSpec::one("anti").with_alias("anti_expert").with_summary("the small model before tuning"),
            ],
        )
        .with_summary("mixes large, small tuned and small untuned logits with free weights")
        .with_equation("fused = alpha · base + beta · expert + (1 − alpha − beta) · anti")
        .with_reference("TriMix (arXiv 2604.18106)")
        .with_params_schema(schemars::schema_for!(TriMixParams).as_value().to_string())
        .with_laws([Law::Deterministic, Law::MaskPreserving])
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("kl_expert_anti", "nats");
        info = match params.calibration {
            TriMixCalibration::None => {
                info.with_laws([Law::Stateless, Law::ShiftInvariant, Law::VocabEquivariant]).with_laws([
                    Law::linear_in("base"),
                    Law::linear_in("expert"),
                    Law::linear_in("anti"),
                    Law::identity_at("alpha=1, beta=0"),
                ])
            }
            TriMixCalibration::Prompt => {
                info.with_prompt(PromptReading::Rows).with_trace("alpha", "1").with_trace("beta", "1")
            }
        };
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
        let [base, expert, anti] = ["base", "expert", "anti"].map(|role| roles::one(session, role, ROLES));
        let mixer = Mixer { params: self.params.clone(), base: base?, expert: expert?, anti: anti? };
        Ok(match self.params.calibration {
            TriMixCalibration::None => Box::new(mixer),
            TriMixCalibration::Prompt => {
                Box::new(PromptFitted { mixer, search: WeightSearch::default(), begun: false })
            }
        })
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        if self.params.calibration == TriMixCalibration::Prompt {
            let what = "/calibration: a graph does not see the prompt that its weights would be fitted to";
            return Err(Error::new(ErrorKind::Unsupported, what).with_help("give alpha and beta"));
        }
        let mut graph = FusionGraph::new();
        let base = graph.row(roles::one(session, "base", ROLES)?);
        let expert = graph.row(roles::one(session, "expert", ROLES)?);
        let anti = graph.row(roles::one(session, "anti", ROLES)?);
        let alpha = graph.parameter("alpha", self.params.alpha);
        let beta = graph.parameter("beta", self.params.beta);
        let one = graph.constant(1.0);
        let rest = graph.subtract(one, alpha);
        let terms = [(beta, graph.contrast(expert, anti)), (rest, graph.contrast(anti, base))];
        let fused = graph.linear_combination(base, None, &terms);
        graph.set_fused(fused);
        graph.add_divergences(fused, base);
        Ok(graph)
    }
}

/// Writes the mixture, as what it adds to the base: masked ids are then treated as everywhere.
pub(crate) fn mix(params: &TriMixParams, [base, expert, anti]: [&RoleRow<'_>; 3], out: &mut [f32]) {
    let contrasts = [Contrast::between(params.beta, expert, anti), Contrast::between(1.0 - params.alpha, anti, base)];
    linear_combination(base.logits(), 1.0, &contrasts, out);
}

#[derive(Clone)]
struct Mixer {
    params: TriMixParams,
    base: usize,
    expert: usize,
    anti: usize,
}

impl Mixer {
    fn rows<'a>(&self, step: &FusionStep<'a>) -> [RoleRow<'a>; 3] {
        [self.base, self.expert, self.anti].map(|row| step.rows()[row])
    }
}

impl Memoryless for Mixer {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let [base, expert, anti] = &self.rows(step);
        mix(&self.params, [base, expert, anti], out.logits);

        if out.trace.is_empty() {
            return Ok(());
        }
        let (_, [fused_base, base_fused]) = roles::distances(out.logits, base);
        let expert_anti = kl_divergence(expert.logits(), expert.log_normaliser, anti.logits(), anti.log_normaliser);
        roles::write_trace(out.trace, [fused_base, base_fused, expert_anti]);
        Ok(())
    }
}

/// The state with weights fitted to the prompt.
#[derive(Clone)]
struct PromptFitted {
    mixer: Mixer,
    search: WeightSearch,
    begun: bool,
}

fn unread() -> Error {
    Error::new(ErrorKind::Incompatible, "trimix: calibration prompt, and it was not told the prompt")
        .with_help("call read_prompt and begin before the first fuse, or give alpha and beta")
}

impl Memoryless for PromptFitted {
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        let [base, expert, anti] = self.mixer.rows(step);
        self.search.add(&PromptRow { base, expert, anti, next });
        Ok(())
    }

    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        if prompt.len() != step.rows().len() {
            return Err(unread());
        }
        if let Some(found) = std::mem::take(&mut self.search).best() {
            self.mixer.params = found.params;
        }
        self.begun = true;
        Ok(())
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        if !self.begun {
            return Err(unread());
        }
        Memoryless::fuse(&mut self.mixer, step, out)?;
        if let [_, _, _, alpha, beta] = out.trace {
            (*alpha, *beta) = (self.mixer.params.alpha, self.mixer.params.beta);
        }
        Ok(())
    }
}

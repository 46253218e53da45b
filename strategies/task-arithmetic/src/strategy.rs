use logitfuse_core::{FusionGraph, FusionState, FusionStrategy, Law, Result, RoleSpec, SessionInfo, StrategyInfo};

use crate::{Params, Strength, lower::lower, merge::Merge, state::State};

/// The strategy; see the [crate's page](crate) for what it computes.
#[derive(Clone, Debug)]
pub struct TaskArithmetic {
    params: Params,
    info: StrategyInfo,
}

impl TaskArithmetic {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) with the JSON pointer of the parameter that
    /// is out of range, or that belongs to the other strength.
    ///
    /// ```
    /// use logitfuse_task_arithmetic::{Params, TaskArithmetic};
    ///
    /// let error = TaskArithmetic::new(Params { bounds: Some([0.0, 1.0]), ..Params::default() }).unwrap_err();
    /// assert_eq!(error.to_string(), "/bounds: strength fixed has no such parameter");
    /// ```
    pub fn new(params: Params) -> Result<Self> {
        params.check()?;
        let mut info = StrategyInfo::new(
            "task-arithmetic",
            [
                RoleSpec::one("base").with_summary("the large model"),
                RoleSpec::many("expert").with_summary("small models, each tuned for a task"),
                RoleSpec::many("anti")
                    .with_alias("anti_expert")
                    .with_summary("the small model before tuning: one, or one for each expert"),
            ],
        )
        .with_summary("adds up what tuning for several tasks changed, and steers a large model by the sum")
        .with_equation(
            "merged = anti + Σ lambda[t] · (expert[t] − anti)\n\
             fused = base + alpha · (merged − anti), alpha fixed or solved as in dynamic-kl",
        )
        .with_reference(
            "task vectors: Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, arXiv:2212.04089; \
             combined with dynamic fusion: Fan et al., NeurIPS 2024, arXiv:2406.15480; here on logits",
        )
        .with_params_schema(schemars::schema_for!(Params).as_value().to_string())
        .with_laws([Law::Deterministic, Law::Stateless, Law::MaskPreserving])
        .with_trace("alpha", "1")
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("kl_expert_anti", "nats")
        .with_trace("kl_anti_expert", "nats")
        .with_trace("saturated", "1")
        .with_trace("inactive", "1");
        if params.strength == Strength::Fixed {
            info = info.with_laws([Law::ShiftInvariant, Law::VocabEquivariant, Law::identity_at("alpha=0")]);
        }
        Ok(Self { params, info })
    }

    /// A strategy with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig); the message starts with the JSON pointer of
    /// the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        Self::new(Params::from_json(params)?)
    }

    /// The parameters in use.
    pub fn params(&self) -> &Params {
        &self.params
    }
}

impl FusionStrategy for TaskArithmetic {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State::new(&self.params, Merge::new(&self.params, session)?)))
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        Ok(lower(&self.params, &Merge::new(&self.params, session)?))
    }
}

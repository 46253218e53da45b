use std::fmt;
use std::sync::Arc;

use logitfuse_core::{
    CalibrationRows, Error, ErrorKind, FusionGraph, FusionState, FusionStrategy, Law, PromptReading, Result, RoleSpec,
    SessionInfo, StrategyInfo, params::invalid,
};

use crate::{
    Evidence, Experts, Goal, Params, Selector,
    lower::lower,
    roles::Roles,
    select,
    select::{Fingerprints, MakeSelector},
    state::{Awaits, State},
};

/// The strategy; see the [crate's page](crate) for what it computes.
#[derive(Clone)]
pub struct DynamicKl {
    params: Arc<Params>,
    info: StrategyInfo,
    select: MakeSelector,
    /// Whether the parameters say all about the weights, so that no selector of a caller does.
    by_params: bool,
    awaits: Awaits,
}

impl DynamicKl {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) with the JSON pointer of the parameter that
    /// is out of range, or that the other parameters switch off.
    ///
    /// ```
    /// use logitfuse_dynamic_kl::{DynamicKl, Params};
    ///
    /// let error = DynamicKl::new(Params { budget_nats: Some(0.5), ..Params::default() }).unwrap_err();
    /// assert_eq!(error.to_string(), "/budget_nats: means something with objective budget only");
    /// ```
    pub fn new(params: Params) -> Result<Self> {
        params.check()?;
        let mut info = StrategyInfo::new(
            "dynamic-kl",
            [
                RoleSpec::one("base").with_summary("the large model"),
                RoleSpec::many("expert").with_summary("small models that were tuned"),
                RoleSpec::many("anti")
                    .with_alias("anti_expert")
                    .with_summary("the small model before tuning: one, or one for each expert"),
            ],
        )
        .with_summary("steers a large model by what tuning changed in small ones, at a strength solved at every token")
        .with_equation(
            "fused = base + alpha · (expert − anti), alpha in bounds minimising\n\
             (KL(fused‖base) − KL(expert‖anti))² + (KL(base‖fused) − KL(anti‖expert))²",
        )
        .with_reference(
            "Fan et al., On Giant's Shoulders: Effortless Weak to Strong by Dynamic Logits Fusion, NeurIPS 2024, \
             arXiv:2406.15480, Algorithm 1; pooling of several experts is ours",
        )
        .with_params_schema(schemars::schema_for!(Params).as_value().to_string())
        .with_laws([Law::Deterministic, Law::MaskPreserving])
        .with_trace("alpha", "1")
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("kl_expert_anti", "nats")
        .with_trace("kl_anti_expert", "nats")
        .with_trace("loss", loss_unit(params.objective))
        .with_trace("saturated", "1")
        .with_trace("inactive", "1")
        .with_trace("no_expert_weight", "1")
        .with_trace("top_expert", "1")
        .with_trace("top_weight", "1");
        if params.is_stateless() {
            info = info.with_laws([Law::Stateless]);
        }
        let mut awaits = Awaits::Nothing;
        if let Some(spec) = params.calibration() {
            if spec.required {
                info = with_choice(info);
            }
            info = info.with_calibration(spec);
        }
        if params.evidence().is_some_and(|evidence| evidence != Evidence::Generated) {
            info = info.with_prompt(PromptReading::LogProbs);
            awaits = Awaits::PromptScores;
        }
        let select = select::of(&params, None);
        Ok(Self { params: Arc::new(params), info, select, by_params: true, awaits })
    }

    /// A strategy with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig); the message starts with the JSON pointer of
    /// the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        Self::new(Params::from_json(params)?)
    }

    /// The same strategy with another rule for the weights of the pool: a function that makes the [`Selector`] of a
    /// sequence, given the number of experts. It takes the place of the parameter `weights`.
    #[must_use]
    pub fn with_selector(mut self, make: impl Fn(usize) -> Box<dyn Selector> + Send + Sync + 'static) -> Self {
        self.select = Arc::new(make);
        self.by_params = false;
        self.awaits = Awaits::Nothing;
        (self.info.prompt, self.info.calibration) = (PromptReading::End, None);
        if self.params.experts == Experts::Pool {
            self.info.laws.retain(|law| *law != Law::Stateless);
        }
        self
    }

    /// The parameters in use.
    pub fn params(&self) -> &Params {
        &self.params
    }
}

/// The columns of the weights `fingerprint`.
fn with_choice(info: StrategyInfo) -> StrategyInfo {
    info.with_trace("selected_expert", "1").with_trace("fingerprint_distance", "nats")
}

fn loss_unit(objective: Goal) -> &'static str {
    match objective {
        Goal::Sqrt | Goal::Budget => "nats",
        Goal::VarianceRatio => "1",
        _ => "nats²",
    }
}

impl fmt::Debug for DynamicKl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicKl").field("params", &self.params).finish_non_exhaustive()
    }
}

impl FusionStrategy for DynamicKl {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let roles = Roles::new(session)?;
        if self.info.calibration.as_ref().is_some_and(|spec| spec.required) {
            return Err(invalid(
                "/weights",
                "fingerprint, and there are no calibration prompts to know the experts by",
            )
            .with_help("name a JSONL file of unlabelled prompts in `calibration` of every expert's source"));
        }
        if let Some(weights) = self.params.fixed_weights.as_ref().filter(|weights| weights.len() != roles.experts()) {
            let what = format_args!("{} weights for {} experts", weights.len(), roles.experts());
            return Err(invalid("/fixed_weights", what).with_help("give one weight for each source of role expert"));
        }
        let selector = (self.select)(roles.experts());
        Ok(Box::new(State::new(Arc::clone(&self.params), Arc::new(roles), selector, self.awaits)))
    }

    fn calibrated(
        &self,
        session: &SessionInfo,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        let Some(spec) = &self.info.calibration else {
            return Err(invalid("/weights", "take no calibration prompts").with_help("choose weights fingerprint"));
        };
        let fingerprints = Fingerprints::fit(session, &Roles::new(session)?, rows_after)?;
        let mut info = if spec.required { self.info.clone() } else { with_choice(self.info.clone()) };
        info.calibration = None;
        Ok(Arc::new(Self {
            params: Arc::clone(&self.params),
            info,
            select: select::of(&self.params, Some(&Arc::new(fingerprints))),
            by_params: false,
            awaits: Awaits::Prompt,
        }))
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        if !self.by_params {
            let what = "/weights: they are chosen by code or by the prompt, and a graph sees the present position only";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_help("use weights uniform, and leave `calibration` out of the sources"));
        }
        lower(&self.params, session)
    }
}

use logitfuse_core::numerics::{Contrast, kl_both, kl_divergence, linear_combination, log_sum_exp, mask_implausible};
use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law, Memoryless, ProxyRows,
    Result, RoleSpec, SessionInfo, StrategyInfo,
};
use smallvec::SmallVec;

use crate::{Params, nucleus::mask_outside_nucleus};

/// The strategy; see the [crate's page](crate) for what it computes.
#[derive(Clone, Debug)]
pub struct StaticProxy {
    params: Params,
    info: StrategyInfo,
}

impl StaticProxy {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the JSON pointer of the parameter that is out of range.
    ///
    /// ```
    /// use logitfuse_static_proxy::{Params, StaticProxy};
    ///
    /// let error = StaticProxy::new(Params { alpha: f64::NAN, ..Params::default() }).unwrap_err();
    /// assert_eq!(error.to_string(), "/alpha: must be finite");
    /// ```
    pub fn new(params: Params) -> Result<Self> {
        params.check()?;
        let mut info = StrategyInfo::new(
            "static-proxy",
            [
                RoleSpec::one("base").with_summary("the large model"),
                RoleSpec::many("expert").with_summary("small models that were tuned"),
                RoleSpec::many("anti")
                    .with_alias("anti_expert")
                    .with_summary("the small model before tuning: one, or one for each expert"),
            ],
        )
        .with_summary("steers a large model by what tuning changed in small ones, at a fixed strength")
        .with_equation("fused = base_weight · base + alpha · Σ weights[t] · (expert[t] − anti[t])")
        .with_reference("DExperts (arXiv 2105.03023), emulated fine-tuning (2310.12962), proxy tuning (2401.08565)")
        .with_params_schema(schemars::schema_for!(Params).as_value().to_string())
        .with_laws([
            Law::Deterministic,
            Law::Stateless,
            Law::ShiftInvariant,
            Law::VocabEquivariant,
            Law::MaskPreserving,
        ])
        .with_laws([Law::linear_in("expert"), Law::linear_in("anti")])
        .with_trace("alpha", "1")
        .with_trace("kl_fused_base", "nats")
        .with_trace("kl_base_fused", "nats")
        .with_trace("kl_expert_anti", "nats");
        #[expect(clippy::float_cmp, reason = "the law is about bits, which any other weight changes")]
        if params.base_weight == 1.0 && params.plausibility.is_none() && params.top_p.is_none() {
            info = info.with_laws([Law::identity_at("alpha=0")]);
        }
        Ok(Self { params, info })
    }

    /// A strategy with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]; the message starts with the JSON pointer of the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        Self::new(Params::from_json(params)?)
    }

    /// The parameters in use.
    pub fn params(&self) -> &Params {
        &self.params
    }
}

impl FusionStrategy for StaticProxy {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Plan::new(&self.params, session)?))
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        let params = &self.params;
        if params.top_p.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "/top_p: a nucleus needs the vocabulary sorted, at every token",
            )
            .with_help("use plausibility, which needs its largest entry only"));
        }
        let Plan { base, terms, .. } = Plan::new(params, session)?;
        let mut graph = FusionGraph::new();
        let alpha = graph.parameter("alpha", params.alpha);
        let mut lowered = Vec::new();
        for (index, term) in terms.iter().enumerate() {
            let weight = params.weights.as_ref().map(|weights| {
                let weight = graph.parameter(format!("weights.{index}"), weights[index]);
                graph.multiply(alpha, weight)
            });
            let [expert, anti] = [term.expert, term.anti].map(|row| graph.row(row));
            lowered.push((weight.unwrap_or(alpha), graph.contrast(expert, anti)));
        }
        let base = graph.row(base);
        let base_weight = graph.parameter("base_weight", params.base_weight);
        let fused = graph.linear_combination(base, Some(base_weight), &lowered);
        let fused = graph.keep_plausible(base, params.plausibility, fused);
        graph.set_fused(fused);
        graph.add_trace("alpha", alpha);
        graph.add_divergences(fused, base);
        Ok(graph)
    }
}

/// The computation of a step, with the indices of its rows.
#[derive(Clone, Debug)]
struct Plan {
    alpha: f64,
    base_weight: f64,
    plausibility: Option<f64>,
    top_p: Option<f64>,
    base: usize,
    terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    weight: f64,
    expert: usize,
    anti: usize,
}

impl Plan {
    fn new(params: &Params, session: &SessionInfo) -> Result<Self> {
        let ProxyRows { base, pairs, .. } = ProxyRows::of(session, "static-proxy")?;
        let weights = params.weights.clone().unwrap_or_else(|| vec![1.0; pairs.len()]);
        if weights.len() != pairs.len() {
            let what = format!("/weights: {} weights for {} experts", weights.len(), pairs.len());
            return Err(Error::new(ErrorKind::InvalidConfig, what)
                .with_help("give one weight for each source of role expert, or leave weights out"));
        }
        let term = |((expert, anti), weight)| Term { weight: params.alpha * weight, expert, anti };
        let terms = pairs.into_iter().zip(weights).map(term).collect();
        let Params { alpha, base_weight, plausibility, top_p, .. } = *params;
        Ok(Self { alpha, base_weight, plausibility, top_p, base, terms })
    }
}

impl Memoryless for Plan {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let Plan { alpha, base_weight, plausibility, top_p, base, terms } = self;
        let base = step.row(*base);
        // Inline: a step allocates nothing for up to eight experts.
        let contrasts: SmallVec<[Contrast<'_>; 8]> = terms
            .iter()
            .map(|term| Contrast::between(term.weight, step.row(term.expert), step.row(term.anti)))
            .collect();
        linear_combination(base.logits(), *base_weight, &contrasts, out.logits);
        if let Some(plausibility) = plausibility {
            mask_implausible(base.logits(), *plausibility, out.logits);
        }
        if let Some(top_p) = top_p {
            mask_outside_nucleus(base, *top_p, out.logits);
        }

        if out.trace.is_empty() {
            return Ok(());
        }
        let fused_normaliser = log_sum_exp(out.logits);
        let (fused_base, base_fused) = kl_both(out.logits, fused_normaliser, base.logits(), base.log_normaliser);
        let expert_anti = |term: &Term| {
            let (expert, anti) = (step.row(term.expert), step.row(term.anti));
            kl_divergence(expert.logits(), expert.log_normaliser, anti.logits(), anti.log_normaliser)
        };
        let expert_anti = terms.iter().map(expert_anti).sum::<f64>() / terms.len() as f64;
        for (column, value) in out.trace.iter_mut().zip([*alpha, fused_base, base_fused, expert_anti]) {
            *column = value;
        }
        Ok(())
    }
}

use std::{fmt, sync::Arc};

use logitfuse_core::{
    CalibrationRows, Error, ErrorKind, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law,
    PromptScore, Result, RoleRow, SessionInfo, StrategyInfo, TokenId, numerics::argmax, params,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    signal::{disagree, max_prob, uncertainty},
    wrapped::{base_role, base_row, describe},
};

/// When a [`Gate`] opens: where one of the conditions that are given holds. One at least is needed.
///
/// ```
/// use std::sync::Arc;
///
/// use logitfuse_static_proxy::{Params, StaticProxy};
/// use logitfuse_wrappers::Gate;
/// use serde_json::json;
///
/// let inner = || Arc::new(StaticProxy::new(Params::default()).unwrap());
/// assert!(Gate::from_json(&json!({ "entropy_nats": 2.0, "disagreement": true }), inner()).is_ok());
/// let error = Gate::from_json(&json!({ "max_prob": 1.5 }), inner()).unwrap_err();
/// assert_eq!(error.to_string(), "/max_prob: must be above 0 and at most 1");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GateParams {
    /// Open where the base gives its top token less than this probability; 0.3 is usual.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub max_prob: Option<f64>,
    /// Open where the entropy of the base exceeds this.
    #[schemars(range(min = 0.0), extend("unit" = "nats"))]
    pub entropy_nats: Option<f64>,
    /// Open where another source's top token is not the base's. This needs every source at every token.
    pub disagreement: bool,
    /// Count, in the trace, how often a closed gate changed the greedy choice. This needs every source at every token.
    pub audit: bool,
}

impl GateParams {
    fn check(&self) -> Result<()> {
        if let Some(max_prob) = self.max_prob {
            params::fraction("/max_prob", max_prob)?;
        }
        if let Some(entropy) = self.entropy_nats {
            params::not_negative("/entropy_nats", entropy)?;
        }
        if self.max_prob.is_none() && self.entropy_nats.is_none() && !self.disagreement {
            return Err(params::invalid("", "a gate without a condition never opens"));
        }
        Ok(())
    }

    fn opens<'a>(&self, base: &RoleRow<'_>, others: impl IntoIterator<Item = RoleRow<'a>>) -> bool {
        self.max_prob.is_some_and(|least| max_prob(base) < least)
            || self.entropy_nats.is_some_and(|most| uncertainty(base) > most)
            || self.disagreement && others.into_iter().any(|other| disagree(base, &other))
    }
}

fn help(e: Error) -> Error {
    e.with_help(
        "a gate takes max_prob (above 0, at most 1), entropy_nats (0 or more), disagreement and audit (true, false)",
    )
}

/// A wrapper that lets a strategy act only where a condition holds; see the [crate's page](crate).
#[derive(Clone)]
pub struct Gate {
    params: GateParams,
    inner: Arc<dyn FusionStrategy>,
    info: StrategyInfo,
}

impl Gate {
    /// A gate around `inner`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) with the JSON pointer of the parameter that
    /// is out of range.
    pub fn new(params: GateParams, inner: Arc<dyn FusionStrategy>) -> Result<Self> {
        params.check().map_err(help)?;
        let mut info =
            describe(inner.info(), Self::about(), |law| matches!(law, Law::ArgmaxInvariant | Law::MonotoneKlIn(_)));
        if !params.disagreement && !params.audit {
            info.lead_role = base_role(&info).map(str::to_owned);
        }
        Ok(Self { params, inner, info })
    }

    /// A gate with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig); the message starts with the JSON pointer of
    /// the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value, inner: Arc<dyn FusionStrategy>) -> Result<Self> {
        Self::new(params::parse(params).map_err(help)?, inner)
    }

    /// The description of a gate, whatever it wraps.
    pub fn about() -> StrategyInfo {
        StrategyInfo::new("gate", [])
            .with_summary("acts only where the base is unsure or the sources disagree")
            .with_equation(
                "gated = fused where max p_base < max_prob, or H(base) > entropy_nats, or top tokens differ; else base",
            )
            .with_reference("collaborative decoding on demand: Nudging (arXiv 2410.09300), SAFE (2510.15346)")
            .with_params_schema(schemars::schema_for!(GateParams).as_value().to_string())
            .with_trace("gate_open", "1")
            .with_trace("gate_changed", "1")
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("params", &self.params).field("id", &self.info.id).finish_non_exhaustive()
    }
}

impl FusionStrategy for Gate {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State {
            params: self.params.clone(),
            inner: self.inner.start(session)?,
            inner_columns: self.inner.info().trace.len(),
            has_lead: self.info.lead_role.is_some(),
            inner_exits: self.inner.info().lead_role == self.info.lead_role,
            asked: false,
            base: base_row(&self.info, session)?,
            audited: vec![0.0; if self.params.audit { session.vocabulary.width() } else { 0 }],
        }))
    }

    fn calibrated(
        &self,
        session: &SessionInfo,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        Ok(Arc::new(Self::new(self.params.clone(), self.inner.calibrated(session, rows_after)?)?))
    }

    fn lower(&self, _session: &SessionInfo) -> Result<FusionGraph> {
        let what = "gate: it spares models from running, and a graph runs all of its models at every token";
        Err(Error::new(ErrorKind::Unsupported, what).with_help("leave `gate` out"))
    }
}

struct State {
    params: GateParams,
    inner: Box<dyn FusionState>,
    inner_columns: usize,
    /// Whether one source is the base, and its row enough to know whether the gate opens.
    has_lead: bool,
    inner_exits: bool,
    /// Whether the wrapped strategy was asked about the present position.
    asked: bool,
    base: usize,
    /// What an audit fuses into.
    audited: Vec<f32>,
}

impl State {
    /// Writes the base. If the wrapped strategy has fused other rows of this position, it forgets them.
    fn close(&mut self, base: &RoleRow<'_>, logits: &mut [f32]) -> Result<()> {
        logits.copy_from_slice(base.logits());
        if std::mem::take(&mut self.asked) { self.inner.rollback(0) } else { Ok(()) }
    }

    /// 1 if the wrapped strategy's top token is another than the base's. A fork of its state is asked, so that an audit changes
    /// nothing later.
    fn changed(&mut self, step: &FusionStep<'_>) -> Result<f64> {
        let mut fused = FusedRow { logits: &mut self.audited, trace: &mut [] };
        self.inner.fork()?.fuse(step, &mut fused)?;
        Ok(f64::from(u8::from(argmax(&self.audited) != argmax(step.row(self.base).logits()))))
    }
}

impl FusionState for State {
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        self.inner.read_prompt(step, next)
    }

    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        self.inner.begin(step, prompt)
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let base = step.row(self.base);
        let others = step.rows().iter().enumerate().filter(|(row, _)| *row != self.base).map(|(_, row)| *row);
        let open = self.params.opens(base, others);
        let (of_inner, own) = out.trace.split_at_mut(self.inner_columns.min(out.trace.len()));
        if open {
            self.asked = true;
            self.inner.fuse(step, &mut FusedRow { logits: &mut *out.logits, trace: of_inner })?;
        } else {
            self.close(base, out.logits)?;
        }
        if let [gate_open, gate_changed] = own {
            *gate_open = f64::from(u8::from(open));
            if self.params.audit {
                *gate_changed = if open { 0.0 } else { self.changed(step)? };
            }
        }
        Ok(())
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        if !self.has_lead {
            return Ok(false);
        }
        let open = self.params.opens(lead, []);
        let (of_inner, own) = out.trace.split_at_mut(self.inner_columns.min(out.trace.len()));
        if open {
            self.asked |= self.inner_exits;
            let mut out = FusedRow { logits: &mut *out.logits, trace: of_inner };
            if !self.inner_exits || !self.inner.early_exit(lead, committed, &mut out)? {
                return Ok(false);
            }
        } else {
            self.close(lead, out.logits)?;
        }
        if let [gate_open, _] = own {
            *gate_open = f64::from(u8::from(open));
        }
        Ok(true)
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.asked = false;
        self.inner.commit(tokens)
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.asked = false;
        self.inner.rollback(n)
    }

    fn fallbacks(&self) -> usize {
        self.inner.fallbacks()
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        let (params, audited) = (self.params.clone(), self.audited.clone());
        Ok(Box::new(Self { params, inner: self.inner.fork()?, audited, ..*self }))
    }
}

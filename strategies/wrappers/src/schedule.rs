use std::{fmt, sync::Arc};

use logitfuse_core::{
    CalibrationRows, Error, ErrorKind, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law,
    PromptScore, Result, RoleRow, SessionInfo, StrategyInfo, TokenId,
    numerics::{Contrast, linear_combination},
    params,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wrapped::{base_role, base_row, describe};

/// How the scale of a [`Schedule`] goes from `from` to `to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `to`, always.
    #[default]
    Constant,
    /// `from` for the first `steps` tokens, then `to`.
    Warmup,
    /// From `from` to `to` over the first `steps` tokens, along half a cosine, then `to`.
    Cosine,
    /// `from` for `steps` tokens, `to` for `steps` tokens, and so on in turns.
    Cycle,
}

/// How strong the wrapped strategy of a [`Schedule`] is, as the text grows.
///
/// ```
/// use logitfuse_wrappers::{ScheduleParams, Shape};
///
/// let cosine = ScheduleParams { shape: Shape::Cosine, steps: 4, ..ScheduleParams::default() };
/// let scales = [0, 2, 4, 9].map(|tokens| (cosine.at(tokens) * 100.0).round());
/// assert_eq!(scales, [0.0, 50.0, 100.0, 100.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleParams {
    /// How the scale changes with the number of tokens generated.
    pub shape: Shape,
    /// The first scale: 0 is the base alone, 1 the wrapped strategy as it is. `constant` has no use for it.
    #[schemars(range(min = 0.0))]
    pub from: f64,
    /// The last scale.
    #[schemars(range(min = 0.0))]
    pub to: f64,
    /// After how many tokens the scale has changed. `constant` has no use for it.
    #[schemars(range(min = 1), extend("unit" = "tokens"))]
    pub steps: usize,
}

impl Default for ScheduleParams {
    fn default() -> Self {
        Self { shape: Shape::Constant, from: 0.0, to: 1.0, steps: 100 }
    }
}

impl ScheduleParams {
    /// The scale after so many generated tokens.
    pub fn at(&self, tokens: usize) -> f64 {
        let Self { shape, from, to, steps } = *self;
        match shape {
            Shape::Constant => to,
            Shape::Warmup => {
                if tokens < steps {
                    from
                } else {
                    to
                }
            }
            Shape::Cycle => {
                if (tokens / steps).is_multiple_of(2) {
                    from
                } else {
                    to
                }
            }
            // The ends exactly: there the result has the bits of the base or of the wrapped strategy.
            Shape::Cosine if tokens == 0 => from,
            Shape::Cosine if tokens >= steps => to,
            Shape::Cosine => {
                let way = 0.5 - 0.5 * (std::f64::consts::PI * tokens as f64 / steps as f64).cos();
                from + (to - from) * way
            }
        }
    }

    fn check(&self) -> Result<()> {
        params::not_negative("/from", self.from)?;
        params::not_negative("/to", self.to)?;
        if self.steps == 0 {
            return Err(params::invalid("/steps", "must be 1 or more"));
        }
        Ok(())
    }

    /// Whether the scale is ever 0, so that the base is used alone.
    fn uses_base_alone(&self) -> bool {
        self.to <= 0.0 || self.from <= 0.0 && self.shape != Shape::Constant
    }
}

fn help(e: Error) -> Error {
    e.with_help(
        "a schedule takes shape (constant, warmup, cosine, cycle), from and to (0 or more) and steps (1 or more)",
    )
}

/// A wrapper that scales a strategy with the length of the text; see the [crate's page](crate).
#[derive(Clone)]
pub struct Schedule {
    params: ScheduleParams,
    inner: Arc<dyn FusionStrategy>,
    info: StrategyInfo,
}

impl Schedule {
    /// A schedule around `inner`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig) with the JSON pointer of the parameter that
    /// is out of range.
    pub fn new(params: ScheduleParams, inner: Arc<dyn FusionStrategy>) -> Result<Self> {
        params.check().map_err(help)?;
        let mut info = describe(inner.info(), Self::about(), |law| matches!(law, Law::LinearIn(_)));
        // A lead role makes all other sources wait for it, which only pays where they are idle now and then.
        info.lead_role = base_role(&info)
            .filter(|base| params.uses_base_alone() || inner.info().lead_role.as_deref() == Some(base))
            .map(str::to_owned);
        Ok(Self { params, inner, info })
    }

    /// A schedule with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](logitfuse_core::ErrorKind::InvalidConfig); the message starts with the JSON pointer of
    /// the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value, inner: Arc<dyn FusionStrategy>) -> Result<Self> {
        Self::new(params::parse(params).map_err(help)?, inner)
    }

    /// The description of a schedule, whatever it wraps.
    pub fn about() -> StrategyInfo {
        StrategyInfo::new("schedule", [])
            .with_summary("scales the strategy with the number of tokens generated")
            .with_equation("scheduled = base + s(tokens) · (fused − base)")
            .with_reference("warm-up and cycles of ThinkLogit (arXiv 2510.09354)")
            .with_params_schema(schemars::schema_for!(ScheduleParams).as_value().to_string())
            .with_trace("schedule", "1")
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").field("params", &self.params).field("id", &self.info.id).finish_non_exhaustive()
    }
}

impl FusionStrategy for Schedule {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State {
            params: self.params,
            inner: self.inner.start(session)?,
            inner_columns: self.inner.info().trace.len(),
            has_lead: self.info.lead_role.is_some(),
            inner_exits: self.inner.info().lead_role == self.info.lead_role,
            base: base_row(&self.info, session)?,
            fused: vec![0.0; session.vocabulary.width()],
        }))
    }

    fn calibrated(
        &self,
        session: &SessionInfo,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        Ok(Arc::new(Self::new(self.params, self.inner.calibrated(session, rows_after)?)?))
    }

    fn lower(&self, _session: &SessionInfo) -> Result<FusionGraph> {
        let what = "schedule: it counts the tokens of a text, and a graph sees the present position only";
        Err(Error::new(ErrorKind::Unsupported, what).with_help("leave `schedule` out"))
    }
}

struct State {
    params: ScheduleParams,
    inner: Box<dyn FusionState>,
    inner_columns: usize,
    /// Whether one source is the base, whose row may be enough.
    has_lead: bool,
    inner_exits: bool,
    base: usize,
    /// What the wrapped strategy wrote.
    fused: Vec<f32>,
}

/// Fills a row with the wrapped strategy, from all rows or from the lead row alone, which may not be enough.
type Fill<'f> = &'f mut dyn FnMut(&mut dyn FusionState, &mut FusedRow<'_>) -> Result<bool>;

impl State {
    fn scale(&mut self, base: &RoleRow<'_>, tokens: usize, out: &mut FusedRow<'_>, fill: Fill<'_>) -> Result<bool> {
        let scale = self.params.at(tokens);
        let (trace, own) = out.trace.split_at_mut(self.inner_columns.min(out.trace.len()));
        let inner = self.inner.as_mut();
        #[expect(clippy::float_cmp, reason = "the two scales at which bits are promised")]
        let done = if scale == 0.0 {
            out.logits.copy_from_slice(base.logits());
            true
        } else if scale == 1.0 {
            fill(inner, &mut FusedRow { logits: &mut *out.logits, trace })?
        } else {
            let done = fill(inner, &mut FusedRow { logits: &mut self.fused, trace })?;
            if done {
                blend(base.logits(), &self.fused, scale, out.logits);
            }
            done
        };
        if let ([column], true) = (own, done) {
            *column = scale;
        }
        Ok(done)
    }
}

/// Writes `base + scale · (fused − base)`; what either masks is masked.
fn blend(base: &[f32], fused: &[f32], scale: f64, out: &mut [f32]) {
    let contrast = Contrast { weight: scale, towards: fused, away: base, where_masked: 0.0 };
    linear_combination(base, 1.0, &[contrast], out);
    for (out, &fused) in out.iter_mut().zip(fused) {
        *out = if fused == f32::NEG_INFINITY { fused } else { *out };
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
        let base = *step.row(self.base);
        self.scale(&base, step.committed.len(), out, &mut |inner, out| inner.fuse(step, out).map(|()| true)).map(drop)
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        if !self.has_lead {
            return Ok(false);
        }
        let may_exit = self.inner_exits;
        self.scale(
            lead,
            committed.len(),
            out,
            &mut |inner, out| Ok(may_exit && inner.early_exit(lead, committed, out)?),
        )
    }

    fn commit(&mut self, tokens: &[TokenId]) -> Result<()> {
        self.inner.commit(tokens)
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.inner.rollback(n)
    }

    fn fallbacks(&self) -> usize {
        self.inner.fallbacks()
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(Self { inner: self.inner.fork()?, fused: self.fused.clone(), ..*self }))
    }
}

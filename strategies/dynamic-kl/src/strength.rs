//! The strength for one expert: the problem that every mode reduces to.

use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{Contrast, linear_combination, log_sum_exp};
use logitfuse_numerics::{Bounds, Grid, Objective, Solution, Targets, TiltFamily, exponential_tilt_in_place};

use crate::{Params, Solver};

/// The limits that earlier tokens set for a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Nats that KL(fused‖base) may take, for objective budget.
    pub(crate) nats: f64,
    /// The strength of the last token, NaN if there is none.
    pub(crate) previous: f64,
    /// Its share in this token's.
    pub(crate) ema: f64,
}

impl Limits {
    pub(crate) fn smooths(&self) -> bool {
        self.ema > 0.0 && !self.previous.is_nan()
    }

    pub(crate) fn unsmoothed(self) -> Self {
        Self { ema: 0.0, ..self }
    }
}

/// The strength of a step and the divergences that it causes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strength {
    pub(crate) alpha: f64,
    pub(crate) kl_fused_base: f64,
    pub(crate) kl_base_fused: f64,
    /// Whether a bound stopped the solver.
    pub(crate) saturated: bool,
    /// Whether expert and anti agree, so that no strength changes anything.
    pub(crate) inactive: bool,
}

impl Strength {
    pub(crate) const NONE: Self =
        Self { alpha: 0.0, kl_fused_base: 0.0, kl_base_fused: 0.0, saturated: false, inactive: true };
}

/// Solves for the strength of one expert at a time. Its buffers are reused between steps.
#[derive(Debug)]
pub(crate) struct StrengthSolver {
    /// `None` is a budget.
    objective: Option<Objective>,
    bounds: Bounds,
    grid: Option<Grid>,
    temperature: f64,
    family: TiltFamily,
    /// Base, expert and anti at the temperature of the divergences.
    tempered: [Vec<f32>; 3],
}

impl StrengthSolver {
    pub(crate) fn new(params: &Params) -> Self {
        let [low, high] = params.bounds;
        let step = params.grid_step.unwrap_or(0.1);
        Self {
            objective: params.objective.objective(),
            bounds: Bounds { low, high },
            grid: (params.solver == Solver::Grid).then_some(Grid { low, high, step }),
            temperature: params.kl_temperature,
            family: TiltFamily::new(high),
            tempered: Default::default(),
        }
    }

    /// Sets the base and the direction for [`solve`](Self::solve), and writes the direction to `direction`. Returns the
    /// divergences of the expert, which are the targets.
    pub(crate) fn set_direction(
        &mut self,
        base: &RoleRow<'_>,
        expert: &RoleRow<'_>,
        anti: &RoleRow<'_>,
        direction: &mut [f32],
    ) -> Targets {
        let [tempered_base, tempered_expert, tempered_anti] = &mut self.tempered;
        let base = tempered(base, self.temperature, tempered_base);
        let expert = tempered(expert, self.temperature, tempered_expert);
        let anti = tempered(anti, self.temperature, tempered_anti);
        let targets = Targets::with_direction(&expert, &anti, direction);
        self.family.summarise(base.logits(), base.log_normaliser, direction);
        targets
    }

    /// Turns the direction last set into the fused row.
    pub(crate) fn fuse(
        &self,
        base: &RoleRow<'_>,
        expert: &RoleRow<'_>,
        anti: &RoleRow<'_>,
        alpha: f64,
        out: &mut [f32],
    ) {
        if alpha == 0.0 {
            // The base keeps its bits, its negative zeros too.
            out.copy_from_slice(base.logits());
        } else if self.is_tempered() {
            linear_combination(base.logits(), 1.0, &[Contrast::between(alpha, expert, anti)], out);
        } else {
            exponential_tilt_in_place(base.logits(), out, alpha);
        }
    }

    /// Whether divergences have a temperature of their own.
    #[expect(clippy::float_cmp, reason = "the one temperature that changes nothing")]
    fn is_tempered(&self) -> bool {
        self.temperature != 1.0
    }

    /// The divergences alone.
    pub(crate) fn targets(&mut self, expert: &RoleRow<'_>, anti: &RoleRow<'_>) -> Targets {
        let [_, tempered_expert, tempered_anti] = &mut self.tempered;
        let expert = tempered(expert, self.temperature, tempered_expert);
        let anti = tempered(anti, self.temperature, tempered_anti);
        Targets::between(&expert, &anti)
    }

    /// The strength that meets these targets, or stays within the limits, along the direction last set.
    pub(crate) fn solve(&mut self, targets: &Targets, limits: Limits) -> Strength {
        let solution = match (self.objective, self.grid) {
            // Not left to the solver: where the direction moves no probability, any strength is free.
            (None, _) if limits.nats <= 0.0 => return Strength { inactive: false, ..Strength::NONE },
            (None, _) => self.family.budget(limits.nats, self.bounds),
            (Some(objective), None) => self.family.solve(objective, targets, self.bounds),
            (Some(objective), Some(grid)) => self.family.solve_grid(objective, targets, grid),
        };
        let Solution { alpha, kl_tilted_base, kl_base_tilted, saturated, inactive, .. } = solution;
        if inactive {
            return Strength::NONE;
        }
        let solved =
            Strength { alpha, kl_fused_base: kl_tilted_base, kl_base_fused: kl_base_tilted, saturated, inactive };
        if !limits.smooths() {
            return solved;
        }
        let smoothed = limits.ema * limits.previous + (1.0 - limits.ema) * alpha;
        // A budget is kept, whatever was spent before.
        let alpha = if self.objective.is_none() { smoothed.min(alpha) } else { smoothed };
        let point = self.family.at(alpha);
        Strength { alpha, kl_fused_base: point.kl_tilted_base, kl_base_fused: point.kl_base_tilted, ..solved }
    }

    /// The loss of a strength under the objective; NaN for objectives that have no such measure.
    pub(crate) fn loss(&self, strength: &Strength, targets: &Targets) -> f64 {
        match self.objective {
            None | Some(Objective::VarianceRatio) => f64::NAN,
            Some(objective) => objective.loss(strength.kl_fused_base, strength.kl_base_fused, targets),
        }
    }

    /// The targets whose loss is, but for a constant, the mean of the losses against each of these: the mean in the
    /// space where the objective takes its differences.
    pub(crate) fn centre(&self, targets: &[Targets]) -> Targets {
        let count = targets.len() as f64;
        let mean = |of: fn(&Targets) -> f64| targets.iter().map(of).sum::<f64>() / count;
        let squared = |root: f64| root * root;
        match self.objective {
            Some(Objective::Sqrt) => Targets {
                forward: squared(mean(|t| t.forward.sqrt())),
                reverse: squared(mean(|t| t.reverse.sqrt())),
                anti_variance: mean(|t| t.anti_variance),
            },
            _ => Targets {
                forward: mean(|t| t.forward),
                reverse: mean(|t| t.reverse),
                anti_variance: mean(|t| t.anti_variance),
            },
        }
    }
}

/// The row with its logits divided by a temperature; the row itself at temperature 1.
fn tempered<'a>(row: &RoleRow<'a>, temperature: f64, out: &'a mut Vec<f32>) -> RoleRow<'a> {
    #[expect(clippy::float_cmp, reason = "the one temperature that changes nothing")]
    if temperature == 1.0 {
        return *row;
    }
    out.resize(row.logits().len(), 0.0);
    linear_combination(row.logits(), 1.0 / temperature, &[], out);
    RoleRow::new(out, log_sum_exp(out), row.sequence_log_prob)
}
